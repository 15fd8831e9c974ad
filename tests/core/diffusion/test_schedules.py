"""Schedules, held to what every schedule is, to scipy and to diffusers."""

import subprocess
import sys

import diffusers
import pytest
import scipy.stats
import torch
from limner.core.diffusion import schedules
from limner.core.diffusion.parameterisation import table
from limner.core.diffusion.schedules import SCHEDULES
from limner.core.values import Sampling

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers on numpy 2

SD = Sampling()
FLOW = Sampling("flow", shift=3.0)
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 30, 333, 999, 1000, 1500])
@pytest.mark.parametrize("sampling", [SD, FLOW, Sampling(betas="cosine")], ids=["sd", "flow", "cosine"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_starts_within_the_table_falls_and_ends_in_zero(name, sampling, steps):
    sigmas = SCHEDULES[name](table(sampling), steps)
    assert sigmas.shape == (steps + 1,)
    assert sigmas.dtype == torch.float64
    assert sigmas.device.type == "cpu"
    assert sigmas.isfinite().all()
    assert (sigmas.diff() < 0).all()
    assert sigmas[-1] == 0
    assert sigmas[0] <= table(sampling)[-1] * (1 + 1e-12)


@pytest.mark.parametrize("name", set(SCHEDULES) - {"ddim_uniform"})
def test_a_schedule_starts_at_the_highest_level(name):
    torch.testing.assert_close(SCHEDULES[name](table(SD), 20)[0], table(SD)[-1], rtol=1e-12, atol=0)


def test_simple_with_all_steps_is_the_whole_table_as_ddpm_walks_it():
    expected = torch.cat([table(SD).flip(0), torch.zeros(1)])
    torch.testing.assert_close(schedules.simple(table(SD), 1000), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("name", "spacing", "options", "steps"),
    [
        (
            "normal",
            "linspace",
            {},
            [10, 28],
        ),  # whole timesteps: between them diffusers goes evenly in sigma, not its log
        ("karras", "linspace", {"use_karras_sigmas": True}, [10, 20, 25]),
        ("exponential", "linspace", {"use_exponential_sigmas": True}, [10, 20, 25]),
        ("simple", "trailing", {}, [10, 20, 25, 1000]),  # divisors of 1000: others are rounded otherwise
        ("ddim_uniform", "leading", {"steps_offset": 1}, [10, 20, 25, 30]),
    ],
)
def test_a_schedule_is_that_of_diffusers(name, spacing, options, steps):
    """To 1.5e-5: diffusers takes 1 - alpha_bar in float32, which is as wrong as that at sigma_min."""
    theirs = diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing=spacing, **options)
    for count in steps:
        theirs.set_timesteps(count)
        torch.testing.assert_close(SCHEDULES[name](table(SD), count), theirs.sigmas.double(), rtol=1.5e-5, atol=0)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_is_that_of_diffusers(shift):
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=torch.linspace(1, 1 / 8, 8).tolist())
    torch.testing.assert_close(schedules.flow(8, shift), theirs.sigmas.double(), rtol=0, atol=1e-6)


def test_simple_finds_the_flow_schedule_in_a_flow_models_table():
    torch.testing.assert_close(schedules.simple(table(FLOW), 20), schedules.flow(20, 3.0))


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (0.5, 0.7), (2.0, 5.0), (1.0, 1.0), (9.0, 0.3), (0.05, 8.0)])
def test_beta_quantiles_are_those_of_scipy(a, b):
    for p in [0.0, 1e-6, 0.01, 0.2, 0.5, 0.77, 0.999, 1.0]:
        assert schedules.beta_quantile(p, a, b) == pytest.approx(scipy.stats.beta.ppf(p, a, b), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("steps", [1, 8, 20, 30])
def test_beta_takes_the_timesteps_that_scipy_says(steps):
    quantiles = scipy.stats.beta.ppf([1 - k / steps for k in range(steps)], 0.6, 0.6)
    expected = table(SD)[[round(999 * q) for q in quantiles]]
    torch.testing.assert_close(schedules.beta(table(SD), steps)[:-1], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("alpha", "beta"), [(0.01, 0.01), (0.01, 10.0), (10.0, 0.01), (10.0, 10.0)])
def test_beta_falls_however_extreme(alpha, beta):
    for steps in (1, 20, 300):
        sigmas = schedules.beta(table(SD), steps, alpha, beta)
        assert sigmas.isfinite().all()
        assert (sigmas.diff() < 0).all()


def test_karras_is_the_papers_formula():
    sigmas = schedules.karras(5, 0.002, 80, 7)
    i = torch.arange(5, dtype=torch.float64)
    expected = (80 ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(sigmas[:-1], expected)


def test_exponential_steps_are_equal_in_log_sigma_and_a_higher_rho_lingers_at_low_noise():
    logs = schedules.exponential(9, 0.03, 14.6)[:-1].log()
    torch.testing.assert_close(logs.diff(), logs.diff()[:1].expand(8))
    assert schedules.polyexponential(9, 0.03, 14.6, 2.0)[4] < logs.exp()[4]


def test_half_a_denoise_is_the_lower_half_of_twice_the_steps():
    def schedule(steps):
        return schedules.simple(table(SD), steps)

    torch.testing.assert_close(schedules.tail(schedule, 10, 0.5), schedule(20)[10:])
    torch.testing.assert_close(schedules.tail(schedule, 10, 1.0), schedule(10))
    assert schedules.tail(schedule, 10, 0.0).tolist() == [0.0]


@pytest.mark.parametrize("name", SCHEDULES)
def test_little_denoise_walks_all_its_steps_though_the_model_has_fewer_timesteps(name):
    sigmas = schedules.tail(lambda steps: SCHEDULES[name](table(SD), steps), 20, 0.01)
    assert sigmas.shape == (21,)
    assert (sigmas.diff() < 0).all()


def test_two_halves_of_a_split_meet():
    sigmas = schedules.flow(10)
    high, low = schedules.split(sigmas, 4)
    assert len(high) == 5 and len(low) == 7  # noqa: PT018
    assert high[-1] == low[0]


def test_flipped_twice_is_as_before():
    sigmas = schedules.flow(10)
    assert (schedules.flip(sigmas).diff() > 0).all()
    torch.testing.assert_close(schedules.flip(schedules.flip(sigmas)), sigmas)


def test_names_of_schedules_and_samplers_are_read_without_torch():
    code = """
import sys
from limner.core.diffusion import samplers, schedules
assert schedules.SCHEDULES and samplers.SAMPLERS
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
