"""KSampler beside a loop over the whole batch at once, as ComfyUI has it, written down here for each sampler."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from limner.core.diffusion import parameterisation
from limner.core.diffusion.samplers import SAMPLERS
from limner.core.diffusion.schedules import SCHEDULES
from limner.core.graph import BadValue, coerced
from limner.core.trees import mapped
from limner.core.values import Latent, Mask, Progress, Sigmas
from limner.nodes.comfy import COMFY, sampling
from limner.nodes.comfy import custom_sampling as custom
from limner.nodes.comfy.latent import empty_latent_image, set_latent_noise_mask
from limner.nodes.comfy.sampling import SAMPLER_NAMES, SCHEDULER_NAMES, k_sampler, k_sampler_advanced

CLOSE = {"rtol": 0, "atol": 1e-5}
SEED, STEPS, CFG = 2**63 + 11, 6, 3.0


@pytest.fixture
def drawn(run, words, context):
    """What KSampler makes of these settings."""

    def draw(model, latent_image=None, **settings):
        given = {"seed": SEED, "steps": STEPS, "cfg": CFG, "sampler_name": "euler", "scheduler": "karras"}
        latent = empty_latent_image(width=32, height=32, batch_size=3) if latent_image is None else latent_image
        given |= {"positive": words.prompt, "negative": words.nothing, "latent_image": latent} | settings
        return run(k_sampler(model=model, **given, context=context))

    return draw


@pytest.fixture
def dense(words, context):
    """D(x; sigma) of a whole batch, with guidance: two passes of the network."""

    def denoiser(model, scale=CFG):
        def told(x, sigma, text):
            count = len(x)
            with context.networks.lent(model.recipe) as network, torch.no_grad():
                return parameterisation.denoise(
                    network,
                    model.sampling,
                    model.latent,
                    x,
                    [sigma] * count,
                    text.tokens.expand(count, -1, -1),
                    None,
                    text.pooled.expand(count, -1),
                )

        def guided(x, sigma):
            without = told(x, sigma, words.nothing)
            return without + scale * (told(x, sigma, words.prompt) - without)

        return guided

    return denoiser


def start(shape=(3, 4, 4, 4)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED))


def stream(shape=(3, 4, 4, 4)):
    """The noise of steps: another generator, a batch at a time."""
    generator = torch.Generator().manual_seed(SEED + 1)
    return lambda _s, _t: torch.randn(shape, generator=generator)


def tree(levels, shape=(3, 4, 4, 4)):
    """The noise of SDE samplers: one Brownian tree between the lowest and the highest level."""
    import torchsde

    ends = [float(torch.tensor(level, dtype=torch.float32)) for level in levels if level > 0]
    grown = torchsde.BrownianTree(min(ends), torch.zeros(shape), max(ends), entropy=SEED)

    def noise(s, t):
        low, high = (float(torch.tensor(level, dtype=torch.float32)) for level in (t, s))
        return -grown(low, high) / (high - low) ** 0.5

    return noise


# Each takes D, where to begin, the levels and the noise; s is left for t, as in k-diffusion.


def euler(d, x, levels, noise):
    for s, t in pairwise(levels):
        x = x + (x - d(x, s)) / s * (t - s)
    return x


def heun(d, x, levels, noise):
    for s, t in pairwise(levels):
        slope = (x - d(x, s)) / s
        ahead = x + slope * (t - s)
        x = ahead if t == 0 else x + (slope + (ahead - d(ahead, t)) / t) / 2 * (t - s)
    return x


def dpm_2(d, x, levels, noise):
    for s, t in pairwise(levels):
        slope = (x - d(x, s)) / s
        if t > 0:
            middle = (s * t) ** 0.5
            halfway = x + slope * (middle - s)
            slope = (halfway - d(halfway, middle)) / middle
        x = x + slope * (t - s)
    return x


def lms(d, x, levels, noise):
    """Slopes weighted by the integral of their Lagrange polynomials; the last step is Euler's."""
    import numpy as np

    slopes = []
    for s, t in pairwise(levels):
        denoised = d(x, s)
        slopes = [((x - denoised) / s, s), *slopes][:4]
        if t == 0:
            return denoised
        nodes = np.array([node for _, node in slopes])
        for j, (slope, node) in enumerate(slopes):
            others = np.delete(nodes, j)
            basis = np.poly1d(np.poly(others) / np.prod(node - others)).integ()
            x = x + float(basis(t) - basis(s)) * slope
    return x


