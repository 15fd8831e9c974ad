"""Training losses of diffusion models as pure functions of clean data, noise and time.  float32, any device.

The variance-preserving process is x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, by the levels of Ho et al. 2020 (arXiv
2006.11239, equation 4); the flow is x_t = (1 - t) x_0 + t eps (Liu et al. 2022, 2209.03003).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Target = Literal["eps", "v", "x0"]


def linear_abar(timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """The share of signal variance left at each level, (timesteps,) float64, for betas that rise evenly."""
    betas = torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64)
    return torch.cumprod(1 - betas, 0)


def noised(x0: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """x_t of the variance-preserving process: x0 and noise (N, ...), abar (N,) in [0, 1]."""
    a = _like(abar, x0)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def target(x0: Tensor, noise: Tensor, abar: Tensor, kind: Target) -> Tensor:
    """What a network of that kind is to predict; v = sqrt(abar) eps - sqrt(1 - abar) x0 (Salimans & Ho, 2202.00512)."""
    if kind == "eps":
        return noise
    if kind == "x0":
        return x0
    a = _like(abar, x0)
    return a.sqrt() * noise - (1 - a).sqrt() * x0


def weight(abar: Tensor, kind: Target, min_snr: float | None = None) -> Tensor:
    """How much each sample's squared error counts, (N,): 1, or Hang et al.'s min-SNR weight (2303.09556, equation 6).

    min_snr is their gamma: the loss then is min(SNR, gamma) |x0 - x0'|^2, written for what the network predicts.
    """
    if min_snr is None:
        return torch.ones_like(abar)
    snr = abar / (1 - abar)
    clipped = snr.clamp(max=min_snr)
    return {"eps": clipped / snr, "v": clipped / (snr + 1), "x0": clipped}[kind]


def diffusion_loss(  # noqa: PLR0913 - the quantities of one equation
    prediction: Tensor, x0: Tensor, noise: Tensor, abar: Tensor, *, kind: Target = "v", min_snr: float | None = None
) -> Tensor:
    """The mean squared error of a prediction (N, ...), weighed per sample: (N,)."""
    error = (prediction - target(x0, noise, abar, kind)).square().flatten(1).mean(1)  # (N,)
    return error * weight(abar, kind, min_snr)


def flow_noised(x0: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """x_t of the straight flow: x0 at time 0, noise at time 1; time (N,)."""
    t = _like(time, x0)
    return (1 - t) * x0 + t * noise


def flow_loss(prediction: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
    """The mean squared error of a predicted velocity noise - x0, per sample: (N,)."""
    return (prediction - (noise - x0)).square().flatten(1).mean(1)


def stratified_levels(count: int, timesteps: int, uniform: Tensor, power: float = 1.0) -> Tensor:
    """One level for each of count samples, spread evenly: (count,) int64 in 0..timesteps - 1.

    uniform (count,) is noise in [0, 1); one sample falls into each count-th of the range.  A power above 1 draws the
    low levels more often.
    """
    strata = (torch.arange(count, dtype=torch.float64) + uniform.double()) / count
    return (strata.pow(power) * timesteps).long().clamp(max=timesteps - 1)


def cosine(step: int, start: int, end: int) -> float:
    """1 until start, 0 from end on, half a cosine between."""
    if end <= start:
        return 1.0 if step < end else 0.0
    part = min(max((step - start) / (end - start), 0.0), 1.0)
    return 0.5 * (1 + math.cos(math.pi * part))


def _like(values: Tensor, x: Tensor) -> Tensor:
    return values.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))  # (N,) -> (N, 1, ...)
