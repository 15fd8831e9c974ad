"""Listening: at which addresses, until which signal, and an end within ten seconds of it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from urllib.parse import quote

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from ..errors import UsageError
from ..files import reason
from .settings import Settings

WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - every address of this machine
BACKLOG = 1024  # connections that the system holds until they are accepted
LAST_WORDS = 3.0  # seconds that answers which are being given may take once the server ends
LONGEST_END = 9.0  # seconds from a signal until the process is gone, whatever hangs
MANY_FILES = 4096
IDLE = 75.0  # seconds that a connection stays open without a request
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"
    b'{"error": {"type": "too_many_connections", "code": "too_many_connections", "message": "the server has as many '
    b'connections as it takes", "details": "", "extra_info": {}}, "node_errors": {}}'
)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Ending:
    """What a signal has asked for."""

    wanted: asyncio.Event
    code: int = 0  # of the process; 0: nobody has asked


def bound(settings: Settings) -> list[socket.socket]:
    """Sockets at every address to listen at.  Raises `UsageError` where one is taken, or is not this machine's."""
    found: list[socket.socket] = []
    port = settings.port
    try:
        for host in settings.listen:
            for sock in _bound(host, port, optional=bool(found) and host in WILDCARDS):
                found.append(sock)
                port = port or sock.getsockname()[1]
    except UsageError:
        for sock in found:
            sock.close()
        raise
    return found


async def listen(
    app: web.Application, settings: Settings, sockets: Sequence[socket.socket], ready: Callable[[], None]
) -> int:
    """Serve `app` until a signal ends it; returns the exit code.  `ready` is called when visitors are let in."""
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(
        app, access_log_class=Discreet, access_log=log, keepalive_timeout=IDLE, shutdown_timeout=LAST_WORDS
    )
    with _signals(Ending(asyncio.Event())) as ending:
        try:
            await runner.setup()
            factory = admitting(runner, settings)
            servers = [await loop.create_server(factory, sock=sock, backlog=BACKLOG) for sock in sockets]
            ready()
            await ending.wanted.wait()
            for server in servers:
                server.close()
        finally:
            await runner.cleanup()
    return ending.code


def addresses(sockets: Sequence[socket.socket]) -> list[str]:
    """Where a browser finds the server."""
    found = []
    for sock in sockets:
        host, port = sock.getsockname()[:2]
        name = _outward(sock.family) if host in WILDCARDS else host
        found.append(f"http://{f'[{name}]' if ':' in name else name}:{port}")
    return list(dict.fromkeys(found))


def with_token(address: str, token: str) -> str:
    """The address at which a browser is let in."""
    return f"{address}/?token={quote(token, safe='')}"


class Discreet(AbstractAccessLogger):
    """A log of requests without what follows the `?`: that may be the token."""

    @property
    def enabled(self) -> bool:
        """Only where somebody wants to read it."""
        return self.logger.isEnabledFor(logging.DEBUG)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """A line for each request."""
        self.logger.debug(
            "%s %s %s %d %.0f ms", request.remote, request.method, request.path, response.status, time * 1e3
        )


# ------------------------------------------------------------------------------------------------------------ how many


def admitting(runner: web.AppRunner, settings: Settings) -> Callable[[], asyncio.Protocol]:
    """Who talks to a new connection: the server, or when it has enough of them somebody who says so."""
    server = runner.server
    if server is None:
        raise RuntimeError("the runner is not set up")
    most = min(settings.max_connections, _most_files() // 2)
    loop = asyncio.get_running_loop()
    coming = 0  # many may be let in before the server hears of the first

    def arrived() -> None:
        nonlocal coming
        coming -= 1

    def admitted() -> asyncio.Protocol:
        nonlocal coming
        if len(server.connections) + coming >= most:
            return Full()
        coming += 1
        loop.call_soon(loop.call_soon, arrived)
        return server()

    return admitted


class Full(asyncio.Protocol):
    """Answers 503 to whatever is asked, and hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a question, though not for long."""
        self._transport = transport
        asyncio.get_running_loop().call_later(2.0, transport.close)

    def data_received(self, _: bytes) -> None:
        """Answer it."""
        if isinstance(self._transport, asyncio.WriteTransport) and not self._transport.is_closing():
            self._transport.write(FULL)
            self._transport.close()


def _most_files() -> int:
    """How many files and connections the system lets this process have; asks for as many as it may."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 1 << 20
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # somebody forbids it, or has less in mind
        if 0 <= soft < MANY_FILES:
            resource.setrlimit(resource.RLIMIT_NOFILE, (MANY_FILES, hard))
            soft = MANY_FILES
    return 1 << 20 if soft < 0 else soft


# ---------------------------------------------------------------------------------------------------------------- where


def _bound(host: str, port: int, *, optional: bool) -> Iterator[socket.socket]:
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise UsageError(f"--listen {host} is no address of this machine") from None
    for family, _, _, _, address in dict.fromkeys(rows):
        try:
            yield socket.create_server(address, family=family, backlog=BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                words = f"port {port} of {host} is in use, perhaps by another Limner; --port chooses another"
                raise UsageError(words) from None
            if optional or (len(rows) > 1 and family == socket.AF_INET6):  # a machine without IPv6
                continue
            raise UsageError(f"cannot listen at {host}, port {port}: {reason(error)}") from None


def _outward(family: int) -> str:
    """The address by which this machine is known in its network.  Nothing is sent."""
    far = ("192.0.2.1", 9) if family == socket.AF_INET else ("2001:db8::1", 9)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(far)
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1" if family == socket.AF_INET else "::1"


# ------------------------------------------------------------------------------------------------------------ how long


@contextmanager
def _signals(ending: Ending) -> Iterator[Ending]:
    """Have the first Ctrl-C, or SIGTERM, end the server, and a second one the process."""
    loop = asyncio.get_running_loop()

    def signalled(sign: int, _: FrameType | None) -> None:
        if ending.code:
            os._exit(128 + sign)
        ending.code = 128 + sign
        timer = threading.Timer(LONGEST_END, os._exit, [ending.code])
        timer.daemon = True
        timer.start()
        loop.call_soon_threadsafe(ending.wanted.set)

    before = {sign: signal.signal(sign, signalled) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ending
    finally:
        if not ending.code:
            for sign, handler in before.items():
                signal.signal(sign, handler)
