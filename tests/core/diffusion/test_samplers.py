"""Samplers, held to closed forms: for Gaussian data the ODE has an exact solution, and each chain a known end."""

import math
from itertools import pairwise

import pytest
import torch
from limner.core.diffusion.noise import Brownian, fresh
from limner.core.diffusion.parameterisation import table
from limner.core.diffusion.samplers import SAMPLERS
from limner.core.diffusion.schedules import exponential, flip, flow, karras, simple
from limner.core.values import Answer, Sampling
from torch.utils._python_dispatch import TorchDispatchMode

DETERMINISTIC = [name for name, sampler in SAMPLERS.items() if not sampler.stochastic] + ["ddim"]
STOCHASTIC = [name for name, sampler in SAMPLERS.items() if sampler.stochastic]
CURVED = torch.tensor([[[[14.0, -3.0], [2.0, -20.0]]]], dtype=torch.float64)


def levels(steps, *, is_flow):
    """Evenly in log SNR, without the final zero."""
    if is_flow:
        return torch.sigmoid(torch.linspace(4, -4, steps + 1, dtype=torch.float64))
    return exponential(steps + 1, 0.029167, 14.614641)[:-1]


ORDERS = {
    "euler": (0.95, 1.05), "ddim": (0.95, 1.05), "heun": (1.95, 2.1), "dpm_2": (1.95, 2.1), "lms": (3.4, 4.2),
    "dpmpp_2m": (1.9, 2.1), "dpmpp_2m_sde": (1.9, 2.1), "dpm_2_ancestral": (1.95, 2.1), "euler_ancestral": (0.95, 1.05),
    "uni_pc": (2.0, 3.2), "uni_pc_bh2": (2.0, 3.2),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
def test_doubling_the_steps_divides_the_error_as_the_order_says(name, gaussian, walked):
    is_flow = gaussian.alpha(0.5) == 0.5
    x = CURVED / 10 if is_flow else CURVED

    def error(steps):
        sigmas = levels(steps, is_flow=is_flow)
        end = walked(SAMPLERS[name](x, sigmas, eta=0.0, flow=is_flow), gaussian)
        return (end - gaussian.flow(x, float(sigmas[0]), float(sigmas[-1]))).abs().mean().item()

    least, most = ORDERS[name]
    order = math.log2(error(64) / error(128))
    assert least < order < most
    assert SAMPLERS[name].order == pytest.approx(order, abs=0.6)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_from_pure_noise_of_a_flow_to_its_end_is_the_closed_form(name, walked, gaussian):
    is_flow = gaussian.alpha(0.5) == 0.5
    sigmas = flow(400) if is_flow else karras(400, 0.002, 14.6)
    x = CURVED / 5
    end = walked(SAMPLERS[name](x, sigmas, flow=is_flow), gaussian)
    torch.testing.assert_close(end, gaussian.flow(x, float(sigmas[0]), 0.0), rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ORDERS)
def test_up_a_schedule_an_image_becomes_its_noise_and_down_again_itself(name, walked, gaussian):
    is_flow = gaussian.alpha(0.5) == 0.5
    up = flip(flow(400) if is_flow else karras(400, 0.002, 14.6))
    assert up[0] == 0
    x = CURVED / 5
    noise = walked(SAMPLERS[name](x, up, eta=0.0, flow=is_flow), gaussian)
    exact = gaussian.flow(x, 0.0, float(up[-1]))
    assert ((noise - exact).abs() < 0.02 * exact.abs()).all()
    back = walked(SAMPLERS[name](noise, flip(up), eta=0.0, flow=is_flow), gaussian)
    torch.testing.assert_close(back, x, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("name", "eta"), [(name, None) for name in STOCHASTIC] + [("ddim", 1.0), ("euler_ancestral", 0.5)]
)
def test_a_chain_ends_in_the_mean_and_the_variance_of_the_data(name, eta, gaussian, walked):
    is_flow = gaussian.alpha(0.5) == 0.5
    sigmas = flow(300) if is_flow else karras(300, 0.002, 80.0)
    like = torch.empty(1, 1, 128, 128, dtype=torch.float64)
    x = fresh(1, like)(1, 0) * sigmas[0]
    denoiser = (lambda x, sigma: gaussian.flow(x, sigma, 0.0)) if name == "lcm" else gaussian  # a consistency model
    end = walked(SAMPLERS[name](x, sigmas, fresh(2, like), eta=eta, flow=is_flow), denoiser)
    assert end.mean().item() == pytest.approx(gaussian.mean, abs=0.02)
    assert end.std().item() == pytest.approx(gaussian.std, rel=0.03)


SD_LEVELS = simple(table(Sampling()), 25)


@pytest.mark.parametrize(
    ("one", "other", "is_flow"),
    [
        (("ddpm", None), ("ddim", 1.0), False),
        (("ddpm", None), ("euler_ancestral", 1.0), False),
        (("ddpm", None), ("ddim", 1.0), True),
        (("ddim", 0.3), ("euler_ancestral", 0.3), False),
        (("euler", None), ("ddim", 0.0), False),
        (("euler", None), ("ddim", 0.0), True),
        (("euler", None), ("euler_ancestral", 0.0), True),
        (("dpm_2", None), ("dpm_2_ancestral", 0.0), False),
        (("dpmpp_2m", None), ("dpmpp_2m_sde", 0.0), False),
        (("dpmpp_2m", None), ("dpmpp_2m_sde", 0.0), True),
    ],
)
def test_two_samplers_are_one(one, other, is_flow, mixture, walked):
    sigmas = flow(25, 3.0) if is_flow else SD_LEVELS
    x = CURVED * sigmas[0] / 14
    ends = [
        walked(SAMPLERS[name](x, sigmas, fresh(3, x), eta=eta, flow=is_flow), mixture) for name, eta in (one, other)
    ]
    torch.testing.assert_close(*ends, rtol=0, atol=1e-11)


@pytest.mark.parametrize("is_flow", [False, True])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_walk_asks_as_often_as_it_says_in_order_and_keeps_its_dtype(name, is_flow, walked):
    sigmas = flow(6) if is_flow else karras(6, 0.03, 14.6)
    x, asks = torch.randn(1, 4, 3, 3), []

    def denoiser(x, sigma):
        asks.append(sigma)
        return x / (1 + sigma**2)

    end = walked(SAMPLERS[name](x, sigmas, fresh(1, x), flow=is_flow), denoiser)
    assert (end.dtype, end.shape) == (torch.float32, x.shape)
    assert end.isfinite().all()
    calls = SAMPLERS[name].calls
    assert len(asks) == 6 * calls - (calls - 1)  # the step to 0 needs one
    assert asks[::calls] == sigmas[:-1].tolist()


def test_asks_say_which_step_they_serve():
    for name, sigmas, steps in [
        ("euler", [3.0, 2.0, 1.0, 0.0], [0, 1, 2]),
        ("heun", [3.0, 2.0, 1.0, 0.0], [0, 0, 1, 1, 2]),
        ("euler", [0.0, 1.0, 2.0], [0, 1]),
    ]:
        walk = SAMPLERS[name](CURVED, torch.tensor(sigmas))
        asks = [next(walk), *(walk.send(Answer(CURVED)) for _ in steps[1:])]
        assert [ask.step for ask in asks] == steps


class NoReading(TorchDispatchMode):
    """Fails where a tensor is read back from its device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in {torch.ops.aten._local_scalar_dense, torch.ops.aten.item, torch.ops.aten.nonzero}:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture
def strict_cuda():
    """Waiting for the GPU is an error."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@NO_GPU
@pytest.mark.gpu
@pytest.mark.usefixtures("strict_cuda")
@pytest.mark.parametrize("name", SAMPLERS)
def test_no_step_waits_for_the_gpu(name, walked):
    x = torch.ones(1, 4, 3, 3, device="cuda")
    for noise in (fresh(1, x), Brownian(1, x)):
        walked(SAMPLERS[name](x, karras(6, 0.03, 14.6), noise, eta=0.7), lambda x, _: x * 0.5)


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("is_flow", [False, True])
@pytest.mark.parametrize("name", SAMPLERS)
def test_no_step_waits_for_the_device(name, is_flow, device, walked):
    """On the meta device there is nothing to read: .item(), .cpu() and bool() fail."""
    sigmas = flow(6) if is_flow else karras(6, 0.03, 14.6)
    x = torch.ones(1, 4, 3, 3, device=device)
    for noise in (lambda _s, _t: torch.ones(1, 4, 3, 3, device=device), fresh(1, x), Brownian(1, x)):
        with NoReading():
            end = walked(SAMPLERS[name](x, sigmas, noise, eta=0.7, flow=is_flow), lambda x, _: x * 0.5)
        assert end.device.type == device


def test_the_guard_against_waiting_can_fail():
    with NoReading(), pytest.raises(AssertionError, match="waits"):
        torch.ones(1).item()


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_step_of_no_length_changes_nothing(name, mixture, walked):
    sigmas = karras(8, 0.03, 14.6)
    doubled = torch.cat([sigmas[:4], sigmas[3:]])
    ends = [walked(SAMPLERS[name](CURVED, s, fresh(1, CURVED)), mixture) for s in (sigmas, doubled)]
    torch.testing.assert_close(*ends, rtol=0, atol=0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_schedule_of_no_steps_leaves_x_where_it_is(name, walked):
    torch.testing.assert_close(walked(SAMPLERS[name](CURVED, torch.tensor([3.0])), None), CURVED)


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_step_to_zero_is_what_was_denoised(name, mixture, walked):
    end = walked(SAMPLERS[name](CURVED, torch.tensor([14.0, 0.0]).double()), mixture)
    torch.testing.assert_close(end, mixture(CURVED, 14.0))


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "ddim"])
def test_noise_is_drawn_once_a_step_but_for_the_last_and_only_by_those_that_say_so(name, mixture, walked):
    sigmas, drawn = karras(8, 0.03, 14.6), []
    walked(SAMPLERS[name](CURVED, sigmas, lambda s, t: drawn.append((s, t)) or CURVED), mixture)
    assert drawn == (list(pairwise(sigmas.tolist()))[:-1] if SAMPLERS[name].stochastic else [])


