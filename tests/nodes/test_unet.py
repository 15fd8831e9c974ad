"""Guide: what a UNet is told, and within which noise levels that is exaggerated."""

from __future__ import annotations

import math

import pytest
import torch
from limner.core.diffusion import parameterisation
from limner.core.values import Conditioning
from limner.nodes.unet import guide


def test_a_guider_holds_what_it_was_given(model, words):
    guider = guide(model, words.prompt, words.nothing, 5.0, rescale=0.7)
    assert (guider.model, guider.positive, guider.negative) == (model, words.prompt, words.nothing)
    assert (guider.scale, guider.rescale) == (5.0, 0.7)
    assert guider.interval == (0.0, math.inf)


def test_parts_of_the_timesteps_become_noise_levels(model, words):
    low, high = guide(model, words.prompt, start=0.25, end=0.75).interval
    table = parameterisation.table(model.sampling)
    assert (low, high) == (table[round(0.25 * 99)].item(), table[round(0.75 * 99)].item())


def test_guidance_that_ends_before_it_starts_is_refused(model, words):
    with pytest.raises(ValueError, match=r"must start before it ends, not at 0\.6 and 0\.4"):
        guide(model, words.prompt, start=0.6, end=0.4)


@pytest.mark.parametrize("which", ["positive", "negative"])
def test_a_text_read_by_an_encoder_that_the_unet_does_not_know_is_refused(which, model, words):
    texts = {"positive": words.prompt, "negative": words.nothing} | {which: Conditioning(torch.zeros(1, 3, 768))}
    with pytest.raises(
        ValueError, match="this UNet reads tokens of 16 numbers, not 768: it knows another text encoder"
    ):
        guide(model, **texts)
