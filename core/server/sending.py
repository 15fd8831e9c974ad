"""One file to a browser: opened safely, sent whole or in part, and shown in place only if it is of a harmless type."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import quote

from aiohttp import ETag, web

from ..files import opened
from .refusal import Refused

UNKNOWN = "application/octet-stream"
PICTURES: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".avif": "image/avif",
    ".bmp": "image/bmp",
}
POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"  # of what others have made
CHUNK = 256 << 10  # bytes


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes of a file that are asked for."""

    start: int
    stop: int
    size: int  # of the whole file

    @property
    def whole(self) -> bool:
        """Whether that is all of it."""
        return self.stop - self.start == self.size


async def served(
    request: web.Request, root: Path, name: str, types: Mapping[str, str] = PICTURES, policy: str = POLICY
) -> web.StreamResponse:
    """The file `name` below `root`.  What ends in one of `types` is shown in place; all else is for saving."""
    try:
        file = await asyncio.to_thread(opened, root, name)
    except (OSError, ValueError):
        raise Refused(404, "not_found", f"there is no file {name!r}") from None
    with file:
        return await _sent(request, file, {**described(name, types), "Content-Security-Policy": policy})


def described(name: str, types: Mapping[str, str] = PICTURES, kind: str | None = None) -> dict[str, str]:
    """What a browser is told of a file: its type, and whether to show it."""
    path = PurePosixPath(name)
    shown = kind or types.get(path.suffix.lower())
    place = "inline" if shown else "attachment"
    return {
        "Content-Type": shown or UNKNOWN,
        "Content-Disposition": f'{place}; filename="{_ascii(path.name)}"{_encoded(path.name)}',
        "Cache-Control": "no-cache",  # to be asked for again, with the ETag
    }


async def _sent(request: web.Request, file: BinaryIO, headers: dict[str, str]) -> web.StreamResponse:
    stats = os.fstat(file.fileno())
    tag = f"{stats.st_mtime_ns:x}-{stats.st_size:x}"
    marks = {"ETag": f'"{tag}"', "Last-Modified": formatdate(stats.st_mtime, usegmt=True), "Accept-Ranges": "bytes"}
    if _known(request.if_none_match, tag):
        return web.Response(status=304, headers={**headers, **marks})
    part = _part(request, stats.st_size, tag)
    span = {} if part.whole else {"Content-Range": f"bytes {part.start}-{part.stop - 1}/{part.size}"}
    answer = web.StreamResponse(status=206 if span else 200, headers={**headers, **marks, **span})
    answer.content_length = part.stop - part.start
    await answer.prepare(request)
    if request.method != "HEAD":
        file.seek(part.start)
        await _poured(file, part.stop - part.start, answer)
    await answer.write_eof()
    return answer


async def _poured(file: BinaryIO, left: int, answer: web.StreamResponse) -> None:
    while left and (chunk := await asyncio.to_thread(partial(file.read, min(left, CHUNK)))):
        left -= len(chunk)
        await answer.write(chunk)


def _known(tags: tuple[ETag, ...] | None, tag: str) -> bool:
    return any(known.value in (tag, "*") for known in tags or ())


def _part(request: web.Request, size: int, tag: str) -> Part:
    """What of the file is asked for; all of it where that cannot be told, or where another file was meant."""
    meant = request.headers.get("If-Range")
    try:
        asked = request.http_range if meant in (None, f'"{tag}"') else slice(None, None, 1)
    except ValueError:
        asked = slice(None, None, 1)
    start, stop, _ = asked.indices(size)
    if start >= stop and size:
        raise Refused(416, "no_such_range", f"the file has {size} bytes", headers={"Content-Range": f"bytes */{size}"})
    return Part(start, stop, size) if size else Part(0, 0, 0)


def _ascii(name: str) -> str:
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "_" for c in name)


def _encoded(name: str) -> str:
    """The name as it is, where ASCII cannot say it (RFC 5987)."""
    return "" if _ascii(name) == name else f"; filename*=UTF-8''{quote(name, safe='')}"
