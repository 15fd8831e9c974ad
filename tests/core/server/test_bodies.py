"""What clients send: JSON of every kind, too much of it, packed, broken off, or so slowly that it never ends."""

import asyncio
import gzip
import json
import resource
import zlib

import pytest
from aiohttp import web
from guarded import guarded, raw, said
from limner.core.server import bodies
from limner.core.server.bodies import read_body, read_json, read_object

routes = web.RouteTableDef()


@routes.post("/json")
async def as_json(request):
    return web.json_response({"found": await read_json(request)})


@routes.post("/maybe")
async def maybe(request):
    return web.json_response({"found": await read_json(request, empty={})})


@routes.post("/object")
async def an_object(request):
    return web.json_response(await read_object(request))


@routes.post("/size")
async def size(request):
    return web.json_response(len(await read_body(request, 1 << 20)))


def answers(tmp_path, *requests, **settings):
    """What a server says to requests, one after the other."""

    async def ask():
        async with guarded(tmp_path, routes, **settings) as client:
            return [await said(client, "POST", path, **options) for path, options in requests]

    return asyncio.run(ask())


TYPES = ["application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x/y", None]


@pytest.mark.parametrize("kind", TYPES)
def test_json_is_read_whatever_it_is_called(tmp_path, kind):
    headers = {"Content-Type": kind} if kind else {}
    skipped = [] if kind else ["Content-Type"]
    (reply,) = answers(tmp_path, ("/json", {"data": b'{"a": 1}', "headers": headers, "skip_auto_headers": skipped}))
    assert (reply.status, reply.json) == (200, {"found": {"a": 1}})


