"""A server of a few routes behind the guard, and requests to it as raw bytes where a client would be too polite."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from limner.core.host import Host
from limner.core.host import Settings as HostSettings
from limner.core.server import guard, page
from limner.core.server.keys import OFFICE, SETTINGS
from limner.core.server.listen import Discreet
from limner.core.server.office import Office
from limner.core.server.settings import Settings


@asynccontextmanager
async def guarded(
    base: Path, *tables: web.RouteTableDef, settings: Settings | None = None, **changes: Any
) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """A client of a server that has these routes, for as long as the block lasts."""
    settings = settings or Settings(**changes)
    app = web.Application()
    app[SETTINGS] = settings
    app[OFFICE] = Office(Host({}, HostSettings(base=base)), None)  # type: ignore[arg-type]
    guard.install(app, settings, app[OFFICE].host.folders)
    app.middlewares.append(page.otherwise(settings))
    for table in tables:
        app.add_routes(table)
    server = TestServer(app)
    await server.start_server(access_log_class=Discreet)
    async with TestClient(server) as client:
        yield client


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


async def raw(client: TestClient[Any, Any], text: str | bytes, wait: float = 5.0) -> Reply:
    """Send bytes as they are, and read until the server hangs up or the answer is whole."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        writer.write(text if isinstance(text, bytes) else text.encode())
        async with asyncio.timeout(wait):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers["content-length"])) if "content-length" in headers else b""
        return Reply(int(first.split()[1]), headers, body)
    finally:
        writer.close()


async def said(client: TestClient[Any, Any], method: str, path: str, **options: Any) -> Reply:
    """An ordinary request, not redirected."""
    async with client.request(method, path, allow_redirects=False, **options) as answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Reply(answer.status, headers, await answer.read())
