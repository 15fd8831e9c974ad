"""Parameterisations, held to their closed forms with a noise that is known, and to diffusers' tables."""

import math
from dataclasses import replace

import diffusers
import pytest
import torch
from limner.core.diffusion import parameterisation
from limner.core.diffusion.parameterisation import table, timestep
from limner.core.values import LatentFormat, Sampling

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers on numpy 2

SD = Sampling()
KINDS = ["eps", "v", "x0", "flow"]
FORMAT = LatentFormat(channels=2, downscale=8)


def known(prediction, sigma, dtype=torch.float64):
    """x0, x, and what a network that knows the noise would put out."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(1, 2, 3, 3, generator=generator, dtype=dtype) for _ in range(2))
    alpha_bar = 1 / (1 + sigma**2)
    outputs = {"eps": eps, "v": alpha_bar**0.5 * eps - (1 - alpha_bar) ** 0.5 * x0, "x0": x0, "flow": eps - x0}
    return x0, (1 - sigma) * x0 + sigma * eps if prediction == "flow" else x0 + sigma * eps, outputs[prediction]


@pytest.mark.parametrize("sigma", [0.03, 0.4, 0.99])
@pytest.mark.parametrize("prediction", KINDS)
def test_a_network_that_knows_the_noise_gives_back_the_clean_image(prediction, sigma):
    x0, x, output = known(prediction, sigma)
    sampling = Sampling(prediction)
    torch.testing.assert_close(parameterisation.denoised(sampling, output, x, sigma), x0)
    torch.testing.assert_close(parameterisation.output(sampling, x0, x, sigma), output)


@pytest.mark.parametrize("prediction", KINDS)
def test_the_network_sees_unit_variance_where_the_clean_image_has_it(prediction):
    _, x, _ = known(prediction, 0.9)
    c_in = parameterisation.scaling(Sampling(prediction), 0.9).c_in
    assert c_in * math.sqrt(1 + 0.9**2) == pytest.approx(1.0 if prediction != "flow" else math.sqrt(1 + 0.9**2))
    assert x.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("prediction", KINDS)
def test_a_batch_denoises_each_image_at_its_own_level(prediction, dtype):
    sigmas = [0.9, 0.05, 0.5]
    cases = [known(prediction, sigma, dtype) for sigma in sigmas]
    sampling, seen = Sampling(prediction), []

    def network(x, timesteps, context, context_mask, vector):
        seen.append((x, timesteps, context, context_mask, vector))
        return torch.cat([output for _, _, output in cases])

    x, context = torch.cat([x for _, x, _ in cases]), torch.zeros(3, 5, 6)
    mask, vector = torch.ones(3, 5, dtype=torch.bool), torch.zeros(3, 7)
    x0 = parameterisation.denoise(network, sampling, FORMAT, x, sigmas, context, mask, vector)
    assert x0.dtype == dtype
    torch.testing.assert_close(
        x0, torch.cat([x0 for x0, _, _ in cases]), rtol=0, atol=3e-6 if dtype == torch.float32 else 1e-12
    )
    (given, timesteps, *rest) = seen[0]
    expected = torch.cat(
        [parameterisation.scaling(sampling, s).c_in * x for s, (_, x, _) in zip(sigmas, cases, strict=True)]
    )
    torch.testing.assert_close(given, expected)
    assert timesteps.tolist() == pytest.approx([timestep(sampling, sigma) for sigma in sigmas])
    assert [id(r) for r in rest] == [id(context), id(mask), id(vector)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_whatever_the_precision_of_a_network_its_output_is_reckoned_with_in_that_of_x(dtype):
    x = torch.ones(1, 2, 2, 2)
    x0 = parameterisation.denoise(lambda x, *_: x.to(dtype), SD, FORMAT, x, [10.0], torch.zeros(1, 1, 1))
    assert x0.dtype == torch.float32


def test_a_latent_of_another_vae_is_refused_in_words():
    with pytest.raises(ValueError, match="takes latents of 2 channels, not 16"):
        parameterisation.denoise(lambda x, *_: x, SD, FORMAT, torch.ones(1, 16, 2, 2), [1.0], torch.zeros(1, 1, 1))


def test_denoising_reads_nothing_back_from_the_device():
    x = torch.empty(3, 2, 4, 4, device="meta")
    x0 = parameterisation.denoise(lambda x, *_: x, SD, FORMAT, x, [1.0, 2.0, 3.0], torch.empty(3, 1, 1, device="meta"))
    assert x0.device.type == "meta"


@pytest.mark.parametrize(
    ("betas", "theirs"), [("linear", "linear"), ("scaled_linear", "scaled_linear"), ("cosine", "squaredcos_cap_v2")]
)
def test_tables_are_those_of_diffusers(betas, theirs):
    start, end = (0.0001, 0.02) if betas == "linear" else (0.00085, 0.012)
    alpha_bar = diffusers.DDPMScheduler(beta_start=start, beta_end=end, beta_schedule=theirs).alphas_cumprod.double()
    sigmas = table(Sampling(betas=betas, beta_start=start, beta_end=end))
    torch.testing.assert_close(1 / (1 + sigmas**2), alpha_bar, rtol=2e-5, atol=1e-7)


def test_stable_diffusions_levels_are_the_known_ones():
    assert parameterisation.sigma_min(SD) == pytest.approx(0.029167158, rel=1e-7)
    assert parameterisation.sigma_max(SD) == pytest.approx(14.614641229, rel=1e-7)


def test_the_table_of_a_shifted_flow_is_that_of_diffusers():
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).sigmas.flip(0).double()
    torch.testing.assert_close(table(Sampling("flow", shift=3.0)), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sampling", [SD, replace(SD, betas="cosine"), replace(SD, prediction="v")])
def test_every_level_of_the_table_is_its_own_timestep(sampling):
    for t, sigma in enumerate(table(sampling).tolist()):
        assert timestep(sampling, sigma) == t
        assert timestep(sampling, sigma, "interpolated") == pytest.approx(t, abs=1e-6)


def test_a_level_between_two_timesteps_is_the_nearer_one_in_log_sigma_or_their_interpolation():
    low, high = table(SD)[400:402].log().tolist()
    for share in (0.2, 0.7):
        sigma = math.exp(low + share * (high - low))
        assert timestep(SD, sigma) == 400 + round(share)
        assert timestep(SD, sigma, "interpolated") == pytest.approx(400 + share)


def test_interpolated_timesteps_are_those_of_diffusers():
    theirs = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", use_karras_sigmas=True
    )
    theirs.set_timesteps(12)
    ours = [timestep(SD, sigma, "interpolated") for sigma in theirs.sigmas[:-1].tolist()]
    assert ours == pytest.approx(theirs.timesteps.tolist(), abs=1e-2)


def test_levels_beyond_the_table_are_its_first_and_last_timestep():
    assert [timestep(SD, s, r) for s in (0.0, 1e-9, 1e9) for r in ("nearest", "interpolated")] == [0, 0, 0, 0, 999, 999]


def test_a_flows_timestep_is_its_level_whatever_its_shift():
    assert timestep(Sampling("flow", shift=3.0), 0.5) == 500


def test_a_walk_begins_with_the_scaled_latent_and_as_much_noise_as_the_level_says(model):
    latent, noise = torch.full((1, 4, 2, 2), 3.0), torch.full((1, 4, 2, 2), 10.0)
    sd, flux = model(scale=0.5, shift=1.0), model("flow", scale=0.5, shift=1.0)
    assert parameterisation.begin(sd, latent, noise, 2.0).unique().tolist() == [1.0 + 20.0]
    assert parameterisation.begin(flux, latent, noise, 0.25).unique().tolist() == [0.75 * 1.0 + 2.5]


def test_from_nothing_but_noise_a_walk_begins_as_wide_as_with_an_image_but_only_at_the_top(model):
    empty, noise, top = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2), parameterisation.sigma_max(SD)
    for sigma, expected in [(top, math.sqrt(1 + top**2)), (2.0, 2.0), (0.0, 0.0)]:
        x = parameterisation.begin(model(), empty, noise, sigma, pure=True)
        torch.testing.assert_close(x, torch.full_like(x, expected))


@pytest.mark.parametrize("prediction", KINDS)
def test_what_ends_one_half_of_a_schedule_begins_the_other(prediction, model):
    x = torch.randn(1, 4, 2, 2)
    half = model(prediction, scale=0.18215, shift=0.1)
    torch.testing.assert_close(parameterisation.begin(half, parameterisation.end(half, x), None, 0.6), x)
