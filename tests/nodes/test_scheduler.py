"""Schedules: levels that fall to 0, as many as steps were asked for, from where the model has them."""

from __future__ import annotations

import pytest
import torch
from limner.core.diffusion import parameterisation
from limner.core.diffusion.schedules import SCHEDULES
from limner.core.values import Sigmas
from limner.nodes import scheduler

KINDS = {
    **{kind: lambda model, kind=kind, **k: scheduler.schedule(model, kind, **k) for kind in SCHEDULES},
    "karras node": scheduler.karras_schedule,
    "exponential node": scheduler.exponential_schedule,
    "beta node": scheduler.beta_schedule,
    "flow node": lambda model, **k: scheduler.flow_schedule(**k),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_a_schedule_falls_to_0_in_as_many_steps_as_were_asked_for(kind, steps, model):
    levels = KINDS[kind](model, steps=steps).values
    assert levels.shape == (steps + 1,)
    assert levels.dtype == torch.float64
    assert levels.device.type == "cpu"
    assert (levels.diff() < 0).all()
    assert levels[-1] == 0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("flow node", "ddim_uniform")])
def test_a_schedule_begins_at_the_models_highest_level(kind, model):
    highest = parameterisation.sigma_max(model.sampling)
    assert KINDS[kind](model, steps=9).values[0].item() == pytest.approx(highest)


@pytest.mark.parametrize("kind", KINDS)
def test_denoise_takes_the_end_of_a_longer_schedule(kind, model):
    part, whole = KINDS[kind](model, steps=5, denoise=0.5).values, KINDS[kind](model, steps=10).values
    torch.testing.assert_close(part, whole[5:])
    assert KINDS[kind](model, steps=5, denoise=0.0).values.tolist() == [0]


def test_karras_schedules_may_end_where_one_likes(model):
    levels = scheduler.karras_schedule(model, 4, sigma_min=0.1, sigma_max=5.0).values
    assert (levels[0].item(), levels[-2].item()) == (pytest.approx(5), pytest.approx(0.1))
    plain = scheduler.exponential_schedule(model, 3, sigma_min=0.01, sigma_max=1.0).values
    assert plain.tolist() == pytest.approx([1, 0.1, 0.01, 0])


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (-1.0, 1.0), (None, 1e-9)])
def test_ends_that_are_the_wrong_way_round_are_refused(low, high, model):
    with pytest.raises(ValueError, match="sigma_min must be above 0 and below sigma_max"):
        scheduler.karras_schedule(model, sigma_min=low, sigma_max=high)


def test_a_flow_schedule_is_even_and_its_shift_lingers_at_high_noise():
    assert scheduler.flow_schedule(4).values.tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert scheduler.flow_schedule(4, 3.0).values.tolist() == pytest.approx([1, 0.9, 0.75, 0.5, 0])


def test_a_split_schedule_meets_at_one_level(model):
    whole = scheduler.schedule(model, steps=10)
    high, low = scheduler.split_sigmas(whole, 4)
    assert high.values.tolist() == whole.values[:5].tolist()
    assert low.values.tolist() == whole.values[4:].tolist()


def test_a_flipped_schedule_rises_and_flipped_again_is_itself(model):
    whole = scheduler.schedule(model, steps=10)
    flipped = scheduler.flip_sigmas(whole)
    assert (flipped.values.diff() > 0).all()
    assert scheduler.flip_sigmas(flipped).values.equal(whole.values)


def test_schedules_are_not_changed_by_what_is_made_of_them():
    whole = Sigmas(torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64))
    scheduler.flip_sigmas(whole)
    scheduler.split_sigmas(whole, 1)
    assert whole.values.tolist() == [3, 1, 0]
