"""Pictures to and from files.  The only module that opens images: their size is capped before they are decoded."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .errors import ImageFileError
from .files import reason

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.PngImagePlugin import PngInfo
    from torch import Tensor

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 64_000_000
ORIENTATION = 0x0112
TEXTS = ("limner", "prompt", "workflow")
COMFYUI_TEXT = b"comf"  # the chunk of texts that ComfyUI has for animations
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt", COMFYUI_TEXT)
EXIF_TEXTS = (0x0110, 0x010F, 0x010E)  # where ComfyUI keeps `keyword:text` in WebP: Model, Make and what stands before


def load(path: Path) -> tuple[Tensor, Tensor]:
    """A picture as (1, H, W, 3) float32 in [0, 1], and its transparency as (1, H, W): 1 where nothing is.

    Turned as its EXIF says.  Raises `ImageFileError`.
    """
    import numpy as np
    import torch

    with opening(path) as picture:
        rgba = np.asarray(_eight_bits(_upright(picture)).convert("RGBA"), dtype=np.float32) / 255
    pixels = torch.from_numpy(rgba)
    return pixels[None, :, :, :3].contiguous(), 1 - pixels[None, :, :, 3]


def write(path: Path, pixels: Tensor, texts: Mapping[str, str] | None = None) -> None:
    """Write (H, W, 3) in [0, 1] as PNG, with `texts` as its text chunks."""
    picture(pixels).save(path, "PNG", pnginfo=_chunks(texts or {}), compress_level=4)


def png(pixels: Tensor) -> bytes:
    """The same, without a file."""
    buffer = io.BytesIO()
    picture(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def picture(pixels: Tensor) -> Picture:
    """A Pillow image of (H, W, 3) in [0, 1]."""
    from PIL import Image

    return Image.fromarray(pixels.detach().cpu().nan_to_num().clamp(0, 1).mul(255).round().byte().numpy())


def texts(path: Path) -> dict[str, str]:
    """The workflows that a PNG (text chunks) or a WebP (EXIF) carries, by keyword."""
    with opening(path) as opened:
        opened.load()  # PNG chunks may come after the pixels
        found = {k: v for k, v in opened.info.items() if isinstance(k, str) and isinstance(v, str)}
        if opened.format == "PNG" and getattr(opened, "is_animated", False):
            found = dict(_behind_frames(path.read_bytes())) | found
        exif = opened.getexif()
        for tag in EXIF_TEXTS:
            keyword, _, text = str(exif.get(tag, "")).partition(":")
            if keyword in TEXTS:  # else it is a camera's name
                found.setdefault(keyword, text)
    return found


def carrying(path: Path, texts: Mapping[str, str]) -> bytes:
    """A copy of a PNG with other texts, which may have ASCII letters only; its pixels are not touched."""
    with opening(path) as opened:
        if opened.format != "PNG":
            raise ImageFileError(path, f"is {opened.format}; workflows are written into PNG only")
        opened.load()
    made = [_chunk(b"tEXt", keyword.encode() + b"\0" + text.encode("ascii")) for keyword, text in texts.items()]
    head, *rest = _parts(path.read_bytes())
    others = [part for part in rest if part[4:8] not in PNG_TEXTS or _keyword(part) not in texts]
    return b"".join([b"\x89PNG\r\n\x1a\n", head, *made, *others])


@contextmanager
def opening(source: Path | BinaryIO, name: object = None) -> Iterator[Picture]:
    """A picture whose size is known to be fit, not decoded yet.  Errors, in the block too, call it `name`."""
    from PIL import Image, UnidentifiedImageError

    path = source if name is None else name
    if isinstance(source, Path) and not source.is_file():  # a pipe would never end
        raise ImageFileError(path, "is not there" if not source.exists() else "is no file")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # of its own, higher cap, and of EXIF that is damaged
            with Image.open(source, formats=FORMATS) as opened:
                width, height = opened.size
                if width * height > MOST_PIXELS:
                    raise ImageFileError(path, f"is {width} x {height}, more than {MOST_PIXELS // 10**6} megapixels")
                yield opened
    except UnidentifiedImageError:
        raise ImageFileError(path, f"is no picture that can be read; those are: {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ImageFileError(path, f"is larger than {MOST_PIXELS // 10**6} megapixels") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        detail = reason(error) if isinstance(error, OSError) else str(error)
        raise ImageFileError(path, f"is damaged: {detail}") from None


def _parts(content: bytes) -> Iterator[bytes]:
    """The chunks of a PNG, each with its length before it and its checksum behind."""
    at = 8
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "big") + 12
        yield content[at : at + length]
        at += length


def _behind_frames(content: bytes) -> Iterator[tuple[str, str]]:
    """The texts of an animation of ComfyUI's: a reader of the first frame does not come to them."""
    for part in _parts(content):
        if part[4:8] == COMFYUI_TEXT:
            keyword, _, text = part[8:-4].partition(b"\0")
            yield keyword.decode("latin-1"), text.decode("latin-1")


def _chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    body = kind + content
    return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def _keyword(part: bytes) -> str:
    return part[8:].partition(b"\0")[0].decode("latin-1")


def _chunks(texts: Mapping[str, str]) -> PngInfo:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    return info


def _upright(picture: Picture) -> Picture:
    """Turned as its EXIF says.  Pillow's own way writes that anew, and fails where it is odd."""
    from PIL.Image import Transpose

    turns = (
        Transpose.FLIP_LEFT_RIGHT,
        Transpose.ROTATE_180,
        Transpose.FLIP_TOP_BOTTOM,
        Transpose.TRANSPOSE,
        Transpose.ROTATE_270,
        Transpose.TRANSVERSE,
        Transpose.ROTATE_90,
    )
    turn = dict(enumerate(turns, 2)).get(picture.getexif().get(ORIENTATION, 1))
    return picture if turn is None else picture.transpose(turn)


def _eight_bits(picture: Picture) -> Picture:
    """Sixteen-bit grey as eight-bit grey; Pillow would cut it off at white."""
    if not picture.mode.startswith("I"):
        return picture
    return picture.convert("I").point(lambda value: value / 256).convert("L")
