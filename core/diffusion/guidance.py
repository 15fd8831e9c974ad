"""Guidance: one ask of a sampler becomes rounds of calls of the network, and their answers one answer.

`denoise` yields the calls of a round and is sent what they denoised; it calls nothing itself.  The answers are combined
by plain functions of denoised images, one for each paper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..values import Answer, Call
from .parameterisation import as_velocity, denoised, output

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import Tensor

    from ..values import Ask, Conditioning, Guider

    Rounds = Generator[list[Call], list[Tensor], Answer]


def denoise(guider: Guider, ask: Ask) -> Rounds:
    """D(x; sigma) with guidance: one round of one call, or of two where guidance acts at this sigma."""
    if guider.negative is None or not acts(guider, ask.sigma):
        (cond,) = yield [_call(guider, ask, guider.positive)]
        return Answer(cond)
    cond, uncond = yield [_call(guider, ask, guider.positive), _call(guider, ask, guider.negative)]
    guided = classifier_free(cond, uncond, guider.scale)
    if guider.rescale:
        guided = rescaled(guider, ask, guided, cond)
    return Answer(guided, uncond)


def acts(guider: Guider, sigma: float) -> bool:
    """Whether guidance changes anything at this sigma (its interval: arXiv:2404.07724)."""
    low, high = guider.interval
    return guider.negative is not None and guider.scale != 1 and low <= sigma <= high


def classifier_free(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (arXiv:2207.12598), eq. 6, whose w is scale - 1."""
    return uncond + scale * (cond - uncond)


def rescaled(guider: Guider, ask: Ask, guided: Tensor, cond: Tensor) -> Tensor:
    """Guidance with the contrast of the conditional answer (arXiv:2305.08891), eq. 15 and 16, on velocities."""
    velocity, phi = as_velocity(guider.model.sampling), guider.rescale
    v_cfg, v_pos = (output(velocity, d, ask.x, ask.sigma) for d in (guided, cond))
    std_cfg, std_pos = (v.std(dim=(1, 2, 3), keepdim=True) for v in (v_cfg, v_pos))  # (1, 1, 1, 1)
    v_rescaled = v_cfg * (std_pos / std_cfg.clamp_min(1e-12))
    return denoised(velocity, phi * v_rescaled + (1 - phi) * v_cfg, ask.x, ask.sigma)


def _call(guider: Guider, ask: Ask, conditioning: Conditioning) -> Call:
    return Call(guider.model, ask.x, ask.sigma, conditioning)
