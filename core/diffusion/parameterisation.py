"""What a network's output means: from its prediction to D(x; sigma), the denoised image, and back.

Everywhere else x = x0 + sigma eps (variance exploding), whatever the network was trained on; for flow networks it is
x = (1 - sigma) x0 + sigma eps.  Tables and timesteps are float64 on the CPU: nothing here waits for a device.
"""

from __future__ import annotations

import math
from bisect import bisect
from dataclasses import replace
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ..values import LatentFormat, Model, Sampling

Rounding = Literal["nearest", "interpolated"]


class Network(Protocol):
    """A denoising network.  It casts what it is given to the dtype of its weights."""

    def __call__(
        self, x: Tensor, timesteps: Tensor, context: Tensor, context_mask: Tensor | None, vector: Tensor | None
    ) -> Tensor:
        """x (N, C, h, w), timesteps (N,), context (N, T, D), mask (N, T), vector (N, P): a prediction like x."""
        ...


class Scaling(NamedTuple):
    """D(x; sigma) = c_skip x + c_out F(c_in x), as in Karras et al. 2022 (arXiv:2206.00364), eq. 7."""

    c_in: float
    c_skip: float
    c_out: float


@cache
def table(sampling: Sampling) -> Tensor:
    """The sigmas at which the network was trained: (T,) float64, ascending.  Shared: not to be written to."""
    steps = sampling.timesteps
    if sampling.prediction == "flow":  # arXiv:2403.03206, eq. 23
        times = [(t + 1) / steps for t in range(steps)]
        sigmas = [sampling.shift * t / (1 + (sampling.shift - 1) * t) for t in times]
    else:
        sigmas = [math.sqrt((1 - a) / a) for a in accumulate((1 - b for b in _betas(sampling)), lambda p, q: p * q)]
    return torch.tensor(sigmas, dtype=torch.float64)


def sigma_min(sampling: Sampling) -> float:
    """The lowest noise level that the network has seen."""
    return _sigmas(sampling)[0]


def sigma_max(sampling: Sampling) -> float:
    """The highest noise level that the network has seen."""
    return _sigmas(sampling)[-1]


def timestep(sampling: Sampling, sigma: float, rounding: Rounding = "nearest") -> float:
    """What the network calls this noise level: 0..T-1, whole by default or in between, evenly in log sigma.

    A flow network's time is sigma itself, times T; it is never rounded.
    """
    if sampling.prediction == "flow":
        return sigma * sampling.timesteps
    logs, wanted = _logs(sampling), math.log(max(sigma, 1e-300))
    above = min(max(bisect(logs, wanted), 1), len(logs) - 1)
    share = (wanted - logs[above - 1]) / (logs[above] - logs[above - 1])
    share = min(max(share, 0.0), 1.0)
    return above - 1 + (share if rounding == "interpolated" else float(share > 0.5))


def scaling(sampling: Sampling, sigma: float) -> Scaling:
    """How to read the network's output at this noise level."""
    variance = 1 + sigma**2  # of x, where x0 has variance 1
    match sampling.prediction:
        case "eps":
            return Scaling(variance**-0.5, 1.0, -sigma)
        case "v":  # arXiv:2202.00512, appendix D
            return Scaling(variance**-0.5, 1 / variance, -sigma * variance**-0.5)
        case "x0":
            return Scaling(variance**-0.5, 0.0, 1.0)
        case "flow":  # the network predicts eps - x0 (arXiv:2209.03003)
            return Scaling(1.0, 1.0, -sigma)


def denoised(sampling: Sampling, output: Tensor, x: Tensor, sigma: float) -> Tensor:
    """D(x; sigma), from what the network put out for x."""
    _, c_skip, c_out = scaling(sampling, sigma)
    return c_skip * x + c_out * output


def output(sampling: Sampling, denoised: Tensor, x: Tensor, sigma: float) -> Tensor:
    """What the network put out, given what was made of it: the way back from `denoised`."""
    _, c_skip, c_out = scaling(sampling, sigma)
    return (denoised - c_skip * x) / c_out


