"""Who may come in, and who may not: names, origins, the token; and what an answer must always carry."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager

import pytest
from aiohttp import WSServerHandshakeError, web
from guarded import guarded, raw, said
from limner.core.errors import Conflict, LimnerError, ModelMissing, StorageError, UsageError
from limner.core.server.guard import Refused, cookie_value, host_allowed, origin_allowed
from limner.core.server.refusal import hidden
from limner.core.server.settings import Settings, is_loopback

TOKEN = "a-token_with.32~characters-in-it"
OPENING = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.fixture
def routes():
    """A page, a value that can be read and changed, a socket, and ways to fail."""
    table = web.RouteTableDef()
    touched = []

    @table.get("/")
    @table.get("/thing")
    async def page(request):
        return web.json_response(len(touched))

    @table.post("/thing")
    async def change(request):
        touched.append(1)
        return web.json_response(len(touched))

    @table.get("/ws")
    async def ws(request):
        touched.append(1)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        await socket.receive()
        return socket

    @table.get("/fail/{how}")
    @table.get("/limner/fail/{how}")
    async def fail(request):
        raise FAILURES[request.match_info["how"]]

    @table.get("/own")
    async def own(request):
        raise web.HTTPForbidden(text='{"own": 1}', content_type="application/json")

    @table.get("/fail-late")
    async def fail_late(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"begun")
        raise ValueError("too late")

    table.touched = touched
    return table


FAILURES = {
    "usage": UsageError("there is no such thing"),
    "missing": ModelMissing("there is no 'a'"),
    "conflict": Conflict("it runs already"),
    "disk": StorageError("a.png", "the disk is full"),
    "refused": Refused(418, "teapot", "this is a teapot", handle="left"),
    "bug": KeyError("/secret/path"),
    "ours": LimnerError("something"),
}


# ------------------------------------------------------------------------------------------------------------- names

HOME = ["localhost", "LOCALHOST", "localhost:8188", "127.0.0.1", "127.0.0.1:1", "127.9.8.7:65535", "[::1]", "[::1]:80"]
AWAY = [
    "", "evil", "evil.example:8188", "localhost.evil", "evil-localhost", "localhost.", "127.0.0.1.evil",
    "127.0.0.1.nip.io", "localhost@evil", "evil@localhost", "localhost:80@evil", "localhost:", "localhost:x",
    "localhost:99999", "localhost:80:80",
    "localhost/", "localhost#", "localhost?", "localhost ", " localhost", "local host", "localhost,evil", "localhost\t",
    "127.1", "0x7f.0.0.1", "2130706433", "0177.0.0.1", "127.0.0.01", "0.0.0.0", "8.8.8.8", "192.168.1.7", "128.0.0.1",
    "[::]", "[::2]", "::1", "[::1", "[::1]x", "[::ffff:127.0.0.1]", "[fe80::1]", "[localhost]", "lоcalhost",
    "１27.0.0.1",
    "*", "-", ".", "_", "null", "file://localhost",
]  # fmt: skip


@pytest.mark.parametrize("host", HOME)
def test_the_server_answers_to_the_names_of_this_machine(host):
    assert host_allowed(host, Settings())


@pytest.mark.parametrize("host", AWAY, ids=ascii)
def test_the_server_answers_to_no_other_name(host):
    assert not host_allowed(host, Settings())


def test_names_can_be_added_and_are_exact():
    settings = Settings(allow_hosts=frozenset({"limner.example"}))
    assert host_allowed("limner.example", settings)
    assert host_allowed("Limner.Example:443", settings)
    for host in ("x.limner.example", "limner.example.evil", "limner-example", "example", "limner.example."):
        assert not host_allowed(host, settings)


def test_a_server_for_others_answers_to_addresses_and_still_to_no_name():
    settings = Settings(listen=("0.0.0.0",), token=TOKEN)
    assert host_allowed("192.168.1.7:8188", settings)
    assert host_allowed("[fe80::1]:8188", settings)
    assert not host_allowed("evil.example:8188", settings)
    named = Settings(listen=("studio.local",), token=TOKEN)
    assert host_allowed("studio.local:8188", named)


def test_no_name_is_looked_up(monkeypatch):
    import socket

    monkeypatch.setattr(socket, "getaddrinfo", None)
    monkeypatch.setattr(socket, "gethostbyname", None)
    assert not host_allowed("localtest.me", Settings())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.255.0.1", "::1"])
def test_this_machine_is_not_public(host):
    assert is_loopback(host)
    assert not Settings(listen=(host,)).public


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "studio.local", "localhost.evil", ""])
def test_all_else_is_public(host):
    assert not is_loopback(host)
    assert Settings(listen=("127.0.0.1", host)).public


REQUESTS = {
    "another name": b"GET /thing HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "another name, and ours in the first line": b"GET http://localhost/thing HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "our name, and another in the first line": b"GET http://evil.example/thing HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no name, in HTTP/1.0": b"GET /thing HTTP/1.0\r\n\r\n",
    "a name with a space": b"GET /thing HTTP/1.1\r\nHost: localhost evil\r\n\r\n",
    "another name for a change": b"POST /thing HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n",
    "another name where nothing is": b"GET /gone HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "another name and a method that is not": b"TRACE /thing HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "a name of another server": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
}


@pytest.mark.parametrize("what", REQUESTS)
def test_a_request_by_another_name_is_refused(tmp_path, routes, what):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            return await raw(client, REQUESTS[what])

    reply = asyncio.run(ask())
    assert reply.status in ((404,) if "CONNECT" in str(REQUESTS[what]) else (403,))
    assert routes.touched == []
    if reply.status == 403:
        assert reply.json["error"]["type"] == "foreign_host"


@pytest.mark.parametrize("head", ["Host: localhost\r\nHost: evil\r\n", ""])
def test_two_names_and_none_are_no_request(tmp_path, routes, head):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            return await raw(client, f"GET /thing HTTP/1.1\r\n{head}\r\n")

    assert asyncio.run(ask()).status in (400, 403)


# ----------------------------------------------------------------------------------------------------------- origins


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8188", "localhost:8188"),
        ("http://127.0.0.1:8188", "127.0.0.1:8188"),
        ("HTTP://LOCALHOST:8188", "localhost:8188"),
        ("http://[::1]:8188", "[::1]:8188"),
        ("http://localhost", "localhost:80"),
        ("http://localhost:80", "localhost"),
        ("https://limner.example", "limner.example"),
    ],
)
def test_our_own_page_may_use_the_server(origin, host):
    assert origin_allowed(origin, host, Settings())


@pytest.mark.parametrize(
    "origin",
    [
        "null", "", "http://", "http://evil", "http://localhost", "http://localhost:8189", "http://127.0.0.1:8188",
        "http://localhost.evil:8188", "http://localhost:8188.evil", "http://localhost:8188@evil", "http://localhost@evil:8188",
        "http://user@localhost:8188", "http://localhost:8188/", "http://localhost:8188/x", "http://localhost:8188?x",
        "http://localhost:8188#x", "http://localhost:8188 ", "http://evil http://localhost:8188", "ftp://localhost:8188",
        "file://localhost:8188", "localhost:8188", "//localhost:8188", "chrome-extension://localhost:8188",
        "http:localhost:8188", "https://localhost:08188",
    ],
)  # fmt: skip
def test_no_other_page_may(origin):
    assert not origin_allowed(origin, "localhost:8188", Settings())


FOREIGN = {
    "of another site": {"Origin": "http://evil.example"},
    "without an origin to speak of": {"Origin": "null"},
    "of another site, by its own word": {"Sec-Fetch-Site": "cross-site"},
    "of another port": {"Sec-Fetch-Site": "same-site"},
    "in a frame": {**OPENING, "Sec-Fetch-Dest": "iframe"},
    "that fetches": {**OPENING, "Sec-Fetch-Mode": "no-cors"},
    "that shouts": {"Sec-Fetch-Site": "CROSS-SITE"},
}


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_a_page_of_somebody_else_is_refused(tmp_path, routes, what, method):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            return [await said(client, method, path, headers=FOREIGN[what]) for path in ("/thing", "/", "/gone")]

    assert [reply.status for reply in asyncio.run(ask())] == [403] * 3
    assert routes.touched == []


def test_two_origins_are_none_of_ours(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            ours = f"http://{client.host}:{client.port}"
            host = f"{client.host}:{client.port}"
            return await raw(client, f"GET /thing HTTP/1.1\r\nHost: {host}\r\nOrigin: {ours}\r\nOrigin: {ours}\r\n\r\n")

    assert asyncio.run(ask()).status == 403


def test_a_link_on_another_page_leads_to_the_page_and_nowhere_else(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            asked = [("GET", "/"), ("GET", "/?x=1"), ("HEAD", "/"), ("GET", "/thing"), ("POST", "/")]
            return [(await said(client, *what, headers=OPENING)).status for what in asked]

    assert asyncio.run(ask()) == [200, 200, 200, 403, 403]


def test_clients_that_are_no_browsers_and_our_own_page_come_in(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            origin = {"Origin": f"http://{client.host}:{client.port}"}
            heads = [{}, origin, {**origin, "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
            types = ["application/json", "text/plain", "application/x-www-form-urlencoded"]
            heads += [{"Content-Type": kind} for kind in types]
            return [(await said(client, "POST", "/thing", data=b"{}", headers=head)).status for head in heads]

    assert asyncio.run(ask()) == [200] * 7


def test_nobody_else_gets_leave_to_read_what_we_say(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            asked = {"Origin": "http://evil", "Access-Control-Request-Method": "POST"}
            return [await said(client, "OPTIONS", "/thing", headers=asked), await said(client, "GET", "/thing")]

    for reply in asyncio.run(ask()):
        assert not [name for name in reply.headers if name.startswith("access-control-")]
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"


def test_a_page_that_the_user_has_named_may_come_in_and_no_other(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes, cors="http://studio.example") as client:
            friend = {"Origin": "http://studio.example", "Sec-Fetch-Site": "cross-site"}
            wish = {**friend, "Access-Control-Request-Method": "POST"}
            foreign = {"Origin": "http://studio.example.evil", "Sec-Fetch-Site": "cross-site"}
            return [
                await said(client, "POST", "/thing", headers=friend),
                await said(client, "OPTIONS", "/thing", headers=wish),
                await said(client, "POST", "/thing", headers=foreign),
                await said(client, "GET", "/thing", headers={"Sec-Fetch-Site": "cross-site"}),
            ]

    come, asked, foreign, unnamed = asyncio.run(ask())
    assert (come.status, asked.status, foreign.status, unnamed.status) == (200, 204, 403, 403)
    assert come.headers["access-control-allow-origin"] == "http://studio.example"
    assert "PATCH" in asked.headers["access-control-allow-methods"]
    assert "access-control-allow-origin" not in foreign.headers


def test_every_page_may_come_in_where_the_user_says_so_but_not_by_another_name(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes, cors="*") as client:
            head = {"Origin": "http://any.example", "Sec-Fetch-Site": "cross-site"}
            return [
                await said(client, "POST", "/thing", headers=head),
                await said(client, "POST", "/thing", headers={**head, "Host": "evil"}),
            ]

    come, named = asyncio.run(ask())
    assert (come.status, named.status) == (200, 403)
    assert come.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in come.headers


# ------------------------------------------------------------------------------------------------------------ the token


def test_without_the_token_nobody_comes_in(tmp_path, routes):
    wrong = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer \xff"},
        {"X-Token": TOKEN},
        {"Cookie": f"token={TOKEN}"},
        {"Cookie": f"limner-80={TOKEN}"},
        {"Referer": f"http://localhost/?token={TOKEN}"},
    ]

    async def ask():
        async with guarded(tmp_path, routes, token=TOKEN) as client:
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
                for path in ("/", "/thing", "/gone", "/ws", f"/thing?Token={TOKEN}", "/thing?token="):
                    for head in wrong:
                        yield await said(client, method, path, headers=head)
            yield await said(client, "POST", "/thing", data={"token": TOKEN})
            yield await said(client, "POST", f"/thing?token={TOKEN}")

    async def all_of():
        return [reply async for reply in ask()]

    replies = asyncio.run(all_of())
    assert {reply.status for reply in replies} == {401}
    assert {reply.headers["www-authenticate"] for reply in replies} == {"Bearer"}
    assert routes.touched == []
    assert TOKEN.encode() not in b"".join(reply.body for reply in replies)


def test_the_token_opens_every_route_as_a_header(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes, token=TOKEN) as client:
            heads = [{"Authorization": f"{scheme} {TOKEN}"} for scheme in ("Bearer", "bearer", "BEARER ")]
            return [(await said(client, "POST", "/thing", headers=head)).status for head in heads]

    assert asyncio.run(ask()) == [200] * 3


def test_the_token_in_the_address_is_taken_out_of_it_and_a_cookie_put_in_its_place(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes, token=TOKEN) as client:
            first = await said(client, "GET", f"/thing?a=1&token={TOKEN}&b=2")
            cookie = first.headers["set-cookie"].partition(";")[0]
            return first, client.port, await said(client, "POST", "/thing", headers={"Cookie": cookie})

    first, port, second = asyncio.run(ask())
    assert (first.status, first.headers["location"]) == (303, "/thing?a=1&b=2")
    flags = {flag.strip().lower() for flag in first.headers["set-cookie"].split(";")}
    assert {"httponly", "samesite=strict", "path=/"} < flags
    assert f"limner-{port}={cookie_value(TOKEN)}".lower() in flags
    assert TOKEN not in str(first.headers)
    assert first.headers["referrer-policy"] == "no-referrer"
    assert second.status == 200


@pytest.mark.parametrize(
    "path", ["//evil.example/x", "//evil.example", "/\\evil.example", "/%5cevil.example", "///evil"]
)
def test_the_token_leads_to_no_other_server(tmp_path, routes, path):
    async def ask():
        async with guarded(tmp_path, routes, token=TOKEN) as client:
            line = f"GET {path}?token={TOKEN} HTTP/1.1\r\nHost: localhost:{client.port}\r\n\r\n"
            return await raw(client, line)

    reply = asyncio.run(ask())
    if reply.status == 303:
        location = reply.headers["location"]
        assert location.startswith("/")
        assert location[1:2] not in ("/", "\\")
        assert TOKEN not in location


def test_a_cookie_of_another_token_is_no_longer_good(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes, token=TOKEN) as client:
            cookies = [cookie_value("another"), TOKEN, "", cookie_value(TOKEN)[:-1], cookie_value(TOKEN)]
            heads = [{"Cookie": f"limner-{client.port}={cookie}"} for cookie in cookies]
            return [(await said(client, "GET", "/thing", headers=head)).status for head in heads]

    assert asyncio.run(ask()) == [401, 401, 401, 401, 200]


def test_the_token_does_not_excuse_another_name_or_page(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes, token=TOKEN) as client:
            right = {"Authorization": f"Bearer {TOKEN}"}
            heads = [{"Host": "evil"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
            return [(await said(client, "POST", "/thing", headers=right | head)).status for head in heads]

    assert asyncio.run(ask()) == [403] * 3


def test_secrets_are_compared_in_constant_time():
    import inspect

    from limner.core.server import guard

    source = inspect.getsource(guard)
    assert "compare_digest(" in source
    assert "== settings.token" not in source
    assert "== token" not in source


def test_the_token_is_in_no_log_even_when_things_fail(tmp_path, routes, caplog):
    caplog.set_level(logging.DEBUG)

    async def ask():
        async with guarded(tmp_path, routes, token=TOKEN) as client:
            right = {"Authorization": f"Bearer {TOKEN}"}
            await said(client, "GET", "/fail/bug?x=1", headers=right)
            await said(client, "GET", f"/fail/bug?token={TOKEN}")

    asyncio.run(ask())
    assert "GET /fail/bug failed" in caplog.text
    assert TOKEN not in caplog.text


def test_settings_do_not_show_the_token():
    assert TOKEN not in repr(Settings(token=TOKEN))


# ----------------------------------------------------------------------------------------------------------- sockets


@asynccontextmanager
async def socket(client, **options):
    async with client.ws_connect("/ws", **options) as found:
        yield found


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({**OPENING}, 403),
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
    ],
)
def test_a_socket_of_somebody_else_is_refused_before_it_is_open(tmp_path, routes, head, status):
    async def ask():
        async with guarded(tmp_path, routes, token=TOKEN) as client:
            try:
                await client.ws_connect("/ws", headers=head)
            except WSServerHandshakeError as error:
                return error.status

    assert asyncio.run(ask()) == status
    assert routes.touched == []


def test_a_socket_may_show_the_token_as_header_cookie_or_in_its_address(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes, token=TOKEN) as client:
            ways = [
                {"headers": {"Authorization": f"Bearer {TOKEN}"}},
                {"headers": {"Cookie": f"limner-{client.port}={cookie_value(TOKEN)}"}},
                {"params": {"token": TOKEN, "clientId": "x"}},
            ]
            for way in ways:
                async with client.ws_connect("/ws", **way) as found:
                    yield await found.receive_str()

    async def all_of():
        return [text async for text in ask()]

    assert asyncio.run(all_of()) == ["hello"] * 3


def test_sockets_are_counted_and_there_are_not_endlessly_many(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes, max_sockets=2) as client:
            first, second = [await client.ws_connect("/ws") for _ in range(2)]
            with pytest.raises(WSServerHandshakeError) as caught:
                await client.ws_connect("/ws")
            assert (await said(client, "GET", "/thing")).status == 200
            await first.close()
            await first.receive()
            async with asyncio.timeout(5):
                while True:
                    try:
                        third = await client.ws_connect("/ws")
                        break
                    except WSServerHandshakeError:
                        await asyncio.sleep(0)
            await third.close()
            await second.close()
            return caught.value.status, caught.value.headers["Retry-After"]

    assert asyncio.run(ask()) == (503, "5")


# --------------------------------------------------------------------------------------------------- answers and errors


def test_every_answer_forbids_what_it_does_not_need(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            paths = ["/thing", "/gone", "/fail/bug", "/own"]
            return [
                *[await said(client, "GET", path) for path in paths],
                await said(client, "GET", "/", headers={"Host": "evil"}),
                await said(client, "TRACE", "/thing"),
            ]

    for reply in asyncio.run(ask()):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
        assert reply.headers["server"] == "Limner"


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ("usage", 400, "usage"),
        ("missing", 404, "model_missing"),
        ("conflict", 409, "conflict"),
        ("disk", 507, "cannot_write"),
        ("refused", 418, "teapot"),
        ("ours", 500, "failed"),
    ],
)
def test_an_error_of_ours_is_a_status_a_code_and_a_sentence(tmp_path, routes, how, status, code):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            return [await said(client, "GET", f"{prefix}/fail/{how}") for prefix in ("", "/limner")]

    comfy, own = asyncio.run(ask())
    assert (comfy.status, own.status) == (status, status)
    assert comfy.json["error"]["type"] == code
    assert set(comfy.json) == {"error", "node_errors"}
    assert set(comfy.json["error"]) == {"type", "message", "details", "extra_info"}
    assert own.json["error"]["code"] == code
    assert comfy.json["error"]["message"] == own.json["error"]["message"] == str(FAILURES[how])
    if how == "refused":
        assert comfy.json["error"]["extra_info"] == {"handle": "left"}
        assert own.json["error"]["handle"] == "left"


def test_a_bug_is_told_in_the_log_and_not_to_the_client(tmp_path, routes, caplog):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            return await said(client, "GET", "/fail/bug")

    reply = asyncio.run(ask())
    assert reply.status == 500
    assert reply.json["error"]["message"] == "the server failed to do this; its log says why"
    assert b"secret" not in reply.body
    assert b"Traceback" not in reply.body
    assert "Traceback" in caplog.text
    assert "/secret/path" in caplog.text


def test_an_answer_that_has_begun_is_broken_off_and_not_mixed_with_an_error(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            reader, writer = await asyncio.open_connection(client.host, client.port)
            writer.write(f"GET /fail-late HTTP/1.1\r\nHost: localhost:{client.port}\r\n\r\n".encode())
            try:
                return await reader.read()
            finally:
                writer.close()

    assert asyncio.run(ask()).count(b"HTTP/1.1") == 1


def test_what_is_not_there_and_what_cannot_be_done_is_json_too(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            return [
                await said(client, "GET", "/gone/../gone"),
                await said(client, "POST", "/gone"),
                await said(client, "DELETE", "/thing"),
                await said(client, "GET", "/own"),
            ]

    gone, posted, delete, own = asyncio.run(ask())
    assert (gone.status, gone.json["error"]["type"]) == (404, "not_found")
    assert posted.status == 404
    assert (delete.status, delete.json["error"]["type"]) == (405, "method_not_allowed")
    assert delete.headers["allow"] == "GET,HEAD,POST"
    assert delete.json["error"]["message"] == "DELETE is not for /thing, which takes GET, HEAD, POST"
    assert (own.status, own.json) == (403, {"own": 1})


def test_a_header_does_not_turn_one_method_into_another(tmp_path, routes):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
                await said(client, "GET", "/thing", headers={name: "POST"})
            await said(client, "GET", "/thing?_method=POST")

    asyncio.run(ask())
    assert routes.touched == []


def test_sentences_do_not_tell_where_on_the_machine_things_lie(tmp_path):
    from pathlib import Path

    from limner.core.folders import SHIPPED, Folders

    folders = Folders.at(tmp_path / "base", output=tmp_path / "pictures", further={"unet": (Path("/big/unet"),)})
    for path, shown in {
        folders.base / "models" / "unet" / "a.safetensors": "models/unet/a.safetensors",
        folders.output / "a.png": "a.png",
        folders.output: "pictures",
        folders.inputs / "sub" / "a.png": "input/sub/a.png",
        Path("/big/unet/x/b.safetensors"): "x/b.safetensors",
        SHIPPED / "unet.safetensors": "core/models/default/unet.safetensors",
        Path.home() / ".cache" / "x": ".cache/x",
    }.items():
        assert hidden(f"cannot read {path}: it is damaged", folders) == f"cannot read {shown}: it is damaged"
    assert hidden("there is no '/etc/passwd'", folders) == "there is no '/etc/passwd'", "which the client has said"
    assert json.dumps(hidden("", folders)) == '""'
