"""Reading what clients send: no more than is wanted, no longer than is decent, and JSON through one reader."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from .. import strict_json
from .keys import SETTINGS
from .refusal import Refused

T = TypeVar("T")

JSON_LIMIT = 32 << 20  # bytes of a body in JSON
QUICK = 1 << 20  # bytes of JSON that are read at once; more is read beside the event loop
SLOWEST = 16 << 10  # bytes a second that a sender must keep up
BROKEN = web.RequestPayloadError, web.PayloadAccessError, HttpProcessingError, ConnectionError, ValueError
CLOSE = {"Connection": "close"}  # what is left of the body is in the way of another request
WANTED: Any = object()  # no body is an error


async def read_json(request: web.Request, *, most: int = JSON_LIMIT, empty: Any = WANTED) -> Any:
    """The JSON that was sent, whatever its type is called.  `empty` is what no body at all stands for."""
    body = await read_body(request, most)
    if not body and empty is not WANTED:
        return empty
    try:
        if body.startswith(codecs.BOM_UTF8):
            raise ValueError("begins with a byte order mark, which JSON does not have")
        return strict_json.loads(body) if len(body) < QUICK else await asyncio.to_thread(strict_json.loads, body)
    except ValueError as error:
        raise Refused(400, "invalid_json", f"the body {error}") from None


async def read_object(request: web.Request, *, most: int = JSON_LIMIT, empty: Any = WANTED) -> dict[str, Any]:
    """The same, of which an object is expected."""
    found = await read_json(request, most=most, empty=empty)
    if not isinstance(found, dict):
        raise Refused(400, "invalid_json", "the body must be a JSON object")
    return found


async def read_body(request: web.Request, most: int) -> bytes:
    """All that was sent, unpacked.  Refuses more than `most` bytes, before reading them where that can be known."""
    body = bytearray()
    async for chunk in read_chunks(request, most):
        body += chunk
    return bytes(body)


async def read_chunks(request: web.Request, most: int) -> AsyncIterator[bytes]:
    """What was sent, piece by piece."""
    if (request.content_length or 0) > most:
        raise too_large(most)
    pace = Pace(request)
    while chunk := await pace.of(request.content.readany):
        pace.received += len(chunk)
        if pace.received > most:
            raise too_large(most)
        yield chunk


class Pace:
    """How fast a body comes.  A sender may neither fall silent nor drip."""

    def __init__(self, request: web.Request) -> None:
        self.received = 0
        self._patience = request.app[SETTINGS].patience
        self._began = asyncio.get_running_loop().time()

    async def of(self, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` gives, if it comes in time."""
        now = asyncio.get_running_loop().time()
        late = min(now, self._began + self.received / SLOWEST) + self._patience
        try:
            async with asyncio.timeout_at(late):
                return await read()
        except TimeoutError:
            raise Refused(408, "too_slow", "the body came too slowly", headers=CLOSE) from None
        except BROKEN:
            words = "the body breaks off, or is not packed as it says"
            raise Refused(400, "bad_body", words, headers=CLOSE) from None


def too_large(most: int) -> Refused:
    """The answer to a body of more than `most` bytes."""
    size = f"{most >> 20} MB" if most >> 20 else f"{most} bytes"
    return Refused(413, "too_large", f"the body is larger than {size}", headers=CLOSE, most=most)