BAD = {
    "nothing": (b"", "not JSON"),
    "half": (b'{"a": ', "not JSON: line 1"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not text in UTF-8"),
    "no text": (b'{"a": "\xff"}', "not text in UTF-8"),
    "NaN": (b'{"a": NaN}', "NaN is not a number"),
    "Infinity": (b'{"a": -Infinity}', "-Infinity is not a number"),
    "1e999": (b'{"a": 1e999}', "1e999 is too large"),
    "a name twice": (b'{"a": 1, "a": 2}', "'a' stands twice"),
    "5000 digits": (b'{"a": ' + b"1" * 5000 + b"}", "5000 digits"),
    "half a pair": (b'{"a": "\\ud83c"}', "not text in UTF-8"),
    "100,000 deep": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "100,000 deep objects": (b'{"a":' * 100_000 + b"}" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("what", BAD)
def test_json_that_is_none_is_refused_with_the_reason(tmp_path, what):
    content, reason = BAD[what]
    reply, after = answers(tmp_path, ("/json", {"data": content}), ("/json", {"data": b"1"}))
    assert reply.status == 400
    assert reply.json["error"]["type"] == "invalid_json"
    assert reply.json["error"]["message"].startswith("the body ")
    assert reason in reply.json["error"]["message"]
    assert after.status == 200


def test_a_body_may_be_left_out_where_that_means_something(tmp_path):
    left_out, given, spaces = answers(
        tmp_path, ("/maybe", {}), ("/maybe", {"data": b"[1]"}), ("/maybe", {"data": b" "})
    )
    assert (left_out.json, given.json, spaces.status) == ({"found": {}}, {"found": [1]}, 400)


@pytest.mark.parametrize("content", [b"[]", b"1", b"null", b'"x"', b""])
def test_where_an_object_is_wanted_nothing_else_will_do(tmp_path, content):
    (reply,) = answers(tmp_path, ("/object", {"data": content}))
    assert reply.status == 400


def test_a_large_text_is_read_beside_the_event_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(bodies, "QUICK", 10)
    good, bad = answers(tmp_path, ("/json", {"data": b'{"a": "long"}'}), ("/json", {"data": b'{"a": "long",}'}))
    assert (good.status, bad.status) == (200, 400)


# ----------------------------------------------------------------------------------------------------------- too much


def test_what_says_that_it_is_too_large_is_refused_before_it_is_sent(tmp_path):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            head = f"POST /size HTTP/1.1\r\nHost: localhost:{client.port}\r\nContent-Length: {2 << 40}\r\n\r\n"
            return await raw(client, head)

    reply = asyncio.run(ask())
    assert (reply.status, reply.json["error"]["type"]) == (413, "too_large")
    assert reply.json["error"]["extra_info"] == {"most": 1 << 20}
    assert reply.headers["connection"] == "close"


def test_what_does_not_say_is_read_no_further_than_it_may_be(tmp_path):
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 1 << 16
            yield b"x" * (1 << 16)

    async def ask():
        async with guarded(tmp_path, routes) as client:
            head = f"POST /size HTTP/1.1\r\nHost: localhost:{client.port}\r\nTransfer-Encoding: chunked\r\n\r\n"
            reader, writer = await asyncio.open_connection(client.host, client.port)
            writer.write(head.encode())
            status = asyncio.create_task(reader.readuntil(b"\r\n"))
            async for chunk in endless():
                writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                try:
                    await writer.drain()
                except ConnectionError:
                    break
                if status.done():
                    break
            writer.close()
            return await status

    assert b" 413 " in asyncio.run(ask())
    assert sent < 64 << 20


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_what_unfolds_is_refused_in_little_memory(tmp_path, pack):
    bomb = pack(bytes(300 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    name = "gzip" if pack is gzip.compress else "deflate"
    (reply,) = answers(tmp_path, ("/size", {"data": bomb, "headers": {"Content-Encoding": name}}))
    assert reply.status == 413
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10 < 60


def test_what_is_packed_and_small_is_read(tmp_path):
    packed = gzip.compress(b'{"a": 1}')
    (reply,) = answers(tmp_path, ("/json", {"data": packed, "headers": {"Content-Encoding": "gzip"}}))
    assert reply.json == {"found": {"a": 1}}


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_what_is_not_packed_as_it_says_is_refused(tmp_path, name):
    reply, after = answers(
        tmp_path,
        ("/json", {"data": b"not packed at all", "headers": {"Content-Encoding": name}}),
        ("/json", {"data": b"1"}),
    )
    assert reply.status == 400
    assert b"Traceback" not in reply.body
    assert after.status == 200


# ----------------------------------------------------------------------------------------------------------- too slowly


def test_a_body_that_stops_coming_is_waited_for_only_so_long(tmp_path):
    async def ask():
        async with guarded(tmp_path, routes, patience=0.2) as client:
            head = f"POST /json HTTP/1.1\r\nHost: localhost:{client.port}\r\nContent-Length: 100\r\n\r\n" + '{"a":'
            return await raw(client, head)

    reply = asyncio.run(ask())
    assert (reply.status, reply.json["error"]["type"]) == (408, "too_slow")


def test_a_body_that_drips_is_not_waited_for_either(tmp_path):
    async def ask():
        async with guarded(tmp_path, routes, patience=0.3) as client:
            reader, writer = await asyncio.open_connection(client.host, client.port)
            head = f"POST /json HTTP/1.1\r\nHost: localhost:{client.port}\r\nContent-Length: 100000\r\n\r\n"
            writer.write(head.encode())
            status = asyncio.create_task(reader.readuntil(b"\r\n"))
            async with asyncio.timeout(10):
                while not status.done():
                    writer.write(b" ")
                    await asyncio.sleep(0.01)
            writer.close()
            return await status

    assert b" 408 " in asyncio.run(ask())


def test_a_body_that_comes_steadily_may_take_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr(bodies, "SLOWEST", 100)

    async def slowly():
        for _ in range(10):
            yield b" " * 100
            await asyncio.sleep(0.05)
        yield b"1"

    (reply,) = answers(tmp_path, ("/json", {"data": slowly()}), patience=0.3)
    assert reply.json == {"found": 1}


def test_a_client_that_hangs_up_harms_nobody(tmp_path):
    async def ask():
        async with guarded(tmp_path, routes) as client:
            for _ in range(20):
                _, writer = await asyncio.open_connection(client.host, client.port)
                writer.write(
                    f"POST /json HTTP/1.1\r\nHost: localhost:{client.port}\r\nContent-Length: 9\r\n\r\n{{".encode()
                )
                await writer.drain()
                writer.close()
            return await said(client, "POST", "/json", data=json.dumps({"a": 1}))

    assert asyncio.run(ask()).status == 200
