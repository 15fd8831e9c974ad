"""Planes of numbers scaled as ComfyUI's methods do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def scaled(planes: Tensor, width: int, height: int, method: str, crop: str) -> Tensor:
    """Planes (B, C, H, W) as (B, C, height, width).

    A side that is 0 follows from the other one.  With `crop` "center" the middle of the right proportions is taken.
    """
    from torch.nn.functional import interpolate

    rows, columns = planes.shape[2:]
    if not width and not height:
        return planes
    width = width or max(1, round(columns * height / rows))
    height = height or max(1, round(rows * width / columns))
    if crop == "center":
        planes = _middle(planes, width / height)
    if method == "lanczos":
        return _lanczos(planes, width, height)
    return interpolate(planes, size=(height, width), mode=method)


def _middle(planes: Tensor, proportion: float) -> Tensor:
    """As much of the middle as is `proportion` times as wide as it is high."""
    rows, columns = planes.shape[2:]
    across = round(max(columns - rows * proportion, 0) / 2)  # pixels to leave out at each side
    down = round(max(rows - columns / proportion, 0) / 2)
    return planes[:, :, down : rows - down, across : columns - across]


def _lanczos(planes: Tensor, width: int, height: int) -> Tensor:
    """Pillow's filter, plane by plane: it scales in float only what has one channel."""
    import numpy as np
    import torch
    from PIL import Image as Pillow

    flat = planes.cpu().reshape(-1, *planes.shape[2:]).numpy()  # (B C, H, W)
    found = [np.asarray(Pillow.fromarray(p).resize((width, height), Pillow.Resampling.LANCZOS)) for p in flat]
    return torch.from_numpy(np.array(found)).clamp(0, 1).reshape(*planes.shape[:2], height, width)
