"""The scheduler: choose the noise levels that the sampler visits."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from ..core.diffusion.schedules import SCHEDULES
from ..core.schema import Choice, Range, node
from ..core.values import Model, Sigmas

Steps = Annotated[int, Range(1, 10000), "Denoising steps: more is slower and finer."]
Denoise = Annotated[float, Range(0, 1, 0.01), "Below 1, only the last part: image-to-image.  1 starts from pure noise."]
Lowest = Annotated[float | None, "Where the schedule ends, before 0; the model's lowest level where nothing is given."]
Highest = Annotated[float | None, "Where the schedule starts; the model's highest level where nothing is given."]


class Halves(NamedTuple):
    """A schedule in two."""

    high: Sigmas
    low: Sigmas


@node("sampling")
def schedule(
    model: Annotated[Model, "Whose noise levels they are."],
    kind: Annotated[str, Choice(*SCHEDULES), "How the steps are spaced among the model's own levels."] = "normal",
    steps: Steps = 20,
    denoise: Denoise = 1.0,
) -> Sigmas:
    """Noise levels from the model's own, by the name that the field gives to their spacing."""
    from ..core.diffusion import parameterisation, schedules

    table = parameterisation.table(model.sampling)
    return Sigmas(schedules.tail(lambda count: SCHEDULES[kind](table, count), steps, denoise))


@node("sampling")
def karras_schedule(
    model: Model,
    steps: Steps = 20,
    rho: Annotated[float, Range(0.1, 100, 0.1), "Higher spends more steps at low noise."] = 7.0,
    denoise: Denoise = 1.0,
    sigma_min: Lowest = None,
    sigma_max: Highest = None,
) -> Sigmas:
    """Noise levels spaced as in Karras et al. 2022 (arXiv:2206.00364)."""
    from ..core.diffusion import schedules

    low, high = _ends(model, sigma_min, sigma_max)
    return Sigmas(schedules.tail(lambda count: schedules.karras(count, low, high, rho), steps, denoise))


@node("sampling")
def exponential_schedule(
    model: Model,
    steps: Steps = 20,
    rho: Annotated[float, Range(0.1, 100, 0.1), "1 is even in log sigma; higher spends more steps at low noise."] = 1.0,
    denoise: Denoise = 1.0,
    sigma_min: Lowest = None,
    sigma_max: Highest = None,
) -> Sigmas:
    """Noise levels even in log sigma, or a polynomial of it."""
    from ..core.diffusion import schedules

    low, high = _ends(model, sigma_min, sigma_max)
    return Sigmas(schedules.tail(lambda count: schedules.polyexponential(count, low, high, rho), steps, denoise))


@node("sampling")
def beta_schedule(
    model: Model,
    steps: Steps = 20,
    alpha: Annotated[float, Range(0.01, 10, 0.01), "Below 1, more steps at high noise."] = 0.6,
    beta: Annotated[float, Range(0.01, 10, 0.01), "Below 1, more steps at low noise."] = 0.6,
    denoise: Denoise = 1.0,
) -> Sigmas:
    """Noise levels at quantiles of a beta distribution (arXiv:2407.12173)."""
    from ..core.diffusion import parameterisation, schedules

    table = parameterisation.table(model.sampling)
    return Sigmas(schedules.tail(lambda count: schedules.beta(table, count, alpha, beta), steps, denoise))


@node("sampling")
def flow_schedule(
    steps: Steps = 20,
    shift: Annotated[
        float, Range(0.01, 100, 0.01), "Above 1, more steps at high noise: larger pictures want more."
    ] = 1.0,
    denoise: Denoise = 1.0,
) -> Sigmas:
    """Noise levels of rectified flow, evenly from 1 to 0, then shifted (arXiv:2403.03206)."""
    from ..core.diffusion import schedules

    return Sigmas(schedules.tail(lambda count: schedules.flow(count, shift), steps, denoise))


@node("sampling")
def split_sigmas(sigmas: Sigmas, step: Annotated[int, Range(0, 10000), "Where the second half begins."] = 10) -> Halves:
    """Cut a schedule in two, to change model or guidance on the way."""
    from ..core.diffusion import schedules

    high, low = schedules.split(sigmas.values, step)
    return Halves(Sigmas(high), Sigmas(low))


@node("sampling")
def flip_sigmas(sigmas: Sigmas) -> Sigmas:
    """Turn a schedule round, to walk from a picture to its noise."""
    from ..core.diffusion import schedules

    return Sigmas(schedules.flip(sigmas.values))


def _ends(model: Model, sigma_min: float | None, sigma_max: float | None) -> tuple[float, float]:
    from ..core.diffusion import parameterisation

    low = parameterisation.sigma_min(model.sampling) if sigma_min is None else sigma_min
    high = parameterisation.sigma_max(model.sampling) if sigma_max is None else sigma_max
    if not 0 < low < high:
        raise ValueError(f"sigma_min must be above 0 and below sigma_max, not {low:g} and {high:g}")
    return low, high
