"""The page: ours or another front end's, its files, and what it may run."""

import asyncio

import pytest
from guarded import guarded, raw, said
from hostile_paths import SENDABLE
from limner.core.server import page


def asked(base, *paths, method="GET", **settings):
    async def ask():
        async with guarded(base, page.routes, **settings) as client:
            return [await said(client, method, path) for path in paths]

    return asyncio.run(ask())


@pytest.fixture
def front_end(tmp_path):
    """A front end as somebody may have built it."""
    root = tmp_path / "front"
    for name, content in {
        "index.html": "<!doctype html><script src=assets/a.js></script>",
        "assets/a.js": "1",
        "assets/a.css": "a{}",
        "assets/font.woff2": "w",
        "sub/index.html": "sub",
        "assets/.env": "KEY=1",
        "script.php": "<?",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (tmp_path / "secret.js").write_text("secret")
    (root / "link.js").symlink_to(tmp_path / "secret.js")
    return root


def test_without_a_front_end_the_page_says_that_the_server_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "OURS", tmp_path / "none")
    (reply,) = asked(tmp_path, "/")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert b"Limner is running" in reply.body
    assert "script-src 'self'" in reply.headers["content-security-policy"]
    assert b"<script" not in reply.body


def test_another_front_end_is_served_with_its_files(tmp_path, front_end):
    paths = ["/", "/assets/a.js", "/assets/a.css", "/assets/font.woff2", "/sub/", "/index.html"]
    replies = asked(tmp_path, *paths, front_end=front_end)
    assert [reply.status for reply in replies] == [200] * 6
    assert [reply.headers["content-type"].partition(";")[0] for reply in replies] == [
        "text/html",
        "text/javascript",
        "text/css",
        "font/woff2",
        "text/html",
        "text/html",
    ]
    assert replies[0].body == (front_end / "index.html").read_bytes()
    assert replies[0].headers["etag"]


def test_our_own_page_runs_no_script_that_stands_in_it(tmp_path, front_end, monkeypatch):
    monkeypatch.setattr(page, "OURS", front_end)
    (reply,) = asked(tmp_path, "/")
    policy = dict(part.strip().partition(" ")[::2] for part in reply.headers["content-security-policy"].split(";"))
    assert policy["script-src"] == "'self'"
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
    assert reply.headers["content-disposition"].startswith("inline")


def test_a_front_end_that_others_have_built_may_run_its_own_scripts_and_load_from_nowhere_else(tmp_path, front_end):
    (reply,) = asked(tmp_path, "/", front_end=front_end)
    policy = reply.headers["content-security-policy"]
    assert "script-src 'self' 'unsafe-inline'" in policy
    assert "http" not in policy
    assert "*" not in policy


def test_what_is_not_there_is_not_there(tmp_path, front_end):
    replies = asked(tmp_path, "/gone.js", "/assets/", "/assets", "/link.js", "/api/gone", front_end=front_end)
    assert [reply.status for reply in replies] == [404, 404, 404, 400, 404]
    (posted,) = asked(tmp_path, "/assets/a.js", method="POST", front_end=front_end)
    assert posted.status == 404


def test_a_file_of_an_unknown_kind_is_for_saving(tmp_path, front_end):
    (reply,) = asked(tmp_path, "/script.php", front_end=front_end)
    assert reply.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize("name", SENDABLE, ids=ascii)
def test_no_address_leads_out_of_the_front_end(tmp_path, front_end, name):
    from urllib.parse import quote

    async def ask():
        async with guarded(tmp_path, page.routes, front_end=front_end) as client:
            spellings = {quote(name, safe="/"), quote(name, safe=""), f"assets/{quote(name, safe='')}"}
            head = "HTTP/1.1\r\nHost: localhost\r\n\r\n"
            return [await raw(client, f"GET /{spelling} {head}") for spelling in spellings]

    for reply in asyncio.run(ask()):
        assert reply.status in (200, 400, 404)
        assert b"secret" not in reply.body
        if reply.status == 200:
            assert reply.body == (front_end / "index.html").read_bytes()
