"""Samplers, held to diffusers' schedulers with the same sigmas and the same noise.

diffusers keeps its levels in float32, hence 5e-6.  Its settings matter: with most others it is another sampler.
"""

import sys

import diffusers
import pytest
import torch
from limner.core.diffusion.parameterisation import table
from limner.core.diffusion.samplers import SAMPLERS
from limner.core.diffusion.schedules import simple
from limner.core.values import Sampling

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TRAILING = {**BETAS, "timestep_spacing": "trailing"}
START = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def draws(monkeypatch):
    """Two sources of the same noise: one for us, and one that diffusers draws from."""

    def source():
        generator = torch.Generator().manual_seed(2)
        return lambda *_, **__: torch.randn(START.shape, generator=generator, dtype=torch.float64)

    def patched(scheduler):
        module = sys.modules[type(scheduler).__module__]
        if hasattr(module, "randn_tensor"):
            monkeypatch.setattr(module, "randn_tensor", source())
        return source()

    return patched


def exploding(scheduler, denoiser, levels, x):
    """Take x to its end with a scheduler whose x is x0 + sigma eps; `levels` are those at which it calls the model."""
    for t, sigma in zip(scheduler.timesteps, levels, strict=True):
        scheduler.scale_model_input(x, t)  # it insists
        x = scheduler.step((x - denoiser(x, sigma)) / sigma, t, x).prev_sample
    return x


def preserving(scheduler, denoiser, levels, x):
    """The same for a scheduler whose x has been divided by sqrt(1 + sigma^2)."""
    x = x / (1 + levels[0] ** 2) ** 0.5
    for t, sigma in zip(scheduler.timesteps, levels, strict=True):
        unscaled = x * (1 + sigma**2) ** 0.5
        x = scheduler.step((unscaled - denoiser(unscaled, sigma)) / sigma, t, x).prev_sample
    return x * (1 + scheduler_end(scheduler) ** 2) ** 0.5


def scheduler_end(scheduler):
    return float(scheduler.sigmas[-1]) if hasattr(scheduler, "sigmas") else 0.0


@pytest.mark.parametrize("steps", [12, 25])
@pytest.mark.parametrize(
    ("name", "scheduler", "settings"),
    [
        ("euler", "EulerDiscreteScheduler", BETAS),
        ("euler_ancestral", "EulerAncestralDiscreteScheduler", BETAS),
        ("heun", "HeunDiscreteScheduler", BETAS),
        ("dpm_2", "KDPM2DiscreteScheduler", BETAS),
        ("dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler", BETAS),
        ("lms", "LMSDiscreteScheduler", BETAS),
    ],
)
def test_in_our_space(name, scheduler, settings, steps, mixture, draws, walked):
    theirs = getattr(diffusers, scheduler)(**settings)
    theirs.set_timesteps(steps)
    noise = draws(theirs)
    sigmas = theirs.sigmas.double().unique_consecutive()
    levels = theirs.sigmas[: len(theirs.timesteps)].tolist()
    if name == "dpm_2":  # the second call of a step is halfway
        levels[1::2] = theirs.sigmas_interpol[1 : len(levels) : 2].tolist()
    if name == "dpm_2_ancestral":
        levels[1::2] = theirs.sigmas_interpol[: len(levels) - 1 : 2].tolist()
    x = START * sigmas[0]
    ours = walked(SAMPLERS[name](x, sigmas, noise), mixture)
    torch.testing.assert_close(ours, exploding(theirs, mixture, levels, x), rtol=0, atol=5e-6)


SDE = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "solver_type": "midpoint", "final_sigmas_type": "zero"}
UNIPC = {"solver_order": 3, "predict_x0": True, "final_sigmas_type": "sigma_min"}  # with "zero" bh1 is NaN there


