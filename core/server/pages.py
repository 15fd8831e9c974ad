"""What is the same for everybody until the nodes change: built once, sent packed, and not sent to who has it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from aiohttp import web
from aiohttp.hdrs import ACCEPT_ENCODING

LEVEL = 5  # of gzip


@dataclass(frozen=True, slots=True)
class Page:
    """A body of JSON, ready to be sent."""

    body: bytes
    packed: bytes
    tag: str  # names this content

    @classmethod
    def of(cls, data: Any) -> Page:
        """The page of this data, which may hold what foreign nodes say of themselves."""
        body = json.dumps(plain(data), ensure_ascii=False, allow_nan=False).encode()
        return cls(body, gzip.compress(body, LEVEL, mtime=0), blake2b(body, digest_size=16).hexdigest())


class Pages:
    """Pages by name, each built when it is first asked for, and again when `version` gives another answer."""

    def __init__(self, version: Callable[[], str]) -> None:
        self._version = version
        self._built: dict[str, tuple[str, Page]] = {}

    async def page(self, name: str, build: Callable[[], Any]) -> Page:
        """The page called `name`, of the data that `build` gives.  Built beside the event loop."""
        return await asyncio.to_thread(self._page, name, build)

    def _page(self, name: str, build: Callable[[], Any]) -> Page:
        version = self._version()
        if name not in self._built or self._built[name][0] != version:
            self._built[name] = version, Page.of(build())
        return self._built[name][1]


def plain(value: Any) -> Any:
    """`value` as JSON has it: numbers that it does not have become null, other things what they call themselves."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def sent(request: web.Request, page: Page) -> web.Response:
    """The answer with a page, or without it where the client has it."""
    headers = {"ETag": f'W/"{page.tag}"', "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if any(tag.value in (page.tag, "*") for tag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    packed = "gzip" in request.headers.get(ACCEPT_ENCODING, "")
    headers |= {"Content-Encoding": "gzip"} if packed else {}
    body = page.packed if packed else page.body
    return web.Response(body=body, content_type="application/json", charset="utf-8", headers=headers)


PAGES: web.AppKey[Pages] = web.AppKey("pages", Pages)
