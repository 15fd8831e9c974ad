"""Pictures under ComfyUI's ids: read, saved, shown, made and counted out."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from datetime import datetime
from secrets import token_hex
from typing import Annotated, Any, NamedTuple

from ...core.schema import Choice, Context, InputFile, Range, Says, node
from ...core.values import Files, Image, Mask
from .. import image as native
from .latent import LARGEST

METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
LONGEST_KEYWORD = 79  # letters, of a text in a PNG


class Loaded(NamedTuple):
    """A picture, and where it is transparent."""

    IMAGE: Image
    MASK: Mask


@node("image", namespace="", name="LoadImage", label="Load Image")
def load_image(
    *,
    image: Annotated[
        str,
        InputFile(),
        Says({"image_upload": True}),
        "A picture in the folder input; with [output] or [temp] behind its name, in that one.",
    ],
    context: Context,
) -> Loaded:
    """Read a picture.  The mask is 1 where it is transparent."""
    return Loaded(*native.load_image(image, context=context))


@node("image", namespace="", name="SaveImage", label="Save Image", delivers=True)
def save_image(
    *,
    images: Image,
    filename_prefix: Annotated[
        str,
        "How the files' names begin; a/b makes a folder a.  %year% %month% %day% %hour% %minute% %second% %width% "
        "%height% and %batch_num% are filled in.",
    ] = "ComfyUI",
    context: Context,
) -> Files:
    """Save pictures as PNG in the folder output, with the workflow in them."""
    import torch

    prefix, texts = _prefix(filename_prefix, images, datetime.now()), _texts(context)
    each = (
        native.saved(Image(picture), context.output, prefix.replace("%batch_num%", str(k)), texts, "_.png")
        for k, picture in enumerate(torch.split(images.pixels, 1))
    )
    return Files(tuple(path for files in each for path in files.paths))


@node("image", namespace="", name="PreviewImage", label="Preview Image", delivers=True)
def preview_image(*, images: Image, context: Context) -> Files:
    """Show pictures without keeping them: they go to the folder temp."""
    return native.saved(images, context.temp, f"ComfyUI_temp_{token_hex(3)}", _texts(context), "_.png")


@node("image", namespace="", name="EmptyImage", label="EmptyImage")
def empty_image(
    *,
    width: Annotated[int, Range(1, LARGEST, 1), "Pixels."] = 512,
    height: Annotated[int, Range(1, LARGEST, 1), "Pixels."] = 512,
    batch_size: Annotated[int, Range(1, 4096), "How many pictures."] = 1,
    color: Annotated[int, Range(0, 0xFFFFFF, 1), Says({"display": "color"}), "Red, green and blue as 0xRRGGBB."] = 0,
) -> Image:
    """Make pictures of one colour."""
    import torch

    colour = torch.tensor([color >> 16 & 0xFF, color >> 8 & 0xFF, color & 0xFF]) / 0xFF
    return Image(colour.expand(batch_size, height, width, 3).contiguous())


@node("image/batch", namespace="", name="RebatchImages", label="Rebatch Images")
def rebatch_images(
    *,
    images: Annotated[Sequence[Image], "A list of batches."],
    batch_size: Annotated[Sequence[int], Range(1, 4096), "How many pictures make a batch."] = (1,),
) -> Sequence[Image]:
    """Count all pictures of a list out into batches of one size; the last may be smaller."""
    import torch

    pictures = [picture for batch in images for picture in torch.split(batch.pixels, 1)]  # (1, H, W, 3) each
    size = batch_size[0]
    return [native.joined(pictures[k : k + size]) for k in range(0, len(pictures), size)]


@node("image/upscaling", namespace="", name="ImageScale", label="Upscale Image")
def image_scale(
    *,
    image: Image,
    upscale_method: Annotated[str, Choice(*METHODS), "How pixels are made of pixels."],
    width: Annotated[int, Range(0, LARGEST, 1), "Pixels; 0 keeps the proportions."] = 512,
    height: Annotated[int, Range(0, LARGEST, 1), "Pixels; 0 keeps the proportions."] = 512,
    crop: Annotated[str, Choice("disabled", "center"), "Whether the middle is cut out rather than anything squeezed."],
) -> Image:
    """Scale pictures to a size."""
    from .scaling import scaled

    planes = image.pixels.movedim(-1, 1)  # (B, 3, H, W)
    return Image(scaled(planes, width, height, upscale_method, crop).movedim(1, -1).contiguous())


@node("image", namespace="", name="ImageInvert", label="Invert Image")
def image_invert(*, image: Image) -> Image:
    """Turn light into dark and dark into light."""
    return Image(1.0 - image.pixels)


@node("image", namespace="", name="ImageBatch", label="Batch Images")
def image_batch(*, image1: Image, image2: Image) -> Image:
    """Make one batch of two; the second is scaled to the size of the first."""
    from .scaling import scaled

    height, width = image1.pixels.shape[1:3]
    planes = image2.pixels.movedim(-1, 1)  # (B, 3, H, W)
    fitting = scaled(planes, width, height, "bilinear", "center").movedim(1, -1)
    return Image(native.joined([image1.pixels, fitting.contiguous()]).pixels)


def _texts(context: Context) -> dict[str, Any]:
    """What is written into a picture: what the client wants in it, the workflow, and what ran."""
    if context.prompt is None:
        return {}
    extra = {k: v for k, v in (context.extra or {}).items() if 0 < len(k) <= LONGEST_KEYWORD and k.isascii()}
    return {**extra, "limner": context.document, "prompt": context.prompt}


def _prefix(prefix: str, image: Image, now: datetime) -> str:
    """The prefix with its blanks filled in, and its folders as this system has them."""
    height, width = image.pixels.shape[1:3]
    known: dict[str, object] = {"width": width, "height": height, "year": now.year}
    known |= {name: f"{getattr(now, name):02}" for name in ("month", "day", "hour", "minute", "second")}
    for name, value in known.items():
        prefix = prefix.replace(f"%{name}%", str(value))
    prefix = prefix.replace("\\", "/")
    return posixpath.normpath(prefix) if prefix else prefix