@pytest.mark.parametrize("steps", [12, 25])
@pytest.mark.parametrize(
    ("name", "scheduler", "settings"),
    [
        ("dpmpp_2m", "DPMSolverMultistepScheduler", BETAS | SDE | {"algorithm_type": "dpmsolver++"}),
        ("dpmpp_2m_sde", "DPMSolverMultistepScheduler", BETAS | SDE),
        ("uni_pc", "UniPCMultistepScheduler", {**BETAS, **UNIPC, "solver_type": "bh1"}),
        ("uni_pc_bh2", "UniPCMultistepScheduler", {**BETAS, **UNIPC, "solver_type": "bh2"}),
    ],
)
def test_in_variance_preserving_space(name, scheduler, settings, steps, mixture, draws, walked):
    theirs = getattr(diffusers, scheduler)(**settings)
    theirs.set_timesteps(steps)
    noise = draws(theirs)
    sigmas = theirs.sigmas.double()
    x = START * sigmas[0]
    ours = walked(SAMPLERS[name](x, sigmas, noise), mixture)
    torch.testing.assert_close(ours, preserving(theirs, mixture, sigmas[:-1].tolist(), x), rtol=0, atol=5e-6)


@pytest.mark.parametrize("steps", [20, 25])
@pytest.mark.parametrize(
    ("name", "eta", "scheduler", "settings"),
    [
        ("euler", None, "DDIMScheduler", {**TRAILING, "clip_sample": False}),
        ("ddim", 0.0, "DDIMScheduler", {**TRAILING, "clip_sample": False}),
        ("ddpm", None, "DDPMScheduler", {**TRAILING, "clip_sample": False, "variance_type": "fixed_small"}),
    ],
)
def test_at_the_models_own_timesteps(name, eta, scheduler, settings, steps, mixture, draws, walked):
    theirs = getattr(diffusers, scheduler)(**settings)
    theirs.set_timesteps(steps)
    noise = draws(theirs)
    theirs.alphas_cumprod = 1 / (1 + table(Sampling()) ** 2)  # in float64
    sigmas = simple(table(Sampling()), steps)
    x = START * sigmas[0]
    ours = walked(SAMPLERS[name](x, sigmas, noise, eta=eta), mixture)
    torch.testing.assert_close(ours, preserving(theirs, mixture, sigmas[:-1].tolist(), x), rtol=0, atol=5e-6)


def test_lcm_at_its_own_timesteps(mixture, draws, walked):
    theirs = diffusers.LCMScheduler(**BETAS)
    theirs.set_timesteps(4)
    noise = draws(theirs)
    sigmas = torch.cat([table(Sampling())[theirs.timesteps], torch.zeros(1, dtype=torch.float64)])
    x = START * sigmas[0]
    ours = walked(SAMPLERS["lcm"](x, sigmas, noise), mixture)
    torch.testing.assert_close(ours, preserving(theirs, mixture, sigmas[:-1].tolist(), x), rtol=0, atol=5e-6)


@pytest.mark.parametrize("steps", [4, 20])
def test_euler_on_a_flow(steps, walked):
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    theirs.set_timesteps(steps)
    sigmas = theirs.sigmas.double()

    def denoiser(x, sigma):
        return (x * (1 - sigma)).tanh()

    ours, x = walked(SAMPLERS["euler"](START, sigmas), denoiser), START
    for t, sigma in zip(theirs.timesteps, sigmas.tolist(), strict=False):
        x = theirs.step((x - denoiser(x, sigma)) / sigma, t, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=0, atol=5e-6, check_dtype=False)


@pytest.mark.parametrize(("name", "order"), [("dpmpp_2m", 2), ("uni_pc", 3), ("uni_pc_bh2", 3)])
def test_log_snr_samplers_on_a_flow(name, order, walked):
    if name == "dpmpp_2m":
        theirs = diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=order, final_sigmas_type="zero"
        )
    else:
        theirs = diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=order,
            final_sigmas_type="sigma_min", solver_type="bh1" if name == "uni_pc" else "bh2",
        )  # fmt: skip
    theirs.set_timesteps(15)
    theirs.sigmas[-1] = 0 if name == "dpmpp_2m" else theirs.sigmas[-2] / 2  # "sigma_min" is a step of no length here
    sigmas = theirs.sigmas.double()
    assert sigmas[0] < 1

    def denoiser(x, sigma):
        return (x * (1 - sigma)).tanh()

    ours, x = walked(SAMPLERS[name](START, sigmas, flow=True), denoiser), START
    for t, sigma in zip(theirs.timesteps, sigmas.tolist(), strict=False):
        x = theirs.step((x - denoiser(x, sigma)) / sigma, t, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=0, atol=5e-6, check_dtype=False)
