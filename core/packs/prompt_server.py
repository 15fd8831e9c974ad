"""The server as packs know it: they add routes, look at prompts before they run, and push messages to editors."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..call import CALLING

if TYPE_CHECKING:
    from aiohttp.web import RouteTableDef

Send = Callable[[str | int, Any, str | None], None]  # event, data, and whose socket; None: everybody's
Handler = Callable[[dict[str, Any]], dict[str, Any]]

PREVIEW, UNENCODED, TEXT = 1, 2, 3  # kinds of binary messages
FORMATS = {"JPEG": 1, "PNG": 2}

LOG = logging.getLogger("limner.packs")


class PromptServer:
    """What packs find at `PromptServer.instance`.  The running server `connect`s itself; before that nobody listens."""

    def __init__(self) -> None:
        from aiohttp.web import RouteTableDef

        self.routes: RouteTableDef = RouteTableDef()
        self.on_prompt_handlers: list[Handler] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.supports = ["custom_nodes_from_web"]
        self._send: Send | None = None

    @property
    def client_id(self) -> str | None:
        """The client whose job it is, where that is asked for in a call."""
        return _owner("client_id")

    @property
    def last_prompt_id(self) -> str | None:
        """The job that is running, where that is asked for in a call."""
        return _owner("prompt_id")

    @property
    def last_node_id(self) -> str | None:
        """The node that is being called, where it is asked for in that call."""
        calling = CALLING.get(None)
        return calling.node if calling else None

    def connect(self, send: Send) -> None:
        """From now on messages go through `send`, which any thread may call."""
        self._send = send
        with suppress(RuntimeError):  # no loop is running here
            self.loop = asyncio.get_running_loop()

    def send_sync(self, event: str | int, data: Any, sid: str | None = None) -> None:
        """Push a message to one socket, or to all; from any thread.  What cannot be sent is told of in the log."""
        if self._send is None:
            return
        try:
            kind, told = _told(event, data)
        except Exception:  # whatever a pack calls data: it is no reason for its node to fail
            LOG.warning("what a pack sends as %r cannot be sent", event, exc_info=True)
        else:
            self._send(kind, told, sid)

    def send_progress_text(self, text: str | bytes, node_id: str, sid: str | None = None) -> None:
        """Show a text at a node that runs; from any thread."""
        node, words = str(node_id).encode(), text.encode() if isinstance(text, str) else text
        self.send_sync(TEXT, struct.pack(">I", len(node)) + node + words, sid)

    async def send(self, event: str | int, data: Any, sid: str | None = None) -> None:
        """Push a message to one socket, or to all."""
        self.send_sync(event, data, sid)

    async def send_json(self, event: str, data: Any, sid: str | None = None) -> None:
        """Push a message to one socket, or to all."""
        self.send_sync(event, data, sid)

    async def send_bytes(self, event: int, data: bytes, sid: str | None = None) -> None:
        """Push a binary message to one socket, or to all."""
        self.send_sync(event, data, sid)

    def add_routes(self) -> None:
        """Nothing to do: the server takes `routes` when all packs are loaded."""

    def add_on_prompt_handler(self, handler: Handler) -> None:
        """Have `handler` see every body of POST /prompt, and change it, before it is looked at."""
        self.on_prompt_handlers.append(handler)

    def trigger_on_prompt(self, body: dict[str, Any]) -> dict[str, Any]:
        """`body` as the handlers leave it.  One that fails is told of in the log, and the others go on."""
        for handler in self.on_prompt_handlers:
            try:
                body = handler(body)
            except (Exception, SystemExit):  # a pack's mistake must not stop other people's prompts
                LOG.exception("a pack's prompt handler failed")
        return body


def _told(event: str | int, data: Any) -> tuple[str | int, Any]:
    """A message as it can be sent: in JSON, or in bytes."""
    if not isinstance(event, int):
        return event, json.loads(json.dumps(data, default=_other, skipkeys=True), parse_constant=lambda _: None)
    return (PREVIEW, _encoded(*data)) if event == UNENCODED else (int(event), bytes(data))


def _other(value: Any) -> Any:
    """What JSON does not have: a number of some library's, or else its text."""
    try:
        return value.item()
    except Exception:
        return str(value)


def _encoded(kind: str, picture: Any, largest: int | None) -> bytes:
    """The data of a preview: its format, and the file."""
    if largest is not None and max(picture.size) > largest:
        picture = picture.copy()
        picture.thumbnail((largest, largest))
    buffer = io.BytesIO()
    (picture.convert("RGB") if kind == "JPEG" else picture).save(buffer, kind, quality=95)
    return struct.pack(">I", FORMATS[kind]) + buffer.getvalue()


def _owner(name: str) -> str | None:
    calling = CALLING.get(None)
    return (calling.owner.get(name) or None) if calling else None