def down_and_up(s, t):
    up = min(t, (t**2 * (s**2 - t**2) / s**2) ** 0.5)
    return (t**2 - up**2) ** 0.5, up


def euler_ancestral(d, x, levels, noise):
    for s, t in pairwise(levels):
        down, up = down_and_up(s, t)
        x = x + (x - d(x, s)) / s * (down - s)
        x = x + noise(s, t) * up if t > 0 else x
    return x


def dpm_2_ancestral(d, x, levels, noise):
    for s, t in pairwise(levels):
        down, up = down_and_up(s, t)
        slope = (x - d(x, s)) / s
        if down > 0:
            middle = (s * down) ** 0.5
            halfway = x + slope * (middle - s)
            slope = (halfway - d(halfway, middle)) / middle
        x = x + slope * (down - s)
        x = x + noise(s, t) * up if t > 0 else x
    return x


def dpmpp_2m(d, x, levels, noise):
    before = None
    for k, (s, t) in enumerate(pairwise(levels)):
        denoised = d(x, s)
        h = torch.tensor(s / t).log() if t > 0 else None
        if before is None or t == 0:
            middle = denoised
        else:
            r = float(torch.tensor(levels[k - 1] / s).log() / h)
            middle = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * before
        x = t / s * x + (1 - t / s) * middle
        before = denoised
    return x


def dpmpp_2m_sde(d, x, levels, noise):
    before, h_before = None, None
    for s, t in pairwise(levels):
        denoised = d(x, s)
        if t == 0:
            return denoised
        h = float(torch.tensor(s / t, dtype=torch.float64).log())
        gain = 1 - torch.exp(torch.tensor(-2 * h, dtype=torch.float64)).item()
        x = t / s * torch.exp(torch.tensor(-h)) * x + gain * denoised
        if before is not None:
            x = x + 0.5 * gain * h / h_before * (denoised - before)
        x = x + noise(s, t) * t * gain**0.5
        before, h_before = denoised, h
    return x


def ddpm(d, x, levels, noise):
    """The posterior of a chain whose x has the variance 1."""
    for s, t in pairwise(levels):
        eps = (x - d(x, s)) / s
        bar, bar_before = 1 / (s**2 + 1), 1 / (t**2 + 1)
        alpha = bar / bar_before
        z = x * bar**0.5
        z = (z - (1 - alpha) * eps / (1 - bar) ** 0.5) / alpha**0.5
        if t > 0:
            z = z + ((1 - alpha) * (1 - bar_before) / (1 - bar)) ** 0.5 * noise(s, t)
        x = z / bar_before**0.5
    return x


def lcm(d, x, levels, noise):
    for s, t in pairwise(levels):
        x = d(x, s)
        x = x + t * noise(s, t) if t > 0 else x
    return x


def uni_pc(d, x, levels, noise):
    """Ours, on the whole batch: the maths is held to diffusers elsewhere."""
    return whole_batch("uni_pc", d, x, levels)


def uni_pc_bh2(d, x, levels, noise):
    return whole_batch("uni_pc_bh2", d, x, levels)


def whole_batch(name, d, x, levels):
    from limner.core.values import Answer

    walk = SAMPLERS[name](x, torch.tensor(levels, dtype=torch.float64))
    answer = None
    while True:
        try:
            ask = walk.send(answer)
        except StopIteration as end:
            return end.value
        answer = Answer(d(ask.x, ask.sigma))


