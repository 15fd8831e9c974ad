"""Losses and noise levels against closed forms."""

import math

import pytest
import torch
from limner.core.diffusion import parameterisation
from limner.core.training import losses
from limner.core.values import Sampling


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_levels_are_the_product_of_what_each_step_leaves():
    abar = losses.linear_abar(1000, 1e-4, 0.02)
    expected = 1.0
    for step in range(1000):
        expected *= 1 - (1e-4 + (0.02 - 1e-4) * step / 999)
        assert abar[step].item() == pytest.approx(expected, rel=1e-12)


def test_training_and_sampling_agree_about_the_noise_levels():
    abar = losses.linear_abar(1000, 1e-4, 0.02)
    table = parameterisation.table(Sampling("v", "linear", 1e-4, 0.02, 1000))
    torch.testing.assert_close(((1 - abar) / abar).sqrt(), table, rtol=1e-9, atol=0)


def test_noised_data_keep_their_variance():
    x = losses.noised(some(20_000, 4), some(20_000, 4, seed=1), torch.full((20_000,), 0.3, dtype=torch.float64))
    assert x.var().item() == pytest.approx(1.0, abs=0.03)


def test_v_and_the_noised_data_give_back_clean_data_and_noise():
    x0, noise, abar = some(5, 3, 2, 2), some(5, 3, 2, 2, seed=1), torch.rand(5, dtype=torch.float64)
    a = abar.reshape(-1, 1, 1, 1)
    x, v = losses.noised(x0, noise, abar), losses.target(x0, noise, abar, "v")
    torch.testing.assert_close(a.sqrt() * x - (1 - a).sqrt() * v, x0)
    torch.testing.assert_close((1 - a).sqrt() * x + a.sqrt() * v, noise)


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
def test_a_true_prediction_costs_nothing_and_one_that_is_off_by_d_costs_d_squared(kind):
    x0, noise, abar = some(4, 2, 3, 3), some(4, 2, 3, 3, seed=1), torch.rand(4, dtype=torch.float64)
    true = losses.target(x0, noise, abar, kind)
    assert losses.diffusion_loss(true, x0, noise, abar, kind=kind).abs().max() == 0
    torch.testing.assert_close(
        losses.diffusion_loss(true + 0.5, x0, noise, abar, kind=kind), torch.full((4,), 0.25).double()
    )


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_means_the_same_error_of_the_clean_data_whatever_is_predicted(gamma):
    x0, noise, abar = some(6, 2), some(6, 2, seed=1), torch.linspace(0.05, 0.95, 6, dtype=torch.float64)
    wrong, a = x0 + some(6, 2, seed=2), torch.linspace(0.05, 0.95, 6, dtype=torch.float64)[:, None]
    x = losses.noised(x0, noise, abar)
    eps = (x - a.sqrt() * wrong) / (1 - a).sqrt()
    found = {
        "x0": wrong,
        "eps": eps,
        "v": a.sqrt() * eps - (1 - a).sqrt() * wrong,
    }
    snr = abar / (1 - abar)
    expected = snr.clamp(max=gamma) * (wrong - x0).square().mean(1)
    for kind, prediction in found.items():
        loss = losses.diffusion_loss(prediction, x0, noise, abar, kind=kind, min_snr=gamma)
        torch.testing.assert_close(loss, expected)


def test_a_flow_goes_straight_from_data_to_noise_at_the_speed_that_is_its_target():
    x0, noise = some(3, 2, 2), some(3, 2, 2, seed=1)
    early, late = (losses.flow_noised(x0, noise, torch.full((3,), t, dtype=torch.float64)) for t in (0.25, 0.75))
    velocity = (late - early) / 0.5
    assert losses.flow_loss(velocity, x0, noise).max() < 1e-28
    torch.testing.assert_close(losses.flow_noised(x0, noise, torch.ones(3, dtype=torch.float64)), noise)


def test_levels_are_spread_evenly_over_the_batch():
    uniform = torch.rand(50, generator=torch.Generator().manual_seed(0))
    assert (losses.stratified_levels(50, 1000, uniform) // 20).tolist() == list(range(50))


def test_a_power_above_one_draws_low_levels_more_often():
    levels = losses.stratified_levels(10_000, 1000, torch.full((10_000,), 0.5), power=2.0)
    assert (levels < 250).double().mean().item() == pytest.approx(0.5, abs=1e-3)
    assert levels.max() < 1000


def test_the_cosine_falls_from_one_to_zero():
    assert losses.cosine(3, 10, 20) == 1.0
    assert losses.cosine(15, 10, 20) == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert losses.cosine(25, 10, 20) == 0.0
    assert [losses.cosine(step, 20, 20) for step in (19, 20)] == [1.0, 0.0]
