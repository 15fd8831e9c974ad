"""Pictures: read, saved, shown, and put side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from ..core.schema import Choice, Context, InputFile, Multiline, Range, node
from ..core.values import Files, Image, Mask

if TYPE_CHECKING:
    from torch import Tensor


class Loaded(NamedTuple):
    """A picture, and where it is transparent."""

    image: Image
    mask: Mask


@node("image")
def load_image(
    name: Annotated[str, InputFile(), "A PNG, JPEG or WebP file in the folder input."], *, context: Context
) -> Loaded:
    """Read a picture.  The mask is 1 where it is transparent."""
    from ..core import pictures

    pixels, mask = pictures.load(context.library.input(name))
    return Loaded(Image(pixels), Mask(mask))


@node("image", delivers=True)
def save_image(
    image: Image,
    prefix: Annotated[str, "How the files' names begin; a/b makes a folder a."] = "limner",
    workflow: Annotated[bool, "Write the workflow into the picture, so that it can be opened again."] = True,
    *,
    context: Context,
) -> Files:
    """Save pictures as PNG in the folder output."""
    texts = {"limner": context.document, "prompt": context.prompt} if workflow else {}
    return saved(image, context.output, prefix, texts)


@node("image", delivers=True)
def preview_image(image: Image, *, context: Context) -> Files:
    """Show pictures without keeping them: they go to the folder temp, and never carry the workflow."""
    return saved(image, context.temp, "preview", {})


@node("image")
def resize_image(
    image: Image,
    width: Annotated[int, Range(1, 16384), "Pixels."] = 64,
    height: Annotated[int, Range(1, 16384), "Pixels."] = 64,
    method: Annotated[str, Choice("lanczos", "bicubic", "bilinear", "nearest")] = "lanczos",
) -> Image:
    """Scale pictures to a size."""
    import numpy as np
    import torch
    from PIL import Image as Pillow

    filters = {
        "lanczos": Pillow.Resampling.LANCZOS,
        "bicubic": Pillow.Resampling.BICUBIC,
        "bilinear": Pillow.Resampling.BILINEAR,
        "nearest": Pillow.Resampling.NEAREST,
    }
    planes = image.pixels.permute(0, 3, 1, 2)  # (B, 3, H, W)
    scaled = [  # Pillow scales in float only what has one channel
        [np.asarray(Pillow.fromarray(p.cpu().numpy()).resize((width, height), filters[method])) for p in picture]
        for picture in planes
    ]
    pixels = torch.from_numpy(np.array(scaled)).permute(0, 2, 3, 1)  # (B, height, width, 3)
    return Image(pixels.clamp(0, 1).contiguous())


@node("image")
def join_images(
    first: Image,
    second: Image | None = None,
    third: Image | None = None,
    fourth: Image | None = None,
    fifth: Image | None = None,
    sixth: Image | None = None,
    seventh: Image | None = None,
    eighth: Image | None = None,
) -> Image:
    """Make one batch of several; all must have the size of the first."""
    images = (first, second, third, fourth, fifth, sixth, seventh, eighth)
    return joined([image.pixels for image in images if image is not None])


@node("image")
def image_grid(
    image: Image,
    columns: Annotated[int, Range(1, 64), "Pictures in a row."] = 4,
    labels: Annotated[str, Multiline(), "One line for each picture, written under it."] = "",
    gap: Annotated[int, Range(0, 256), "Pixels between pictures."] = 4,
    scale: Annotated[int, Range(1, 16), "Each pixel becomes so many, for small pictures."] = 1,
) -> Image:
    """Put the pictures of a batch side by side."""
    import torch

    words = labels.splitlines()
    band = 16 if words else 0  # pixels under each picture for its label
    pictures = image.pixels.cpu().repeat_interleave(scale, 1).repeat_interleave(scale, 2)  # (B, H, W, 3)
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    across, down = width + gap, height + band + gap
    sheet = torch.ones(rows * down + gap, min(columns, count) * across + gap, 3)
    for k, pixels in enumerate(pictures):
        top, left = gap + k // columns * down, gap + k % columns * across
        sheet[top : top + height, left : left + width] = pixels
        if k < len(words) and words[k]:
            sheet[top + height : top + height + band, left : left + width] = _label(words[k], width, band)
    return Image(sheet[None])


def joined(parts: Sequence[Tensor]) -> Image:
    """One batch of several (B, H, W, 3), which must be of one size."""
    import torch

    sizes = {tuple(part.shape[1:3]) for part in parts}
    if len(sizes) > 1:
        found = ", ".join(f"{w} x {h}" for h, w in sorted(sizes))
        raise ValueError(f"pictures of one batch have one size, not {found}: resize them first")
    return Image(torch.cat([part.cpu() for part in parts]))


def _label(words: str, width: int, height: int) -> Tensor:
    """Words in dark grey on white: (height, width, 3)."""
    import numpy as np
    import torch
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    picture = Pillow.new("RGB", (width, height), "white")
    ImageDraw.Draw(picture).text((width / 2, height / 2), words, "#333333", ImageFont.load_default(11), anchor="mm")
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)


def saved(image: Image, folder: Path, prefix: str, texts: Mapping[str, Any], ending: str = ".png") -> Files:
    """Write each picture of a batch to a file of its own, with `texts` in it as JSON by keyword."""
    from ..core import files, pictures

    chunks = {keyword: json.dumps(data) for keyword, data in texts.items() if data is not None}
    paths = (
        files.numbered(folder, prefix, ending, partial(pictures.write, pixels=pixels, texts=chunks))
        for pixels in image.pixels
    )
    return Files(tuple(str(path.absolute()) for path in paths))
