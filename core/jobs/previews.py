"""Half-done pictures as small JPEGs: a guess at colours from the latent's first channels, never scaled up to much."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 256  # pixels of the longer side
SCALE = 8  # at most: pixels of a cell of the latent
ENDS = (0.02, 0.98)  # the part of the values that black and white lie at


def shown(preview: Any) -> dict[str, bytes]:
    """What to show of a preview: {"jpeg": ...}, or nothing where it is none that can be shown.

    It is a latent (1, C, h, w), or what foreign nodes call a preview: "JPEG" or "PNG", a picture of Pillow's, and its
    largest side or None.  A PNG is a result, which some of them send this way: it is told as {"png": ...}, as it is.
    """
    try:
        if not isinstance(preview, tuple):
            return {"jpeg": _encoded(_picture(preview), "JPEG", LARGEST)}
        kind, picture, largest = preview
        if kind == "PNG":
            return {"png": _encoded(picture, "PNG", largest)}
        return {"jpeg": _encoded(picture.convert("RGB"), "JPEG", min(largest or LARGEST, LARGEST))}
    except Exception:  # whatever a node calls a preview: it is no reason to fail
        return {}


def is_result(preview: Any) -> bool:
    """Whether it is one that a node sends on purpose, to whoever has asked for its work."""
    return isinstance(preview, tuple) and preview[:1] == ("PNG",)


def _encoded(picture: Any, kind: str, largest: int | None) -> bytes:
    if largest is not None and max(picture.size) > largest:
        picture = picture.copy()
        picture.thumbnail((largest, largest))
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=80)
    return buffer.getvalue()


def _picture(latent: Tensor) -> Any:
    from PIL import Image

    channels = latent[0].detach().float().cpu().nan_to_num()  # (C, h, w): it waits for the device, as somebody looks
    planes = channels[:3] if channels.shape[0] >= 3 else channels[:1].expand(3, -1, -1)
    flat = planes.reshape(3, -1)
    low, high = (flat.quantile(end, dim=1)[:, None, None] for end in ENDS)
    colours = ((planes - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)  # (3, h, w)
    picture = Image.fromarray((colours * 255).byte().permute(1, 2, 0).numpy())
    scale = max(1, min(SCALE, LARGEST // max(picture.size)))
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BILINEAR)
