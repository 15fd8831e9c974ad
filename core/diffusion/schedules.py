"""Noise schedules: which sigmas a sampler visits.  Pure functions, in float64 on the CPU; all fall, and end in 0.

Most read the sigmas that a network was trained at, its table: (T,) float64, ascending by timestep
(`parameterisation.table`).  torch is imported where a tensor is made, so that the names can be listed without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Schedule = Callable[["Tensor", int], "Tensor"]  # table (T,), steps -> (steps + 1,)


def normal(table: Tensor, steps: int) -> Tensor:
    """Timesteps evenly from the last to the first, both included ("linspace", arXiv:2305.08891)."""
    return _tabulated(table, _line(len(table) - 1, 0, steps))


def sgm_uniform(table: Tensor, steps: int) -> Tensor:
    """Timesteps evenly from the last, leaving out the first: 0 stands in its place."""
    return _tabulated(table, _line(len(table) - 1, 0, steps + 1)[:-1])


def simple(table: Tensor, steps: int) -> Tensor:
    """Every (T / steps)th timestep, counted from the last one ("trailing", arXiv:2305.08891)."""
    last = len(table) - 1
    if steps > last + 1:
        return normal(table, steps)
    return _tabulated(table, [last - int(k * ((last + 1) / steps)) for k in range(steps)])


def ddim_uniform(table: Tensor, steps: int) -> Tensor:
    """Every (T // steps)th timestep, counted from the second ("leading" with offset 1, as Stable Diffusion's DDIM)."""
    if steps > len(table):
        return normal(table, steps)
    stride = len(table) // steps
    offset = min(1, len(table) - 1 - stride * (steps - 1))
    return _tabulated(table, [offset + stride * k for k in reversed(range(steps))])


def beta(table: Tensor, steps: int, alpha: float = 0.6, beta: float = 0.6) -> Tensor:
    """Timesteps at quantiles of a beta distribution: below 1, more steps at both ends (arXiv:2407.12173).

    They are rounded to timesteps of the table as long as that leaves them apart; a thousandth of one always does.
    """
    last, least = len(table) - 1, 1e-3
    quantiles = [last * beta_quantile(1 - k / steps, alpha, beta) for k in range(steps)]
    timesteps = [min(max(t, least * (steps - 1 - k)), last - least * k) for k, t in enumerate(quantiles)]
    rounded = [round(t) for t in timesteps]
    return _tabulated(table, rounded if len(set(rounded)) == steps else timesteps)


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Karras et al. 2022 (arXiv:2206.00364), eq. 5."""
    return _ending_in_zero(s**rho for s in _line(sigma_max ** (1 / rho), sigma_min ** (1 / rho), steps))


def exponential(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Evenly in log sigma, hence in log SNR (DPM-Solver, arXiv:2206.00927, section 4)."""
    return polyexponential(steps, sigma_min, sigma_max, 1.0)


def polyexponential(steps: int, sigma_min: float, sigma_max: float, rho: float = 1.0) -> Tensor:
    """A polynomial in log sigma: rho above 1 spends more steps at low noise."""
    low, high = math.log(sigma_min), math.log(sigma_max)
    return _ending_in_zero(math.exp(low + (high - low) * ramp**rho) for ramp in _line(1, 0, steps))


def flow(steps: int, shift: float = 1.0) -> Tensor:
    """Evenly from 1 to 0, then shifted towards the noise: s t / (1 + (s - 1) t) (arXiv:2403.03206, eq. 23)."""
    return _ending_in_zero(shift * t / (1 + (shift - 1) * t) for t in _line(1, 0, steps + 1)[:-1])


SCHEDULES: Mapping[str, Schedule] = MappingProxyType({
    "normal": normal,
    "karras": lambda table, steps: karras(steps, *_ends(table)),
    "exponential": lambda table, steps: exponential(steps, *_ends(table)),
    "simple": simple,
    "sgm_uniform": sgm_uniform,
    "ddim_uniform": ddim_uniform,
    "beta": beta,
})  # fmt: skip


def tail(schedule: Callable[[int], Tensor], steps: int, denoise: float = 1.0) -> Tensor:
    """The last `steps` of a schedule of `steps / denoise`: what image-to-image walks (SDEdit, arXiv:2108.01073).

    denoise 1 is the whole schedule; 0 keeps the image as it is: no steps, only the final 0.
    """
    if denoise >= 1:
        return schedule(steps)
    return schedule(int(steps / denoise))[-(steps + 1) :] if denoise > 0 else _ending_in_zero([])


def split(sigmas: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Before and from `step`.  Both halves hold the sigma at which they meet."""
    return sigmas[: step + 1], sigmas[step:]


def flip(sigmas: Tensor) -> Tensor:
    """The same levels the other way: up instead of down, to turn an image into its noise."""
    return sigmas.flip(0)


def beta_quantile(p: float, a: float, b: float) -> float:
    """Where the cumulative distribution of Beta(a, b) is p."""
    mirrored = p > _beta_below(0.5, a, b)  # I_x(a, b) = 1 - I_{1 - x}(b, a): the series converges below 1/2
    return 1 - _quantile_below(1 - p, b, a) if mirrored else _quantile_below(p, a, b)


def _quantile_below(p: float, a: float, b: float) -> float:
    """The same where it is at most 1/2: Newton's method, halving where it leaves the bracket."""
    low, high, x = 0.0, 0.5, 0.5
    while p > 0 and high > 1e-250:
        excess = _beta_below(x, a, b) - p
        low, high = (x, high) if excess < 0 else (low, x)
        newton = x - excess / math.exp((a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - _log_beta(a, b))
        if abs(newton - x) <= 1e-15 * x or high - low <= 1e-15 * high:
            return x
        x = newton if low < newton < high else (low + high) / 2
    return 0.0


def _beta_below(x: float, a: float, b: float) -> float:
    """I_x(a, b) for x <= 1/2: the series of DLMF 8.17.7, x^a / (a B(a, b)) 2F1(a, 1 - b; a + 1; x)."""
    total, term, n = 0.0, 1.0, 0
    while abs(term) > 1e-17 * max(abs(total), 1.0):
        total += term / (a + n)
        term *= (n + 1 - b) / (n + 1) * x
        n += 1
    return total * math.exp(a * math.log(x) - _log_beta(a, b))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _line(first: float, last: float, count: int) -> list[float]:
    """`count` numbers, evenly from first to last, both included."""
    return [first + (last - first) * k / max(count - 1, 1) for k in range(count)]


def _ends(table: Tensor) -> tuple[float, float]:
    sigmas = table.tolist()
    return sigmas[0], sigmas[-1]


def _tabulated(table: Tensor, timesteps: Iterable[float]) -> Tensor:
    """The table's sigmas at `timesteps`; between two entries, evenly in log sigma."""
    logs = [math.log(sigma) for sigma in table.tolist()]
    return _ending_in_zero(math.exp(_between(logs, t)) for t in timesteps)


def _between(values: Sequence[float], t: float) -> float:
    k = min(int(t), len(values) - 2)
    return values[k] + (t - k) * (values[k + 1] - values[k])


def _ending_in_zero(sigmas: Iterable[float]) -> Tensor:
    import torch

    return torch.tensor([*sigmas, 0.0], dtype=torch.float64)  # (steps + 1,)
