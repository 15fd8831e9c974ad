"""Guidance, counted in calls and held to its papers' equations."""

import math

import pytest
import torch
from limner.core.diffusion import guidance
from limner.core.diffusion.parameterisation import as_velocity, output
from limner.core.values import Ask, Conditioning, Guider

YES, NO = Conditioning(torch.ones(1, 2, 3)), Conditioning(torch.zeros(1, 2, 3))
ASK = Ask(torch.full((1, 4, 2, 2), 8.0), 2.0, 0)


def asked(guider, answers, ask=ASK):
    """The rounds of calls that a guider makes, and its answer."""
    rounds, work = [], guidance.denoise(guider, ask)
    try:
        calls = next(work)
        while True:
            rounds.append(calls)
            calls = work.send([answers(call.conditioning) for call in calls])
    except StopIteration as end:
        return rounds, end.value


def images(conditioning):
    """What is denoised with the prompt, and what without."""
    return torch.full((1, 4, 2, 2), 3.0 if conditioning is YES else 1.0)


def test_guidance_is_one_round_of_two_calls_and_goes_beyond_the_prompt(model):
    guider = Guider(model(), YES, NO, scale=7.0)
    (calls,), answer = asked(guider, images)
    assert [call.conditioning for call in calls] == [YES, NO]
    assert all((call.model, call.x is ASK.x, call.sigma) == (guider.model, True, 2.0) for call in calls)
    assert answer.denoised.unique().tolist() == [1 + 7 * (3 - 1)]
    assert answer.uncond.unique().tolist() == [1.0]


@pytest.mark.parametrize(
    "options",
    [
        {"negative": NO, "scale": 1.0},
        {"negative": None, "scale": 7.0},
        {"negative": NO, "scale": 7.0, "interval": (0.0, 1.9)},
        {"negative": NO, "scale": 7.0, "interval": (2.1, math.inf)},
    ],
)
def test_where_guidance_changes_nothing_one_call_is_enough(options, model):
    (calls,), answer = asked(Guider(model(), YES, **options), images)
    assert [call.conditioning for call in calls] == [YES]
    assert answer.denoised.unique().tolist() == [3.0]
    assert answer.uncond is None


@pytest.mark.parametrize("interval", [(2.0, 3.0), (1.0, 2.0)])
def test_both_ends_of_the_interval_belong_to_it(interval, model):
    (calls,), _ = asked(Guider(model(), YES, NO, 7.0, interval), images)
    assert len(calls) == 2


def test_a_scale_of_zero_is_the_answer_without_the_prompt(model):
    _, answer = asked(Guider(model(), YES, NO, 0.0), images)
    assert answer.denoised.unique().tolist() == [1.0]


@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "flow"])
def test_rescaled_guidance_has_the_contrast_of_the_prompts_velocity(prediction, model):
    ask = Ask(torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)), 0.6, 0)
    told, untold = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(2))

    def answers(conditioning):
        return told if conditioning is YES else untold

    plain, half, full = (
        asked(Guider(model(prediction), YES, NO, 7.0, rescale=phi), answers, ask)[1].denoised for phi in (0.0, 0.5, 1.0)
    )
    velocity = as_velocity(model(prediction).sampling)
    v_plain, v_full, v_told = (output(velocity, d, ask.x, ask.sigma) for d in (plain, full, told))
    torch.testing.assert_close(v_full.std(), v_told.std())
    torch.testing.assert_close(v_full / v_full.std(), v_plain / v_plain.std(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(half, (plain + full) / 2)


def test_rescaling_images_without_contrast_gives_no_nan(model):
    _, answer = asked(Guider(model(), YES, NO, 7.0, rescale=1.0), lambda _: torch.zeros(1, 4, 2, 2))
    assert answer.denoised.isfinite().all()


def test_guiding_reads_nothing_back_from_the_device(model):
    ask = Ask(torch.empty(1, 4, 2, 2, device="meta"), 2.0, 0)
    _, answer = asked(Guider(model(), YES, NO, 7.0, rescale=0.7), lambda _: torch.empty(1, 4, 2, 2, device="meta"), ask)
    assert answer.denoised.device.type == "meta"
