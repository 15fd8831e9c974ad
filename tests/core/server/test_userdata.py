"""/userdata: what an editor keeps of its user stays in one folder, whole, under any name that is one."""

import asyncio
import os
from urllib.parse import quote

import pytest
from guarded import guarded, raw, said
from hostile_paths import HARMLESS, SENDABLE
from limner.core.server import userdata


def asked(base, *requests, **settings):
    """What the server says to (method, path, options), one after the other."""

    async def ask():
        async with guarded(base, userdata.routes, **settings) as client:
            return [await said(client, method, path, **(more[0] if more else {})) for method, path, *more in requests]

    return asyncio.run(ask())


def user(base):
    return base / "user" / "default"


def put(base, **files):
    for name, content in files.items():
        path = user(base) / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


# -------------------------------------------------------------------------------------------------- kept and given back


def test_what_is_kept_is_given_back(tmp_path):
    kept, given, info = asked(
        tmp_path,
        ("POST", "/userdata/workflows%2Fa.json", {"data": b'{"nodes": []}'}),
        ("GET", "/userdata/workflows%2Fa.json"),
        ("POST", "/userdata/workflows%2Fb.json?full_info=true", {"data": b"x"}),
    )
    assert (kept.status, kept.json) == (200, "workflows/a.json")
    assert (given.status, given.body, given.headers["content-type"]) == (200, b'{"nodes": []}', "application/json")
    assert set(info.json) == {"path", "size", "modified"}
    assert (info.json["path"], info.json["size"]) == ("workflows/b.json", 1)
    modified = (user(tmp_path) / "workflows" / "b.json").stat().st_mtime
    assert info.json["modified"] == int(modified * 1000)


def test_a_file_is_replaced_unless_that_is_forbidden(tmp_path):
    replies = asked(
        tmp_path,
        ("POST", "/userdata/a.json", {"data": b"1"}),
        ("POST", "/userdata/a.json", {"data": b"2"}),
        ("POST", "/userdata/a.json?overwrite=true", {"data": b"3"}),
        ("POST", "/userdata/a.json?overwrite=false", {"data": b"4"}),
        ("POST", "/userdata/b.json?overwrite=false", {"data": b"5"}),
    )
    assert [reply.status for reply in replies] == [200, 200, 200, 409, 200]
    assert [(user(tmp_path) / name).read_bytes() for name in ("a.json", "b.json")] == [b"3", b"5"]


def test_of_many_that_want_a_new_name_one_gets_it(tmp_path):
    async def ask():
        async with guarded(tmp_path, userdata.routes) as client:
            post = (said(client, "POST", "/userdata/a?overwrite=false", data=str(k)) for k in range(12))
            return [reply.status for reply in await asyncio.gather(*post)]

    assert sorted(asyncio.run(ask())) == [200] + [409] * 11
    assert [path.name for path in user(tmp_path).iterdir()] == ["a"]


def test_files_are_moved_and_removed(tmp_path):
    put(tmp_path, a_json="1", b_json="2")
    replies = asked(
        tmp_path,
        ("POST", "/userdata/a.json/move/sub%2Fc.json"),
        ("POST", "/userdata/gone.json/move/d.json"),
        ("POST", "/userdata/sub%2Fc.json/move/b.json?overwrite=false"),
        ("POST", "/userdata/sub%2Fc.json/move/b.json?full_info=true"),
        ("DELETE", "/userdata/b.json"),
        ("DELETE", "/userdata/b.json"),
        ("DELETE", "/userdata/sub"),
    )
    assert [reply.status for reply in replies] == [200, 404, 409, 200, 204, 404, 404]
    assert replies[0].json == "sub/c.json"
    assert (replies[3].json["path"], replies[3].json["size"]) == ("b.json", 1)
    assert [path for path in user(tmp_path).rglob("*") if path.is_file()] == []


# --------------------------------------------------------------------------------------------------------------- lists


@pytest.fixture
def full(tmp_path):
    put(tmp_path, workflows__a_json="1", workflows__sub__b_json="22", comfy_json="", workflows__x="333")
    (user(tmp_path) / "workflows" / ".hidden").write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("dir=workflows", ["a.json", "x"]),
        ("dir=workflows&recurse=true", ["a.json", "sub/b.json", "x"]),
        ("dir=workflows&recurse=TRUE", ["a.json", "sub/b.json", "x"]),
        ("dir=workflows%2Fsub", ["b.json"]),
        ("dir=workflows&recurse=true&split=true", [["a.json"] * 2, ["sub/b.json", "sub", "b.json"], ["x"] * 2]),
    ],
)
def test_the_files_of_a_folder_are_listed(full, query, found):
    (reply,) = asked(full, ("GET", f"/userdata?{query}"))
    assert (reply.status, reply.json) == (200, found)


def test_files_are_listed_with_size_and_time(full):
    (reply,) = asked(full, ("GET", "/userdata?dir=workflows&recurse=true&full_info=true&split=true"))
    assert [(row["path"], row["size"]) for row in reply.json] == [("a.json", 1), ("sub/b.json", 2), ("x", 3)]
    assert all(set(row) == {"path", "size", "modified"} and row["modified"] > 10**12 for row in reply.json)


@pytest.mark.parametrize(("query", "status"), [("", 400), ("?dir=", 400), ("?dir=gone", 404), ("?dir=comfy.json", 404)])
def test_a_list_of_nothing_is_said(full, query, status):
    (reply,) = asked(full, ("GET", f"/userdata{query}"))
    assert reply.status == status


