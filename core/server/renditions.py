"""Other forms of a picture that a browser may want: smaller, without its alpha, or the alpha alone."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, ParamSpec, TypeVar

from aiohttp import web

from ..errors import UsageError
from ..pictures import opening

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

P = ParamSpec("P")
T = TypeVar("T")

DECODERS: web.AppKey[asyncio.Semaphore] = web.AppKey("decoders")
AT_ONCE = 2  # pictures decoded for browsers: each may take half a gigabyte
FORMATS = {"webp": "WEBP", "jpeg": "JPEG"}
QUALITY = 90
COMPRESSION = 4  # of PNG
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}


async def decoding(request: web.Request, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `act` makes of pictures, beside the event loop, and of few at a time."""
    async with request.app[DECODERS]:
        return await asyncio.to_thread(act, *args, **kwargs)


class Rendition(NamedTuple):
    """A picture made anew."""

    content: bytes
    type: str


def preview(source: BinaryIO, name: str, wanted: str, channel: str) -> Rendition:
    """The picture as `wanted` says, as in `webp;90` and `jpeg;75`."""
    said, _, quality = wanted.partition(";")
    kind = said if said in FORMATS else "webp"
    percent = min(max(int(quality), 1), 100) if quality.isascii() and quality.isdecimal() else QUALITY
    with opening(source, name) as picture:
        plain = picture.convert("RGB" if kind == "jpeg" or channel == "rgb" else "RGBA")
    return Rendition(_saved(plain, FORMATS[kind], quality=percent), f"image/{kind}")


def colours(source: BinaryIO, name: str) -> Rendition:
    """The picture without its alpha."""
    with opening(source, name) as picture:
        return Rendition(_saved(picture.convert("RGB"), "PNG", compress_level=COMPRESSION), "image/png")


def alpha(source: BinaryIO, name: str) -> Rendition:
    """The picture's alpha over black."""
    from PIL import Image

    with opening(source, name) as picture:
        band = picture.convert("RGBA").getchannel("A")
    black = Image.new("RGBA", band.size)
    black.putalpha(band)
    return Rendition(_saved(black, "PNG", compress_level=COMPRESSION), "image/png")


def suffix(source: BinaryIO, name: str) -> str:
    """What the name of a file with this picture ends in.  The picture is decoded: half a picture is none."""
    with opening(source, name) as picture:
        picture.load()
        return SUFFIXES[picture.format or "PNG"]


def masked(original: BinaryIO, mask: BinaryIO, name: str) -> bytes:
    """The original as PNG with the alpha of the mask, and with the texts that it carries."""
    from PIL.PngImagePlugin import PngInfo

    with opening(mask, name) as picture:
        band = picture.convert("RGBA").getchannel("A")
    with opening(original, "the original") as picture:
        whole = picture.convert("RGBA")  # decodes it: texts may come after the pixels
        texts = {k: v for k, v in picture.info.items() if isinstance(k, str) and isinstance(v, str)}
    if whole.size != band.size:
        raise UsageError(f"the mask is {_size(band)}, and its original {_size(whole)}")
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    whole.putalpha(band)
    return _saved(whole, "PNG", pnginfo=info, compress_level=COMPRESSION)


def _size(picture: Picture) -> str:
    return f"{picture.width} x {picture.height}"


def _saved(picture: Picture, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