LOOPS = {
    f.__name__: f
    for f in (euler, euler_ancestral, heun, dpm_2, dpm_2_ancestral, lms, dpmpp_2m, dpmpp_2m_sde, ddpm, lcm)
} | {"ddim": euler, "uni_pc": uni_pc, "uni_pc_bh2": uni_pc_bh2}


def visited(model, sampler, scheduler, steps, denoise=1.0):
    """The levels as ComfyUI finds them: for some samplers one step more is planned, and the last but one left out."""
    table = parameterisation.table(model.sampling)
    extra = sampler in {"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"}

    def planned(count):
        found = SCHEDULES[scheduler](table, count + extra).tolist()
        return found[:-2] + found[-1:] if extra else found

    found = planned(steps) if denoise == 1 else planned(int(steps / denoise))[-(steps + 1) :]
    return [*found[:-1], 0.001] if sampler.startswith("uni_pc") else found


def looped(model, d, sampler, levels, latent):
    """The loop from end to end: noise, steps, and out of the model's scale."""
    shape = latent.shape
    highest = parameterisation.sigma_max(model.sampling)
    scale = (1 + levels[0] ** 2) ** 0.5 if levels[0] >= highest * (1 - 1e-5) else levels[0]
    x = (latent - model.latent.shift) * model.latent.scale + start(shape) * scale
    noise = tree(levels, shape) if sampler.endswith("_sde") else stream(shape)
    return LOOPS[sampler](d, x, levels, noise) / model.latent.scale + model.latent.shift


def test_the_choices_are_those_samplers_and_schedules_that_there_are():
    assert set(SAMPLER_NAMES) == set(SAMPLERS) == set(LOOPS)
    assert set(SCHEDULER_NAMES) == set(SCHEDULES)


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
@pytest.mark.filterwarnings("ignore:Should have")
def test_a_batch_is_drawn_as_by_a_loop_over_the_whole_batch(sampler, drawn, dense, model):
    levels = visited(model, sampler, "karras", STEPS)
    assert len(levels) == STEPS + 1
    empty = torch.full((3, 4, 4, 4), model.latent.shift)
    torch.testing.assert_close(
        drawn(model, sampler_name=sampler).samples, looped(model, dense(model), sampler, levels, empty), **CLOSE
    )


@pytest.mark.parametrize("scheduler", SCHEDULER_NAMES)
@pytest.mark.parametrize("sampler", ["euler_ancestral", "uni_pc"])
def test_every_schedule_is_walked_whole_and_in_part(scheduler, sampler, drawn, dense, model):
    picture = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    for denoise in (1.0, 0.6):
        levels = visited(model, sampler, scheduler, STEPS, denoise)
        assert len(levels) == STEPS + 1
        found = drawn(model, Latent(picture), sampler_name=sampler, scheduler=scheduler, denoise=denoise)
        torch.testing.assert_close(found.samples, looped(model, dense(model), sampler, levels, picture), **CLOSE)


def test_a_flow_is_drawn_as_by_a_loop(drawn, dense, flow):
    levels = visited(flow, "euler", "simple", STEPS)
    x = start() * levels[0]
    loop = euler(dense(flow), x, levels, None) / flow.latent.scale + flow.latent.shift
    torch.testing.assert_close(drawn(flow, scheduler="simple").samples, loop, **CLOSE)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddpm"])
def test_samplers_that_know_nothing_of_flows_there_know_nothing_of_them_here(sampler, drawn, dense, flow):
    levels = visited(flow, sampler, "simple", STEPS)
    loop = LOOPS[sampler](dense(flow), start() * levels[0], levels, stream())
    found = drawn(flow, scheduler="simple", sampler_name=sampler)
    torch.testing.assert_close(found.samples, loop / flow.latent.scale + flow.latent.shift, **CLOSE)


