"""Rules that hold for every route there is, asked of the live table: who comes in, by which method, to which files."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from guarded import raw, said
from hostile_paths import SENDABLE
from limner.core import server
from yarl import URL

TOKEN = "the-token-of-the-tests"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
ENDLESS = ("/limner/events", "/ws")  # their answers do not end
SECRET = b"what nobody may see"


def table(client):
    """The methods of every route, by its pattern, as `{name}`."""
    found: dict[str, set[str]] = {}
    for route in client.app.router.routes():
        found.setdefault(route.resource.canonical, set()).add(route.method)
    return found


def filled(pattern, value="x"):
    """An address that the pattern fits."""
    return re.sub(r"\{[^}]+\}", value, pattern.replace("{path_index}", "0").replace("{number}", "1"))


def files(folder):
    """All files below a folder, but for what the server itself keeps."""
    own = re.compile(r"limner\.db|events\.db|cache/")
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not own.search(name)}


def test_there_are_routes(serving):
    async def ask():
        async with serving() as client:
            return table(client)

    found = asyncio.run(ask())
    assert {"/", "/prompt", "/api/prompt", "/ws", "/view", "/limner/jobs/{id}", "/userdata/{file}"} <= set(found)
    assert len(found) > 80


@pytest.mark.parametrize("method", METHODS)
def test_nobody_comes_in_without_the_token_at_any_route(serving, tmp_path, method):
    async def ask():
        async with serving(token=TOKEN) as client:
            wrong = [{}, {"Authorization": "Bearer wrong"}, {"Cookie": f"limner-{client.port}={TOKEN}"}]
            return [
                (pattern, (await said(client, method, filled(pattern), headers=head)).status)
                for pattern in table(client)
                for head in wrong
            ]

    before = files(tmp_path)
    assert [row for row in asyncio.run(ask()) if row[1] != 401] == []
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "head",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example:8188"},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=lambda head: "-".join(next(iter(head.items()))),
)
@pytest.mark.parametrize("method", METHODS)
def test_no_page_of_somebody_else_reaches_any_route(serving, tmp_path, method, head):
    async def ask():
        async with serving(token=TOKEN) as client:
            return [
                (pattern, (await said(client, method, filled(pattern), headers=RIGHT | head)).status)
                for pattern in table(client)
            ]

    before = files(tmp_path)
    assert [row for row in asyncio.run(ask()) if row[1] != 403] == []
    assert files(tmp_path) == before


def test_a_method_that_a_route_does_not_have_is_refused_and_does_nothing(serving, tmp_path):
    async def ask():
        async with serving(token=TOKEN) as client:
            found = table(client)
            return [
                (pattern, method, reply.status, "allow" in reply.headers, reply.body[:1])
                for pattern, methods in found.items()
                for method in METHODS
                if method not in methods and "/versions" not in pattern  # which may be a stored file's name, too
                for reply in [await said(client, method, filled(pattern), headers=RIGHT)]
            ]

    before = files(tmp_path)
    replies = asyncio.run(ask())
    assert len(replies) > 300
    wrong = [row for row in replies if row[2:4] != (405, True)]
    assert wrong == []
    assert all(row[4] == b"{" for row in replies if row[1] != "HEAD")
    assert files(tmp_path) == before


def test_every_answer_of_every_route_is_told_not_to_be_sniffed_or_framed(serving):
    async def ask():
        async with serving() as client:
            return [
                (pattern, (await said(client, "GET", filled(pattern))).headers)
                for pattern, methods in table(client).items()
                if "GET" in methods and not pattern.endswith(ENDLESS)
            ]

    for pattern, headers in asyncio.run(ask()):
        assert headers["x-content-type-options"] == "nosniff", pattern
        assert "frame-ancestors 'none'" in headers["content-security-policy"], pattern
        assert headers["referrer-policy"] == "no-referrer", pattern


BODIES = [
    b"", b"{", b"[]", b"null", b'"x"', b"7", b"\xff", b"\xef\xbb\xbf{}", '{"a": 1}'.encode("utf-16"), b'{"a": NaN}',
    b'{"a": 1, "a": 2}', b"[" * 100_000, b'{"x": ' * 100_000, b'{"x": "\\ud800"}', b'{"x": ' + b"9" * 5000 + b"}",
    b'{"prompt": 7, "graph": 7, "document": 7, "delete": 7, "clear": 7}', b'{"prompt": {"1": 7}}',
    b'{"id": [], "priority": {}}',
    b'{"prompt": {"1": {"class_type": [], "inputs": {}}}}', b'{"prompt": {"1": {"class_type": "Text", "inputs": 7}}}',
    b'{"prompt_id": {}, "prompt": []}', b'{"client_id": 7, "prompt": {}}', b'{"paused": "x"}', b'{"username": 7}',
    b'{"clientId": 7, "enabled": 7}', b'{"unload_models": "x"}', b'{"priority": 1e308}', b'{"before": 7}',
]  # fmt: skip


def test_no_body_of_any_kind_makes_any_route_fail(serving, tmp_path):
    async def ask():
        async with serving() as client:
            return [
                (pattern, method, body[:60], reply.status, reply.body)
                for pattern, methods in table(client).items()
                for method in methods & {"POST", "PUT", "PATCH", "DELETE"}
                if not pattern.startswith("/api/")
                for body in BODIES
                for reply in [await said(client, method, filled(pattern), data=body)]
            ]

    replies = asyncio.run(ask())
    assert [row[:4] for row in replies if row[3] >= 500] == []
    for *_, status, body in replies:
        assert status < 400 or "error" in json.loads(body)
        assert b"Traceback" not in body
        assert str(tmp_path).encode() not in body


def planted(base):
    """Secrets wherever a name that leads out might end."""
    for folder in ("", "models", "user", "user/default/..", "output-evil", "workflows/..", "models/loras/.."):
        for name in ("a", "b", "a.png", "a.json", "a.safetensors", "secret.json"):
            path = base / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(SECRET)
            (base.parent / name).write_bytes(SECRET)


@pytest.mark.parametrize("part", range(6))
def test_no_name_in_any_address_leads_out_of_its_folder(serving, tmp_path, part):
    planted(tmp_path)
    document = json.dumps({"limner": 1, "graph": {}})

    async def ask():
        async with serving() as client:
            for pattern, methods in table(client).items():
                if "{" not in pattern or pattern.startswith("/api/"):
                    continue
                for name in SENDABLE[part::6]:
                    for spelled in {quote(name, safe=""), quote(name, safe="/"), quote(f"{name}/a.png", safe="")}:
                        for method in methods:
                            url = URL(f"http://{client.host}:{client.port}{filled(pattern, spelled)}", encoded=True)
                            async with client.session.request(
                                method, url, data=document if method in ("PUT", "POST") else None
                            ) as answer:
                                yield method, str(url), answer.status, await answer.read()

    async def all_of():
        return [row async for row in ask()]

    before = files(tmp_path)
    for method, url, status, body in asyncio.run(all_of()):
        assert status < 500, (method, url, body)
        assert SECRET not in body, url
        assert b"root:x" not in body, url
        assert str(tmp_path).encode() not in body, (url, body)
    after = files(tmp_path)
    assert {name: content for name, content in after.items() if name in before} == before
    inside = ("user/", "workflows/", "input/", "output/", "temp/")
    assert [name for name in after if name not in before and not name.startswith(inside)] == []


TELLING = ("/internal/folder_paths", "/experiment/models", "/limner/packs")  # whose answers are paths
QUERIES = ("filename", "subfolder", "type", "dir", "path", "prefix", "folder", "id", "name", "job", "since", "cursor")


def test_no_name_in_any_query_leads_out_of_its_folder(serving, tmp_path):
    planted(tmp_path)

    async def ask():
        async with serving() as client:
            for pattern, methods in table(client).items():
                if "GET" not in methods or pattern.startswith("/api/") or pattern.endswith(ENDLESS):
                    continue
                for name in (name for name in SENDABLE if len(name) < 100):
                    for query in (
                        dict.fromkeys(QUERIES, name),
                        {"filename": "a.png", "subfolder": name},
                        {"filename": name},
                    ):
                        reply = await said(client, "GET", filled(pattern), params=query)
                        yield pattern, name, reply

    async def all_of():
        return [row async for row in ask()]

    for pattern, name, reply in asyncio.run(all_of()):
        assert reply.status < 500, (pattern, name, reply.body)
        assert SECRET not in reply.body, (pattern, name)
        assert str(tmp_path).encode() not in reply.body or pattern in TELLING


def test_odd_first_lines_harm_nobody(serving):
    lines = [
        b"GET",
        b"GET /",
        b"GET / HTTP/1.1\r\n\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET http:// HTTP/1.1",
        b"\0" * 100,
    ]
    lines += [b"GET /" + b"x" * 20_000 + b" HTTP/1.1", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1000, b"PRI * HTTP/2.0"]

    async def ask():
        async with serving() as client:
            for line in lines:
                reader, writer = await asyncio.open_connection(client.host, client.port)
                writer.write(line + b"\r\n\r\n")
                writer.write_eof()
                seen = await reader.read(20_000)
                assert b"Traceback" not in seen
                assert b"site-packages" not in seen
                writer.close()
            return await raw(client, f"GET /queue HTTP/1.1\r\nHost: localhost:{client.port}\r\n\r\n")

    assert asyncio.run(ask()).status == 200


def test_handlers_read_bodies_in_one_way_only():
    """Which caps them, waits only so long, and reads JSON strictly."""
    shortcut = {"json", "text", "post", "read", "multipart", "content"}
    allowed = {"bodies.py": {"content"}, "uploads.py": {"multipart"}}
    for path in Path(server.__file__).parent.glob("*.py"):
        used = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "request"
        }
        assert used & shortcut <= allowed.get(path.name, set()), path.name