def test_all_that_is_there_is_told_folders_first(full):
    (reply,) = asked(full, ("GET", "/v2/userdata"))
    rows = [(row["type"], row["path"]) for row in reply.json]
    assert rows == [
        ("directory", "workflows/sub"),
        ("directory", "workflows"),
        ("file", "workflows/.hidden"),
        ("file", "workflows/a.json"),
        ("file", "workflows/sub/b.json"),
        ("file", "comfy.json"),
        ("file", "workflows/x"),
    ]
    assert set(reply.json[0]) == {"name", "path", "type"}
    assert set(reply.json[-1]) == {"name", "path", "type", "size", "modified"}


def test_all_that_is_in_a_folder_is_told_by_its_whole_path(full):
    replies = asked(full, *(("GET", f"/v2/userdata?path={p}") for p in ("workflows%2Fsub", "gone", "comfy.json", "..")))
    assert [reply.status for reply in replies] == [200, 404, 400, 403]
    assert [row["path"] for row in replies[0].json] == ["workflows/sub/b.json"]


def test_a_user_who_has_nothing_yet_has_nothing(tmp_path):
    (reply,) = asked(tmp_path, ("GET", "/v2/userdata"))
    assert (reply.status, reply.json) == (200, [])
    assert not (tmp_path / "user").exists()


# ------------------------------------------------------------------------------------------------------ one folder only


@pytest.mark.parametrize("name", [name for name in SENDABLE if name not in ("", "x")], ids=ascii)
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    base = tmp_path / "base"
    put(base, a_json="mine")
    (tmp_path / "secret.json").write_text("secret")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    there = quote(name, safe="")

    async def ask():
        async with guarded(base, userdata.routes) as client:
            lines = [
                f"GET /userdata/{there}",
                f"POST /userdata/{there}?overwrite=false",
                f"DELETE /userdata/{there}",
                f"POST /userdata/a.json/move/{there}",
                f"POST /userdata/{there}/move/b.json",
                f"GET /userdata?dir={there}",
                f"GET /v2/userdata?path={there}",
            ]
            return [
                await raw(client, f"{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n") for line in lines
            ]

    for reply in asyncio.run(ask()):
        assert reply.status in (400, 403, 404, 405)
        assert b"secret" not in reply.body
        assert str(tmp_path).encode() not in reply.body
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", HARMLESS, ids=ascii)
def test_an_odd_name_is_a_name(tmp_path, name):
    there = f"/userdata/{quote(name, safe='')}"

    async def ask():
        async with guarded(tmp_path, userdata.routes) as client:
            lines = [f"POST {there}", f"GET {there}", f"POST {there}/move/b.txt", "GET /userdata/b.txt"]
            head = "HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
            return [await raw(client, f"{line} {head}") for line in lines]

    kept, given, moved, at_last = asyncio.run(ask())
    assert [kept.status, given.status, moved.status, at_last.status] == [200] * 4
    assert kept.json == name
    assert given.body == at_last.body == b"x"


def test_links_lead_nowhere_else(tmp_path):
    base, outside = tmp_path / "base", tmp_path / "outside"
    outside.mkdir()
    (outside / "a.json").write_text("secret")
    put(base, b_json="mine")
    (user(base) / "folder").symlink_to(outside)
    (user(base) / "link.json").symlink_to(outside / "a.json")
    os.mkfifo(user(base) / "pipe.json")
    replies = asked(
        base,
        ("GET", "/userdata/folder%2Fa.json"),
        ("GET", "/userdata/link.json"),
        ("GET", "/userdata/pipe.json"),
        ("POST", "/userdata/folder%2Fc.json", {"data": b"x"}),
        ("POST", "/userdata/link.json", {"data": b"x"}),
        ("POST", "/userdata/b.json/move/folder%2Fb.json"),
        ("DELETE", "/userdata/folder%2Fa.json"),
        ("GET", "/userdata?dir=folder"),
    )
    assert {reply.status for reply in replies} <= {403, 404}
    assert all(b"secret" not in reply.body for reply in replies)
    assert [(p.name, p.read_text()) for p in outside.iterdir()] == [("a.json", "secret")]
    (user(base) / "sub").mkdir()
    (user(base) / "sub" / "link.json").symlink_to(outside / "a.json")
    tree, listed = asked(base, ("GET", "/v2/userdata"), ("GET", "/userdata?dir=sub&full_info=true"))
    assert "link.json" not in {row["name"] for row in tree.json}
    assert listed.json == []


@pytest.mark.parametrize(
    ("name", "kind", "place"),
    [
        ("a.json", "application/json", "inline"),
        ("user.css", "text/css; charset=utf-8", "inline"),
        ("a.png", "image/png", "inline"),
        ("a.html", "application/octet-stream", "attachment"),
        ("a.svg", "application/octet-stream", "attachment"),
        ("a.js", "application/octet-stream", "attachment"),
    ],
)
def test_nothing_that_is_kept_runs(tmp_path, name, kind, place):
    kept, given = asked(
        tmp_path, ("POST", f"/userdata/{name}", {"data": b"<script>alert(1)</script>"}), ("GET", f"/userdata/{name}")
    )
    assert kept.status == 200
    assert given.headers["content-type"] == kind
    assert given.headers["content-disposition"] == f'{place}; filename="{name}"'
    assert given.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert given.headers["x-content-type-options"] == "nosniff"


def test_what_is_too_large_is_not_kept(tmp_path):
    (reply,) = asked(tmp_path, ("POST", "/userdata/a", {"data": b"x" * 2000}), max_upload_size=1000)
    assert reply.status == 413
    assert not user(tmp_path).exists()


def test_a_name_whose_folder_is_a_file_is_refused(tmp_path):
    put(tmp_path, a="x")
    replies = asked(tmp_path, ("POST", "/userdata/a%2Fb", {"data": b"x"}), ("POST", "/userdata/a/move/a%2Fb"))
    assert [reply.status for reply in replies] == [507, 507]
    assert (user(tmp_path) / "a").read_text() == "x"