def test_pictures_of_a_batch_share_one_drawing_and_a_batch_index_picks_from_it(drawn, model):
    batch = drawn(model).samples
    picked = drawn(model, Latent(torch.zeros(2, 4, 4, 4), batch_index=(2, 0)))
    torch.testing.assert_close(picked.samples, batch[[2, 0]], **CLOSE)
    assert picked.batch_index == (2, 0)
    alone = drawn(model, empty_latent_image(width=32, height=32)).samples
    torch.testing.assert_close(alone, batch[:1], **CLOSE)
    assert (
        batch[1] - drawn(model, empty_latent_image(width=32, height=32), seed=SEED + 1).samples[0]
    ).abs().max() > 0.01


def test_seeds_of_64_bits_are_not_rounded(drawn, model):
    spec = COMFY["KSampler"].input("seed")
    assert coerced(spec, 2**64 - 1) == 2**64 - 1
    with pytest.raises(BadValue, match="from 0 to 18446744073709551615"):
        coerced(spec, 2**64)
    last, before = (drawn(model, seed=2**64 - k, sampler_name="euler_ancestral").samples for k in (1, 2))
    assert (last - before).abs().max() > 0.01


def test_cfg_1_asks_for_the_prompt_alone(drawn, dense, model, words, context):
    levels = visited(model, "euler", "karras", STEPS)
    empty = torch.full((3, 4, 4, 4), model.latent.shift)
    torch.testing.assert_close(
        drawn(model, cfg=1.0).samples, looped(model, dense(model, 1.0), "euler", levels, empty), **CLOSE
    )
    work = k_sampler(
        model=model,
        cfg=1.0,
        steps=2,
        sampler_name="euler",
        scheduler="normal",
        positive=words.prompt,
        negative=words.nothing,
        latent_image=empty_latent_image(width=32, height=32, batch_size=3),
        context=context,
    )
    assert [call.conditioning for call in next(work)] == [words.prompt] * 3


@pytest.mark.parametrize(("sampler", "seed"), [("euler", SEED), ("ddim", SEED + 1)])
def test_what_a_mask_keeps_is_shown_with_the_noise_of_the_start_or_for_ddim_of_the_next_seed(
    sampler, seed, drawn, dense, model
):
    picture = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 32, 32)
    mask[:, :, 12:] = 1
    masked = set_latent_noise_mask(samples=Latent(picture), mask=Mask(mask))
    here = torch.nn.functional.interpolate(mask[None], size=(4, 4), mode="bilinear")
    torch.testing.assert_close(masked.noise_mask, here.expand(2, 1, 4, 4))

    original = (picture - model.latent.shift) * model.latent.scale
    around = torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed))
    inner = dense(model)

    def d(x, sigma):
        shown = here * x + (1 - here) * (original + sigma * around)
        return here * inner(shown, sigma) + (1 - here) * original

    levels = visited(model, sampler, "karras", STEPS, 0.5)
    loop = looped(model, d, sampler, levels, picture)
    found = drawn(model, masked, sampler_name=sampler, denoise=0.5)
    torch.testing.assert_close(found.samples, loop, **CLOSE)
    torch.testing.assert_close(found.samples[..., 0], picture[..., 0], **CLOSE)


def test_no_denoising_leaves_a_picture_as_it_was(drawn, model):
    picture = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    for sampler in ("euler", "uni_pc", "dpmpp_2m_sde"):
        torch.testing.assert_close(drawn(model, Latent(picture), denoise=0.0, sampler_name=sampler).samples, picture)


def test_an_unknown_sampler_is_refused_with_the_nearest_one():
    spec = COMFY["KSampler"].input("sampler_name")
    with pytest.raises(BadValue, match=r"did you mean 'euler_ancestral'\?"):
        coerced(spec, "euler_ancestal")


def test_an_empty_latent_takes_the_models_channels_when_sampling_starts(drawn, model):
    assert empty_latent_image(width=40, height=72, batch_size=2).samples.shape == (2, 4, 9, 5)
    one = Latent(torch.zeros(3, 16, 4, 4))
    torch.testing.assert_close(drawn(model, one).samples, drawn(model).samples, rtol=0, atol=0)


