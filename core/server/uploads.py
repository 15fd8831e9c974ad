"""Pictures that clients send: /upload/image and /upload/mask."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import file_digest
from itertools import count
from pathlib import Path, PurePosixPath
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from aiohttp import BodyPartReader, web

from .. import strict_json
from ..files import opened, placed, replacing, safe_join
from ..folders import PICTURES, Folders
from . import renditions
from .bodies import Pace, too_large
from .files import folders
from .keys import SETTINGS
from .refusal import Refused

routes = web.RouteTableDef()

IN_MEMORY = 8 << 20  # bytes of a file that is received; more goes to the disk
MOST_FIELDS = 20
LONGEST_FIELD = 64 << 10  # bytes


@dataclass(slots=True)
class Form:
    """What a form has sent: a file, and texts by name."""

    file: BinaryIO
    name: str = ""  # of the file; "": none was sent
    texts: dict[str, str] = field(default_factory=dict)


@routes.post("/upload/image")
async def image(request: web.Request) -> web.Response:
    """Put a picture into a folder.  One that is there already, under this name, is not stored twice."""
    async with received(request) as form:
        return web.json_response(await renditions.decoding(request, _image, form, folders(request)))


@routes.post("/upload/mask")
async def mask(request: web.Request) -> web.Response:
    """Put a picture into a folder that is another one, with the alpha of the one sent."""
    async with received(request) as form:
        return web.json_response(await renditions.decoding(request, _mask, form, folders(request)))


@asynccontextmanager
async def received(request: web.Request) -> AsyncIterator[Form]:
    """The form that a request carries."""
    if not request.content_type.startswith("multipart/"):
        raise Refused(400, "no_form", "a picture is sent as a form: multipart/form-data")
    with SpooledTemporaryFile(IN_MEMORY) as spool:
        form = Form(cast("BinaryIO", spool))
        await _read(request, form)
        if not form.name:
            raise Refused(400, "no_image", "the form has no file `image`")
        form.file.seek(0)
        yield form


async def _read(request: web.Request, form: Form) -> None:
    most = request.app[SETTINGS].max_upload_size
    if (request.content_length or 0) > most + MOST_FIELDS * LONGEST_FIELD:
        raise too_large(most)
    pace = Pace(request)
    try:
        reader = await request.multipart()
    except (AssertionError, ValueError, RuntimeError):
        raise Refused(400, "bad_form", "the form has no boundary") from None
    while (part := await pace.of(reader.next)) is not None:
        if not isinstance(part, BodyPartReader):
            raise Refused(400, "bad_form", "the form has a form in it")
        if part.name == "image" and part.filename:
            form.name = part.filename
            form.file.seek(0)
            form.file.truncate()
            async for chunk in _chunks(part, pace, most):
                form.file.write(chunk)
        elif len(form.texts) < MOST_FIELDS:
            content = b"".join([chunk async for chunk in _chunks(part, pace, LONGEST_FIELD)])
            form.texts[part.name or ""] = content.decode(errors="replace")
        else:
            raise Refused(400, "bad_form", f"the form has more than {MOST_FIELDS} fields")


async def _chunks(part: BodyPartReader, pace: Pace, most: int) -> AsyncIterator[bytes]:
    size = 0
    while chunk := await pace.of(part.read_chunk):
        pace.received += len(chunk)
        size += len(chunk)
        if size > most:
            raise too_large(most)
        yield bytes(chunk)


def _image(form: Form, folders: Folders) -> dict[str, str]:
    return _stored(form, folders, form.file, renditions.suffix(form.file, form.name))


def _mask(form: Form, folders: Folders) -> dict[str, str]:
    with _original(form.texts.get("original_ref", ""), folders) as original:
        content = renditions.masked(original, form.file, form.name)
    with SpooledTemporaryFile(IN_MEMORY) as whole:
        whole.write(content)
        return _stored(form, folders, cast("BinaryIO", whole), ".png")


def _original(said: str, folders: Folders) -> BinaryIO:
    """The picture that a mask is for, named as `{"filename", "subfolder", "type"}`."""
    if not said:
        raise Refused(400, "bad_form", "the form has no `original_ref`, which says whose mask it is")
    try:
        meant = strict_json.loads(said)
    except ValueError as error:
        raise Refused(400, "bad_form", f"`original_ref` {error}") from None
    if not isinstance(meant, dict) or not all(isinstance(text, str) for text in meant.values()):
        raise Refused(400, "bad_form", "`original_ref` must be an object of texts")
    root, name = folders.place(meant.get("filename", ""), meant.get("type") or "output")
    try:
        return opened(root, "/".join(filter(None, (meant.get("subfolder"), name))))
    except OSError:
        raise Refused(404, "not_found", f"there is no picture {name!r}") from None


def _stored(form: Form, folders: Folders, content: BinaryIO, suffix: str) -> dict[str, str]:
    """Give what is in `content` a name that is free, or the one it has already; say which."""
    kind = form.texts.get("type") or "input"
    subfolder = form.texts.get("subfolder", "")
    root = safe_join(folders.pictures(kind), subfolder) if subfolder else folders.pictures(kind)
    named = PurePosixPath(form.name).suffix.lower() in PICTURES
    path = safe_join(root, form.name if named else form.name + suffix)
    fill = partial(_copied, content)
    if form.texts.get("overwrite", "").lower() in ("true", "1"):
        with replacing(path) as temporary:
            fill(temporary)
    else:
        path = placed(path, _names(path), fill, partial(_same, content))
    return {"name": path.relative_to(root).as_posix(), "subfolder": subfolder, "type": kind}


def _names(path: Path) -> Iterator[Path]:
    yield path
    for number in count(1):
        yield path.with_stem(f"{path.stem} ({number})")


def _copied(content: BinaryIO, path: Path) -> None:
    content.seek(0)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)


def _same(content: BinaryIO, path: Path) -> bool:
    """Whether a file holds just this."""
    if not path.is_file():
        return False
    content.seek(0)
    with path.open("rb") as file:
        return _digest(file) == _digest(content)


def _digest(file: BinaryIO) -> bytes:
    found: Any = file_digest(cast("Any", file), "sha256")
    return bytes(found.digest())
