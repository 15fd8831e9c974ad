"""The UNet, told what to draw and how strictly: together they answer what a noisy image would be without its noise."""

from __future__ import annotations

import json
import math
from typing import Annotated

from ..core.schema import Range, node
from ..core.values import Conditioning, Guider, Model


@node("sampling")
def guide(
    model: Annotated[Model, "The UNet."],
    positive: Annotated[Conditioning, "What to draw."],
    negative: Annotated[Conditioning | None, "What to steer away from; most often the empty text."] = None,
    scale: Annotated[
        float, Range(0, 100, 0.1), "How strictly the words are followed (CFG).  1 takes half the time."
    ] = 3.0,
    start: Annotated[float, Range(0, 1, 0.01), "From which part of the model's timesteps on guidance acts."] = 0.0,
    end: Annotated[float, Range(0, 1, 0.01), "Up to which part of them it acts."] = 1.0,
    rescale: Annotated[float, Range(0, 1, 0.01), "How much of the contrast that guidance adds is taken back."] = 0.0,
) -> Guider:
    """Classifier-free guidance (arXiv:2207.12598), within an interval (2404.07724), rescaled (2305.08891)."""
    if start > end:
        raise ValueError(f"guidance must start before it ends, not at {start:g} and {end:g}")
    for text in (positive, negative):
        if text is not None:
            _check(model, text)
    interval = (_sigma(model, end), _sigma(model, start))
    return Guider(model, positive, negative, scale, interval, rescale)


def _check(model: Model, text: Conditioning) -> None:
    wanted, found = json.loads(model.recipe.config).get("context_dim"), text.tokens.shape[2]
    if wanted not in (None, found):
        raise ValueError(f"this UNet reads tokens of {wanted} numbers, not {found}: it knows another text encoder")


def _sigma(model: Model, part: float) -> float:
    """The noise level at `part` of the way: 0 is before the first timestep, 1 after the last."""
    from ..core.diffusion import parameterisation

    if part <= 0 or part >= 1:
        return math.inf if part <= 0 else 0.0
    table = parameterisation.table(model.sampling)
    return float(table[round((1 - part) * (len(table) - 1))])