def test_levels_are_not_shared_with_the_models_table(model):
    before = parameterisation.table(model.sampling).clone()
    sampling.levels(model, "uni_pc", "simple", 100)
    assert parameterisation.table(model.sampling).equal(before)


@pytest.fixture
def advanced(run, words, context):
    """What KSampler (Advanced) makes of these settings."""

    def draw(model, latent_image, **settings):
        given = {"noise_seed": SEED, "steps": STEPS, "cfg": CFG, "sampler_name": "euler", "scheduler": "karras"}
        given |= {"add_noise": "enable", "return_with_leftover_noise": "disable", "latent_image": latent_image}
        given |= {"positive": words.prompt, "negative": words.nothing} | settings
        return run(k_sampler_advanced(model=model, **given, context=context))

    return draw


EMPTY = Latent(torch.zeros(3, 4, 4, 4))


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm_2"])
@pytest.mark.parametrize("step", [1, 3, 5])
def test_two_halves_of_a_schedule_give_what_the_whole_gives(sampler, step, advanced, drawn, model):
    whole = drawn(model, EMPTY, sampler_name=sampler).samples
    torch.testing.assert_close(advanced(model, EMPTY, sampler_name=sampler).samples, whole, rtol=0, atol=0)
    half = advanced(model, EMPTY, sampler_name=sampler, end_at_step=step, return_with_leftover_noise="enable")
    rest = advanced(model, half, sampler_name=sampler, start_at_step=step, add_noise="disable")
    torch.testing.assert_close(rest.samples, whole, **CLOSE)


def test_a_schedule_that_ends_early_goes_down_to_0_unless_its_noise_is_wanted(advanced, dense, model):
    levels = visited(model, "euler", "karras", STEPS)
    empty = torch.full((3, 4, 4, 4), model.latent.shift)
    short = looped(model, dense(model), "euler", [*levels[:3], 0.0], empty)
    torch.testing.assert_close(advanced(model, EMPTY, end_at_step=3).samples, short, **CLOSE)


def test_a_schedule_that_starts_at_or_after_its_end_leaves_the_latent(advanced, model):
    assert advanced(model, EMPTY, start_at_step=STEPS) is EMPTY
    assert advanced(model, EMPTY, start_at_step=4, end_at_step=4) is EMPTY


def test_a_masked_latent_goes_through_both_halves(advanced, drawn, model):
    picture = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 2:] = 1
    half = advanced(model, Latent(picture, mask), end_at_step=3, return_with_leftover_noise="enable")
    rest = advanced(model, half, start_at_step=3, add_noise="disable")
    torch.testing.assert_close(rest.samples[..., :2], half.samples[..., :2], **CLOSE)
    assert (rest.samples[..., 2:] - half.samples[..., 2:]).abs().max() > 0.01


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_2m_sde", "uni_pc", "ddim"])
def test_a_sampler_taken_apart_is_the_whole_one(sampler, run, drawn, model, words, context):
    sigmas = custom.basic_scheduler(model=model, scheduler="karras", steps=STEPS)
    said = {"positive": words.prompt, "negative": words.nothing, "cfg": CFG}
    way = {"sampler": custom.k_sampler_select(sampler_name=sampler), "sigmas": sigmas, "latent_image": EMPTY}
    guider = custom.cfg_guider(model=model, **said)
    noise = custom.random_noise(noise_seed=SEED)
    apart, denoised = run(custom.sampler_custom_advanced(noise=noise, guider=guider, **way, context=context))
    together, _ = run(custom.sampler_custom(model=model, noise_seed=SEED, **said, **way, context=context))
    torch.testing.assert_close(together.samples, apart.samples, rtol=0, atol=0)
    if sampler != "uni_pc":  # which a KSampler walks along other levels
        torch.testing.assert_close(apart.samples, drawn(model, EMPTY, sampler_name=sampler).samples, rtol=0, atol=0)
        torch.testing.assert_close(denoised.samples, apart.samples, **CLOSE)


