"""The clients' open WebSockets.  What each is told waits in a bounded box of its own: a slow reader delays nobody."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import WSCloseCode, web

SLACK = 256 << 10  # bytes that wait for a client which merely is not done yet
GOODBYE = 2.0  # seconds
ROOM = 8 << 20  # bytes that may wait for one client


@dataclass(frozen=True, slots=True)
class Frame:
    """One WebSocket message."""

    data: str | bytes
    passing: Hashable = None  # what it is a state of: a client that lags is told only the latest


class Socket:
    """One client's socket, and what waits to go through it."""

    def __init__(self, client: str, response: web.WebSocketResponse, transport: asyncio.BaseTransport | None) -> None:
        self.client = client
        self.flags: Mapping[str, Any] | None = None  # what it says it understands; None: it has not spoken
        self.follows_log = False
        self._response = response
        self._transport = transport
        self._waiting: dict[Hashable, Frame] = {}
        self._size = 0
        self._numbers = itertools.count()
        self._filled = asyncio.Event()

    def push(self, frame: Frame) -> None:
        """Send `frame` when those before it have gone.  A client that lets too much wait is cut off."""
        lags = self._size > SLACK
        key = (frame.passing,) if lags and frame.passing is not None else next(self._numbers)
        if (older := self._waiting.pop(key, None)) is not None:
            self._size -= len(older.data)
        self._waiting[key] = frame
        self._size += len(frame.data)
        if self._size > ROOM:
            self._lighten()
        if self._size > ROOM:
            self.cut()
        self._filled.set()

    async def pour(self) -> None:
        """Send what waits, for as long as the socket is open."""
        while not self._response.closed:
            self._filled.clear()
            while self._waiting:
                frame = self._waiting.pop(next(iter(self._waiting)))
                self._size -= len(frame.data)
                if isinstance(frame.data, str):
                    await self._response.send_str(frame.data)
                else:
                    await self._response.send_bytes(frame.data)
            await self._filled.wait()

    def cut(self) -> None:
        """End the connection without a word: the client does not read."""
        self._waiting.clear()
        self._size = 0
        if isinstance(self._transport, asyncio.WriteTransport):
            self._transport.abort()

    async def close(self, code: int, reason: str) -> None:
        """End the connection, saying why to a client that still reads."""
        try:
            async with asyncio.timeout(GOODBYE):
                await self._response.close(code=code, message=reason.encode())
        except TimeoutError:
            self.cut()

    def _lighten(self) -> None:
        """Drop what only shows how far something is."""
        self._waiting = {key: frame for key, frame in self._waiting.items() if frame.passing is None}
        self._size = sum(len(frame.data) for frame in self._waiting.values())


class Sockets:
    """The open sockets, by their clients' ids."""

    def __init__(self) -> None:
        self._open: dict[str, Socket] = {}
        self._all: set[Socket] = set()  # with those that others have taken the place of

    def __iter__(self) -> Iterator[Socket]:
        return iter(tuple(self._open.values()))

    def of(self, client: str) -> Socket | None:
        """The socket of a client, if it has one."""
        return self._open.get(client)

    def join(self, socket: Socket) -> Socket | None:
        """Take a socket in.  An older one of the same client, which is returned, is told nothing from now on.

        It is not closed: two pages that share an id would push each other out for ever.
        """
        older = self._open.get(socket.client)
        self._open[socket.client] = socket
        self._all.add(socket)
        return older

    def leave(self, socket: Socket) -> bool:
        """Forget a socket that has gone; whether it was still the one of its client."""
        self._all.discard(socket)
        if self._open.get(socket.client) is not socket:
            return False
        del self._open[socket.client]
        return True

    async def close(self) -> None:
        """End all connections: the server goes."""
        await asyncio.gather(*(socket.close(WSCloseCode.GOING_AWAY, "the server stops") for socket in self._all))
