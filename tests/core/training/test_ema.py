"""The running average of weights against its closed form."""

import pytest
import torch
from limner.core.training.ema import Average
from torch import nn


def network(value: float) -> nn.Module:
    made = nn.Linear(2, 2)
    nn.init.constant_(made.weight, value)
    nn.init.constant_(made.bias, value)
    return made


def test_the_average_is_the_weighted_sum_of_all_it_saw():
    average = Average(network(0.0), decay=0.5)
    expected = 0.0
    for step, value in enumerate((1.0, 4.0, -2.0, 8.0, 3.0, 3.0, 9.0, 1.0, 1.0, 5.0), start=1):
        average.update(network(value))
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    copy = network(0.0)
    average.copy_to(copy)
    assert copy.weight[0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_the_average_is_not_the_network():
    live = network(1.0)
    average = Average(live)
    with torch.no_grad():
        live.weight.fill_(7.0)
    assert average.weights["weight"].max() == 1.0


def test_an_average_that_was_kept_goes_on_as_if_it_had_not_been():
    one, two = Average(network(0.0)), Average(network(5.0))
    for value in (1.0, 2.0):
        one.update(network(value))
    two.load(one.state())
    for average in (one, two):
        average.update(network(9.0))
    torch.testing.assert_close(two.weights, one.weights, rtol=0, atol=0)
