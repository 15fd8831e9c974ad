"""Pictures laid out as their captions say: RGBA onto a background, whole or small, in the middle or to a side."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .captions import BACKGROUNDS, PLACES, Scene

Pixels = npt.NDArray[np.uint8]


def compose(full: Pixels, small: Pixels, scene: Scene) -> Pixels:
    """A scene of one picture, given as (64, 64, 4) and (36, 36, 4) RGBA: (64, 64, 3) RGB."""
    size, drawn = full.shape[0], small if scene.small else full
    colour = (255, 255, 255) if scene.background is None else BACKGROUNDS[scene.background]
    canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = colour
    middle = (size - drawn.shape[0]) // 2
    left, top = (middle, middle) if scene.place is None else PLACES[scene.place]
    window = canvas[top : top + drawn.shape[0], left : left + drawn.shape[1]]
    alpha = drawn[..., 3:].astype(np.float32) / 255  # (s, s, 1)
    window[:] = window * (1 - alpha) + drawn[..., :3] * alpha
    return np.rint(canvas).astype(np.uint8)
