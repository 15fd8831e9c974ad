"""GET /ws: a client's socket, from its opening to its end."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any
from uuid import uuid4

from aiohttp import ClientError, WSCloseCode, WSMessage, WSMsgType, web

from .keys import HERALD
from .sockets import Socket

LARGEST = 4 << 20  # bytes of a message from a client
MOST = 1000, 10.0  # messages in so many seconds: more is a flood

routes = web.RouteTableDef()


@routes.get("/ws", allow_head=False)
async def connect(request: web.Request) -> web.StreamResponse:
    """Tell a client of its jobs, until it goes."""
    response = web.WebSocketResponse(max_msg_size=LARGEST, autoping=False, compress=False)
    await response.prepare(request)
    socket = Socket(request.query.get("clientId") or uuid4().hex, response, request.transport)
    herald = request.app[HERALD]
    herald.welcome(socket)
    pouring = asyncio.create_task(_pour(socket))
    try:
        await _listen(response, socket, request)
    finally:
        herald.leave(socket)
        pouring.cancel()
    return response


async def _pour(socket: Socket) -> None:
    with suppress(ConnectionError, ClientError):  # gone: the listener hears of it, too
        await socket.pour()


async def _listen(response: web.WebSocketResponse, socket: Socket, request: web.Request) -> None:
    """Read what the client says.  Pings count as well."""
    most, seconds = MOST
    loop = asyncio.get_running_loop()
    count, until = 0, loop.time() + seconds
    async for message in response:
        if loop.time() > until:
            count, until = 0, loop.time() + seconds
        count += 1
        if count > most:
            await socket.close(WSCloseCode.POLICY_VIOLATION, "too many messages")
        elif message.type is WSMsgType.PING:
            await response.pong(message.data)
        elif (flags := _flags(message)) is not None:
            request.app[HERALD].shake(socket, flags)


def _flags(message: WSMessage) -> dict[str, Any] | None:
    """What a client says that it understands; None where it says something else."""
    if message.type is not WSMsgType.TEXT:
        return None
    try:
        said = json.loads(message.data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("type") != "feature_flags":
        return None
    return said["data"] if isinstance(said.get("data"), dict) else {}
