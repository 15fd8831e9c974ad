"""Sample: each picture from its own seed, alone or in a batch, whole or in parts, and never waiting for a device."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from limner.core.diffusion import noise
from limner.core.diffusion.samplers import SAMPLERS
from limner.core.trees import mapped
from limner.core.values import Latent, Mask, Progress, Seeds, Sigmas
from limner.nodes.latent import empty_latent, fitted, mask_latent
from limner.nodes.sampler import sample
from limner.nodes.scheduler import flip_sigmas, flow_schedule, schedule, split_sigmas
from limner.nodes.unet import guide

DETERMINISTIC = [name for name, sampler in SAMPLERS.items() if not sampler.stochastic or sampler.eta == 0]
ONE_STEP = [
    name for name in DETERMINISTIC if name in ("euler", "heun", "dpm_2", "ddim")
]  # that remember no step before
PAIRS = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def guider(model, words):
    return guide(model, words.prompt, words.nothing, 3.0)


@pytest.fixture
def sigmas(model):
    return schedule(model, "karras", 6)


@pytest.fixture
def drawn(run, guider, sigmas, model, context):
    """A latent drawn with these settings."""

    def draw(**inputs):
        given = {"guider": guider, "sigmas": sigmas, "latent": empty_latent(model, 32, 32), "seed": 3}
        return run(sample(**(given | inputs), context=context)).samples

    return draw


def picture(seed: int = 0, count: int = 1) -> Latent:
    return Latent(torch.randn(count, 4, 4, 4, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_the_same_again_and_another_picture_from_another_seed(sampler, drawn):
    once = drawn(sampler=sampler)
    assert once.shape == (1, 4, 4, 4)
    assert once.isfinite().all()
    assert once.dtype == torch.float32
    torch.testing.assert_close(drawn(sampler=sampler), once, **PAIRS)
    assert (drawn(sampler=sampler, seed=4) - once).abs().max() > 0.01


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_picture_k_of_a_batch_is_the_picture_that_seed_plus_k_gives_alone(sampler, drawn, model):
    batch = drawn(sampler=sampler, latent=empty_latent(model, 32, 32, 3), seed=7)
    alone = torch.cat([drawn(sampler=sampler, seed=7 + k) for k in range(3)])
    torch.testing.assert_close(batch, alone, **PAIRS)


def test_listed_seeds_take_the_place_of_seed_and_one_latent_serves_all_of_them(drawn, model):
    listed = drawn(seeds=Seeds((9, 2, 9)), seed=100)
    assert len(listed) == 3
    torch.testing.assert_close(listed[0], drawn(seed=9)[0], **PAIRS)
    torch.testing.assert_close(listed[1], drawn(seed=2)[0], **PAIRS)
    torch.testing.assert_close(listed[2], listed[0], **PAIRS)
    beside = drawn(seeds=Seeds((9, 2)), latent=empty_latent(model, 32, 32, 2))
    torch.testing.assert_close(beside, listed[:2], **PAIRS)


def test_more_seeds_than_pictures_are_refused(drawn, model):
    with pytest.raises(ValueError, match="there are 3 seeds for 2 images"):
        drawn(seeds=Seeds((1, 2, 3)), latent=empty_latent(model, 32, 32, 2))


def test_a_picture_taken_out_of_a_batch_keeps_its_noise(drawn, model):
    batch = drawn(latent=empty_latent(model, 32, 32, 3))
    second = replace(empty_latent(model, 32, 32), batch_index=(2,))
    torch.testing.assert_close(drawn(latent=second)[0], batch[2], **PAIRS)


@pytest.mark.parametrize("sampler", ONE_STEP)
@pytest.mark.parametrize("step", [1, 3, 5])
def test_the_parts_of_a_split_schedule_give_what_the_whole_gives(sampler, step, drawn, sigmas):
    high, low = split_sigmas(sigmas, step)
    half = Latent(drawn(sampler=sampler, sigmas=high))
    whole = drawn(sampler=sampler)
    assert (half.samples - whole).abs().max() > 0.01
    torch.testing.assert_close(drawn(sampler=sampler, sigmas=low, latent=half, add_noise=False), whole, **PAIRS)


@pytest.mark.parametrize("step", [6, 7, 100])
def test_a_schedule_cut_at_or_after_its_end_leaves_nothing_to_do(step, drawn, sigmas):
    high, low = split_sigmas(sigmas, step)
    whole = drawn(sampler="euler")
    torch.testing.assert_close(drawn(sampler="euler", sigmas=high), whole, **PAIRS)
    rest = drawn(sampler="euler", sigmas=low, latent=Latent(whole), add_noise=False)
    torch.testing.assert_close(rest, whole, **PAIRS)


def test_a_schedule_cut_at_its_beginning_only_adds_the_noise(drawn, sigmas):
    high, low = split_sigmas(sigmas, 0)
    noisy = Latent(drawn(sampler="euler", sigmas=high))
    torch.testing.assert_close(
        drawn(sampler="euler", sigmas=low, latent=noisy, add_noise=False), drawn(sampler="euler"), **PAIRS
    )


@pytest.mark.parametrize("denoise", [0.0, 0.3, 0.7])
def test_the_less_is_denoised_the_more_stays_of_the_picture(denoise, drawn, model):
    start = picture()
    changed = [
        (drawn(latent=start, sigmas=schedule(model, "karras", 6, part)) - start.samples).pow(2).mean()
        for part in (denoise, denoise + 0.3)
    ]
    assert changed[0] < changed[1]
    if denoise == 0:
        torch.testing.assert_close(changed[0], torch.tensor(0.0), **PAIRS)


def test_walking_up_a_schedule_and_down_again_comes_back(drawn, flow, words):
    guider = guide(flow, words.prompt)
    sigmas = flow_schedule(40, 1.0, 0.8)
    start = picture()
    common = {"guider": guider, "sampler": "heun", "add_noise": False}
    there = drawn(latent=start, sigmas=flip_sigmas(sigmas), **common)
    assert (there - start.samples).abs().max() > 0.5
    back = drawn(latent=Latent(there), sigmas=sigmas, **common)
    torch.testing.assert_close(back, start.samples, rtol=0, atol=2e-3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_a_mask_keeps_stays_as_it_was_and_the_rest_changes(sampler, drawn):
    start = picture(count=2)
    mask = Mask(torch.zeros(1, 32, 32))
    mask.values[:, :, 16:] = 1
    done = drawn(sampler=sampler, latent=mask_latent(start, mask))
    torch.testing.assert_close(done[..., :2], start.samples[..., :2], **PAIRS)
    assert (done[..., 2:] - start.samples[..., 2:]).abs().amax(dim=(1, 2, 3)).min() > 0.1


def test_a_mask_of_ones_is_no_mask(drawn):
    start = picture()
    everywhere = mask_latent(start, Mask(torch.ones(1, 32, 32)))
    torch.testing.assert_close(drawn(latent=everywhere), drawn(latent=start), **PAIRS)


def test_a_mask_on_what_is_noisy_already_is_refused(drawn):
    with pytest.raises(ValueError, match="its noise hides what is to be kept"):
        drawn(latent=mask_latent(picture(), Mask(torch.ones(1, 8, 8))), add_noise=False)


def test_latents_of_another_models_channels_are_refused(drawn):
    with pytest.raises(ValueError, match="the model takes latents of 4 channels, not 16"):
        drawn(latent=Latent(torch.ones(1, 16, 4, 4)))


def test_an_empty_latent_takes_the_channels_cells_and_zero_of_the_model(drawn, model):
    native = drawn()
    for samples, cells in [(torch.zeros(1, 16, 4, 4), 8), (torch.zeros(1, 1, 2, 2), 16), (torch.zeros(1, 4, 8, 8), 4)]:
        torch.testing.assert_close(drawn(latent=Latent(samples, cells=cells)), native, rtol=0, atol=0)


def test_an_empty_latent_of_several_pictures_keeps_its_mask_and_where_they_come_from(model):
    latent = Latent(torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8), (4, 7), cells=4)
    one = fitted(latent, model.latent)
    assert (one.samples.shape, one.noise_mask.shape, one.batch_index, one.cells) == (
        (2, 4, 4, 4),
        (2, 1, 4, 4),
        (4, 7),
        8,
    )
    assert one.samples.unique().tolist() == [model.latent.shift]


def test_an_ancestral_sampler_with_eta_0_adds_no_noise(drawn):
    torch.testing.assert_close(drawn(sampler="euler_ancestral", eta=0.0), drawn(sampler="euler"), **PAIRS)
    usual = drawn(sampler="euler_ancestral")
    torch.testing.assert_close(drawn(sampler="euler_ancestral", eta=1.0), usual, **PAIRS)
    assert (usual - drawn(sampler="euler")).abs().max() > 0.01


def test_the_noise_of_an_sde_is_one_path_however_many_steps_walk_along_it(drawn, model):
    def walked(steps: int, seed: int):
        return drawn(sampler="dpmpp_2m_sde", sigmas=schedule(model, "karras", steps), seed=seed)

    coarse, fine, other = walked(30, 3), walked(60, 3), walked(60, 4)
    assert (fine - coarse).pow(2).mean() < 0.002 * (fine - other).pow(2).mean()  # with new noise a step: 0.02


def test_a_flow_model_is_drawn_with_its_own_levels(drawn, flow, words):
    guider = guide(flow, words.prompt, words.nothing, 2.0)
    done = drawn(guider=guider, sigmas=schedule(flow, "simple", 5), latent=empty_latent(flow, 32, 32))
    assert done.isfinite().all()


def followed(work, said=None):
    """All that a long node says on its way; a call is answered with nothing."""
    said, answers = [] if said is None else said, None
    while True:
        try:
            said.append(work.send(answers))
        except StopIteration:
            return said
        answers = None if isinstance(said[-1], Progress) else [call.x * 0 for call in said[-1]]


def test_progress_counts_the_steps_and_shows_the_first_picture(guider, sigmas, model, context):
    work = sample(guider, sigmas, empty_latent(model, 32, 32, 2), sampler="euler", context=context)
    progress = [said for said in followed(work) if isinstance(said, Progress)]
    assert [(p.done, p.total) for p in progress] == [(k, 6) for k in range(1, 7)]
    assert all(p.preview.shape == (1, 4, 4, 4) for p in progress)


def first(latent, guider, sigmas, context, **settings):
    """The x that a network is shown first."""
    work = sample(guider, sigmas, latent, seed=3, sampler="euler", context=context, **settings)
    return next(work)[0].x


def test_an_empty_latent_begins_with_all_the_noise_and_a_picture_with_its_own_in_it(guider, sigmas, model, context):
    highest, drawn_noise = sigmas.values[0].item(), noise.start(3, (1, 4, 4, 4))
    empty = first(empty_latent(model, 32, 32), guider, sigmas, context)
    torch.testing.assert_close(empty, drawn_noise * (1 + highest**2) ** 0.5)
    start = picture()
    scaled = (start.samples - model.latent.shift) * model.latent.scale
    torch.testing.assert_close(first(start, guider, sigmas, context), scaled + drawn_noise * highest)
    torch.testing.assert_close(first(start, guider, sigmas, context, add_noise=False), scaled)


@pytest.mark.parametrize(
    ("settings", "calls"),
    [({}, 4), ({"scale": 1.0}, 2), ({"negative": None}, 2), ({"start": 0.9, "end": 0.9}, 2)],
)
def test_all_pictures_and_both_texts_go_in_one_round_and_no_text_that_counts_for_nothing(
    settings, calls, model, words, sigmas, context
):
    given = {"negative": words.nothing, "scale": 3.0} | settings
    work = sample(
        guide(model, words.prompt, **given), sigmas, empty_latent(model, 32, 32, 2), sampler="euler", context=context
    )
    rounds = Counter(len(said) for said in followed(work) if isinstance(said, list))
    assert max(rounds) == calls
    assert sum(rounds.values()) == 6


class Elsewhere:
    """Networks on a device whose numbers nobody can read: whatever waits for it fails."""

    def place(self, value):
        return mapped(value, lambda tensor: tensor.to("meta"))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("masked", [False, True])
def test_nothing_inside_the_steps_waits_for_the_device(sampler, masked, guider, sigmas, context, monkeypatch):
    latent = picture(count=2)
    if masked:
        latent = mask_latent(latent, Mask(torch.rand(1, 32, 32)))
    work = sample(guider, sigmas, latent, sampler=sampler, context=replace(context, networks=Elsewhere()))
    said = []
    with pytest.raises(NotImplementedError, match="no data"):  # the result, when all is done, is brought back
        followed(work, said)
    assert said[-1].done == 6
    assert all(call.x.device.type == "meta" for calls in said if isinstance(calls, list) for call in calls)


def test_a_latent_and_its_mask_are_not_changed(drawn):
    latent = mask_latent(picture(), Mask(torch.rand(1, 32, 32)))
    before = latent.samples.clone(), latent.noise_mask.clone()
    drawn(latent=latent)
    assert latent.samples.equal(before[0])
    assert latent.noise_mask.equal(before[1])


def test_a_schedule_that_turns_round_is_refused(drawn):
    with pytest.raises(ValueError, match="turn round"):
        drawn(sigmas=Sigmas(torch.tensor([5.0, 1.0, 3.0, 0.0], dtype=torch.float64)))
