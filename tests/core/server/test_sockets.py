"""What waits for a client: in order, bounded, and the latest of what passes."""

from __future__ import annotations

import asyncio
import json

from aiohttp import ClientSession, WSMsgType, web
from aiohttp.test_utils import TestServer
from limner.core.server import sockets
from limner.core.server.sockets import Frame, Socket, Sockets


class Link:
    """Both ends of a socket: a client that reads only when it is told to."""

    def __init__(self) -> None:
        self.socket: Socket | None = None
        self.made, self.over = asyncio.Event(), asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse(compress=False)
        await response.prepare(request)
        self.socket = Socket("me", response, request.transport)
        self.made.set()
        pouring = asyncio.create_task(self.socket.pour())
        try:
            async for _ in response:
                pass
        finally:
            pouring.cancel()
            self.over.set()
        await asyncio.gather(pouring, return_exceptions=True)
        return response


def connected(check):
    """Run `check(socket, client's end, link)`."""

    async def run():
        link = Link()
        app = web.Application()
        app.router.add_get("/", link.handle)
        async with (
            TestServer(app) as server,
            ClientSession() as session,
            session.ws_connect(server.make_url("/")) as ws,
        ):
            await link.made.wait()
            assert link.socket is not None
            await check(link.socket, ws, link)

    asyncio.run(run())


async def read(ws, until):
    found = []
    async with asyncio.timeout(20):
        async for message in ws:
            found.append(message.data if message.type is WSMsgType.BINARY else json.loads(message.data))
            if found[-1] == until:
                return found
    return found


def test_what_is_pushed_arrives_in_order():
    async def check(socket, ws, _):
        for k in range(100):
            socket.push(Frame(str(k), "passing" if k % 2 else None))
        socket.push(Frame(b"end"))
        assert await read(ws, b"end") == [*range(100), b"end"]

    connected(check)


def test_of_what_passes_a_client_that_lags_is_told_the_latest_and_all_of_the_rest():
    async def check(socket, ws, _):
        large = json.dumps("x" * sockets.SLACK)
        socket.push(Frame(large))
        socket.push(Frame(large))
        for k in range(1000):
            socket.push(Frame(str(k), "progress"))
            socket.push(Frame(json.dumps(f"final {k}")))
        socket.push(Frame(b"end"))
        found = (await read(ws, b"end"))[2:-1]
        assert [f for f in found if isinstance(f, str)] == [f"final {k}" for k in range(1000)]
        assert [f for f in found if isinstance(f, int)] == [999]

    connected(check)


def test_a_client_that_never_reads_loses_what_passes_first_and_is_cut_off_in_the_end():
    async def check(socket, ws, link):
        for k in range(40):
            socket.push(Frame(b"%d" % k * sockets.SLACK, ("preview", k)))
        assert socket._size <= sockets.ROOM
        final = b"f" * (1 << 20)
        for _ in range(30):  # all of it is wanted: there is no end to what would have to be kept
            socket.push(Frame(final))
            assert socket._size <= sockets.ROOM + len(final)
        async with asyncio.timeout(20):
            await link.over.wait()

    connected(check)


def test_a_socket_that_took_anothers_place_is_not_forgotten_with_it():
    everyone = Sockets()
    older, newer = Socket("me", None, None), Socket("me", None, None)  # type: ignore[arg-type]
    assert everyone.join(older) is None
    assert everyone.join(newer) is older
    assert not everyone.leave(older)
    assert everyone.of("me") is newer
    assert everyone.leave(newer)
    assert everyone.of("me") is None