def test_what_is_denoised_is_told_where_noise_is_left(run, dense, model, words, context):
    sigmas = custom.basic_scheduler(model=model, scheduler="karras", steps=STEPS)
    high, low = custom.split_sigmas(sigmas=sigmas, step=2)
    assert (len(high.values), len(low.values)) == (3, STEPS - 1)
    noisy, denoised = run(
        custom.sampler_custom_advanced(
            noise=custom.random_noise(noise_seed=SEED),
            guider=custom.basic_guider(model=model, conditioning=words.prompt),
            sampler=custom.k_sampler_select(sampler_name="euler"),
            sigmas=high,
            latent_image=EMPTY,
            context=context,
        )
    )
    levels = high.values.tolist()
    alone = dense(model, 1.0)
    before = start() * (1 + levels[0] ** 2) ** 0.5
    x = before + (before - alone(before, levels[0])) / levels[0] * (levels[1] - levels[0])
    last = alone(x, levels[1]) / model.latent.scale + model.latent.shift
    torch.testing.assert_close(denoised.samples, last, **CLOSE)
    assert (noisy.samples - denoised.samples).abs().max() > 0.1


def test_without_noise_a_noisy_latent_is_walked_on(run, drawn, advanced, model, words, context):
    half = advanced(model, EMPTY, end_at_step=2, return_with_leftover_noise="enable")
    sigmas = custom.basic_scheduler(model=model, scheduler="karras", steps=STEPS)
    way = {
        "guider": custom.cfg_guider(model=model, positive=words.prompt, negative=words.nothing, cfg=CFG),
        "sampler": custom.k_sampler_select(sampler_name="euler"),
        "sigmas": custom.split_sigmas(sigmas=sigmas, step=2)[1],
    }
    rest, _ = run(
        custom.sampler_custom_advanced(noise=custom.disable_noise(), latent_image=half, **way, context=context)
    )
    torch.testing.assert_close(rest.samples, drawn(model, EMPTY).samples, **CLOSE)


def test_schedules_by_themselves(model):
    assert not len(custom.basic_scheduler(model=model, scheduler="karras", steps=5, denoise=0.0).values)
    part = custom.basic_scheduler(model=model, scheduler="simple", steps=5, denoise=0.5).values
    whole = custom.basic_scheduler(model=model, scheduler="simple", steps=10).values
    torch.testing.assert_close(part, whole[-6:])
    karras = custom.karras_scheduler(steps=4, sigma_max=10, sigma_min=0.1, rho=7).values
    assert karras.tolist()[::4] == pytest.approx([10, 0])
    assert karras[3] == pytest.approx(0.1)
    flipped = custom.flip_sigmas(sigmas=Sigmas(karras)).values
    assert flipped.tolist() == [0.0001, *karras.tolist()[3::-1]]
    assert karras[-1] == 0


def followed(work, said):
    """Take a long node along; its calls are answered with nothing."""
    answers = None
    while True:
        said.append(work.send(answers))
        answers = None if isinstance(said[-1], Progress) else [call.x * 0 for call in said[-1]]


class Elsewhere:
    """Networks on a device whose numbers nobody can read: whatever waits for it fails."""

    def place(self, value):
        return mapped(value, lambda tensor: tensor.to("meta"))


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
@pytest.mark.parametrize("masked", [False, True])
def test_nothing_inside_the_steps_waits_for_the_device(sampler, masked, model, words, context):
    mask = torch.rand(2, 1, 4, 4) if masked else None
    work = k_sampler(
        model=model,
        steps=3,
        sampler_name=sampler,
        scheduler="normal",
        positive=words.prompt,
        negative=words.nothing,
        latent_image=Latent(torch.ones(2, 4, 4, 4), mask),
        context=replace(context, networks=Elsewhere()),
    )
    said = []
    with pytest.raises(NotImplementedError, match="no data"):  # the result, when all is done, is brought back
        followed(work, said)
    assert said[-1].done == 3