def test_without_a_source_of_noise_a_chain_says_which_step_wanted_it(mixture, walked):
    with pytest.raises(ValueError, match=r"from sigma 14\.6 to 1 adds noise"):
        walked(SAMPLERS["ddpm"](CURVED, torch.tensor([14.6, 1.0, 0.0])), mixture)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_chain_does_not_walk_up(name):
    with pytest.raises(ValueError, match=f"{name} adds noise"):
        next(SAMPLERS[name](CURVED, torch.tensor([0.0, 1.0]), eta=1.0))


def test_a_schedule_that_turns_round_is_refused():
    with pytest.raises(ValueError, match="turn round"):
        next(SAMPLERS["euler"](CURVED, torch.tensor([3.0, 4.0, 1.0])))


def test_s_noise_scales_what_is_added(mixture, walked):
    sigmas = torch.tensor([14.0, 2.0], dtype=torch.float64)
    ends = [walked(SAMPLERS["ddpm"](CURVED, sigmas, fresh(1, CURVED), s_noise=s), mixture) for s in (0.0, 1.0, 2.0)]
    torch.testing.assert_close(ends[2] - ends[0], 2 * (ends[1] - ends[0]))


@pytest.mark.parametrize("is_flow", [False, True])
@pytest.mark.parametrize("name", ["ddim", "euler_ancestral", "dpm_2_ancestral"])
def test_too_much_eta_is_as_much_noise_as_there_is_room_for_which_is_lcm(name, is_flow, mixture, walked):
    sigmas = flow(6) if is_flow else karras(6, 0.03, 14.6)
    ends = [
        walked(SAMPLERS[sampler](CURVED, sigmas, fresh(1, CURVED), eta=10.0, flow=is_flow), mixture)
        for sampler in (name, "lcm")
    ]
    torch.testing.assert_close(*ends)


def test_on_one_brownian_path_more_steps_come_to_nearly_the_same_picture(exploding, walked):
    x = fresh(1, torch.empty(1, 4, 16, 16, dtype=torch.float64))(1, 0) * 14.6

    def end(steps, seed):
        return walked(SAMPLERS["dpmpp_2m_sde"](x, karras(steps, 0.03, 14.6), Brownian(seed, x)), exploding)

    apart, along = (end(200, 5) - end(400, 6)).std(), (end(200, 5) - end(400, 5)).std()
    assert along < apart / 5
