"""Small pictures for lists: made once, beside the event loop, and kept among the files that may go."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from ..errors import ImageFileError, StorageError, UsageError
from ..files import opened, write
from ..folders import Folders
from ..pictures import opening
from .guard import Refused
from .keys import OFFICE
from .renditions import decoding

SIDE = 256  # pixels, at most
QUALITY = 80
KEPT = 500  # files


async def thumbnail(request: web.Request, picture: Mapping[str, str]) -> web.Response:
    """The answer with a small form of a picture, which is named as ComfyUI names pictures."""
    folders = request.app[OFFICE].host.folders
    content, tag = await decoding(request, _made, folders, picture)
    headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
    if any(known.value == tag for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=content, content_type="image/webp", headers=headers)


def _made(folders: Folders, picture: Mapping[str, str]) -> tuple[bytes, str]:
    name = "/".join(part for part in (picture["subfolder"], picture["filename"]) if part)
    try:
        with opened(folders.pictures(picture["type"] or "output"), name) as file:
            return _kept(folders.temp / "thumbnails", file, name)
    except (OSError, UsageError, ImageFileError):
        raise Refused(404, "no_picture", f"the picture {name!r} is not there any more, or cannot be read") from None


def _kept(folder: Path, file: BinaryIO, name: str) -> tuple[bytes, str]:
    stats = os.fstat(file.fileno())
    mark = f"{name}\0{stats.st_dev} {stats.st_ino} {stats.st_size} {stats.st_mtime_ns}"
    tag = blake2b(mark.encode(), digest_size=16).hexdigest()
    path = folder / f"{tag}.webp"
    with suppress(OSError):
        return path.read_bytes(), tag
    content = small(file, name)
    with suppress(StorageError):  # then it is made again
        write(path, content, durable=False)
        _tidy(folder)
    return content, tag


def small(file: BinaryIO, name: str) -> bytes:
    """The picture as WebP of at most `SIDE` pixels a side."""
    with opening(file, name) as picture:
        picture.draft("RGB", (SIDE * 2, SIDE * 2))  # a JPEG need not be decoded in full
        plain = picture.convert("RGBA" if "A" in picture.getbands() or "transparency" in picture.info else "RGB")
        plain.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    plain.save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()


def _tidy(folder: Path) -> None:
    """Forget the oldest ones."""
    files = sorted(folder.glob("*.webp"), key=lambda path: path.stat().st_mtime)
    for path in files[:-KEPT]:
        with suppress(OSError):
            path.unlink()