def as_velocity(sampling: Sampling) -> Sampling:
    """The same noise levels, for a network that predicts velocities: v, or a flow's own."""
    return sampling if sampling.prediction == "flow" else replace(sampling, prediction="v")


def denoise(  # noqa: PLR0913 - a network and all that it is given
    network: Network,
    sampling: Sampling,
    latent_format: LatentFormat,
    x: Tensor,  # (N, C, h, w)
    sigmas: Sequence[float],  # N, each its own
    context: Tensor,  # (N, T, D)
    context_mask: Tensor | None = None,  # (N, T)
    vector: Tensor | None = None,  # (N, P)
    rounding: Rounding = "nearest",
) -> Tensor:
    """D(x; sigma) for a batch in one forward pass: (N, C, h, w), reckoned in x's dtype.

    Raises ValueError where x has other channels than the model's latents: it comes from another VAE.
    """
    if x.shape[1] != latent_format.channels:
        raise ValueError(f"the model takes latents of {latent_format.channels} channels, not {x.shape[1]}")
    numbers = [(*scaling(sampling, sigma), timestep(sampling, sigma, rounding)) for sigma in sigmas]
    columns = torch.tensor(numbers, dtype=x.dtype).to(x.device, non_blocking=True)  # (N, 4)
    c_in, c_skip, c_out, timesteps = columns.unbind(1)
    output = network(_each(c_in) * x, timesteps, context, context_mask, vector)
    return _each(c_skip) * x + _each(c_out) * output.to(x.dtype)


def begin(model: Model, latent: Tensor, noise: Tensor | None, sigma: float, *, pure: bool = False) -> Tensor:
    """The x at which a walk begins: the latent as the network wants it scaled, noised to sigma.

    noise has variance 1; without it the latent is taken for an x already, as `end` left it between two halves of a
    schedule.  `pure` says that the latent is empty.  Then, from the model's highest level on, x has all the variance
    that it would have with an image in it, 1 + sigma^2, which is how the field starts; below, it is an empty image.
    """
    z = scaled(model.latent, latent)
    if noise is None:
        return z
    if model.sampling.prediction == "flow":
        return (1 - sigma) * z + sigma * noise
    whole = pure and sigma >= sigma_max(model.sampling) * (1 - 1e-5)
    return z + (math.sqrt(1 + sigma**2) if whole else sigma) * noise


def end(model: Model, x: Tensor) -> Tensor:
    """The latent that a walk leaves, as the VAE wants it."""
    return x / model.latent.scale + model.latent.shift


def scaled(latent_format: LatentFormat, latent: Tensor) -> Tensor:
    """The VAE's latent as the network wants it."""
    return (latent - latent_format.shift) * latent_format.scale


def _each(column: Tensor) -> Tensor:
    return column.view(-1, 1, 1, 1)  # (N,) -> (N, 1, 1, 1)


@cache
def _sigmas(sampling: Sampling) -> tuple[float, ...]:
    return tuple(table(sampling).tolist())


@cache
def _logs(sampling: Sampling) -> tuple[float, ...]:
    return tuple(math.log(sigma) for sigma in _sigmas(sampling))


def _betas(sampling: Sampling) -> list[float]:
    """The variances that the forward process adds, a timestep at a time."""
    steps, first, last = sampling.timesteps, sampling.beta_start, sampling.beta_end
    line = [t / max(steps - 1, 1) for t in range(steps)]
    match sampling.betas:
        case "linear":  # arXiv:2006.11239, section 4
            return [first + (last - first) * t for t in line]
        case "scaled_linear":  # evenly in the deviation: Stable Diffusion (arXiv:2112.10752)
            return [(math.sqrt(first) + (math.sqrt(last) - math.sqrt(first)) * t) ** 2 for t in line]
        case "cosine":  # arXiv:2102.09672, eq. 17
            bar = [math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(steps + 1)]
            return [min(1 - bar[t + 1] / bar[t], 0.999) for t in range(steps)]
