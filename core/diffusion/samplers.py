"""Samplers: how to walk along a schedule.  They call nothing: they yield what they want denoised, and are sent it.

Everywhere s is the sigma that a step leaves and t the one it arrives at; x = alpha x0 + sigma eps, where alpha is 1, or
1 - sigma in a flow; lambda = log(alpha / sigma).  Lines stand in their paper's order.  Nothing waits for a device.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..values import Answer, Ask

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from torch import Tensor

    from .noise import Noise

    Walk = Generator[Ask, Answer, Tensor]  # yields asks, is sent answers, returns the last x
    Node = tuple[float, Tensor]  # lambda, and what was denoised there


@dataclass(frozen=True, slots=True)
class Options:
    """How to walk, besides where along."""

    noise: Noise
    eta: float  # of the noise that a step may renew, how much it does: 0 is deterministic
    s_noise: float  # scales the noise that is added
    flow: bool  # x = (1 - sigma) x0 + sigma eps


def silent(s: float, t: float) -> Tensor:
    """The noise of walks that draw none."""
    raise ValueError(f"the step from sigma {s:g} to {t:g} adds noise, and the walk was given no source of it")


@dataclass(frozen=True, slots=True)
class Sampler:
    """A way to walk along a schedule."""

    name: str
    steps: Callable[[Tensor, Sequence[float], Options], Walk]
    order: int  # halving the steps divides the error by 2 ** order, as long as no noise is added
    calls: int  # of the network, a step
    help: str
    stochastic: bool = False  # it can add noise
    eta: float | None = None  # the customary one; None: it takes none

    def __call__(  # noqa: PLR0913 - where to walk, and all that there is to say about how
        self,
        x: Tensor,  # (1, C, h, w)
        sigmas: Tensor,  # (steps + 1,): falling to denoise, or rising to invert
        noise: Noise = silent,
        *,
        eta: float | None = None,
        s_noise: float = 1.0,
        flow: bool = False,
    ) -> Walk:
        """Walk x along sigmas.

        Raises ValueError where the schedule turns round, or rises although noise would be added.
        """
        options = Options(noise, (self.eta or 0.0) if eta is None else eta, s_noise, flow)
        levels = [sigma for sigma, _ in groupby(sigmas.tolist())]  # a step of no length leaves x where it is
        if not (self._rises(levels, options) and levels[0] == 0):
            return (yield from self.steps(x, levels, options))
        d = (x - (yield Ask(x, levels[1], 0)).denoised) / levels[1]  # at 0 it is 0/0: taken at the far end
        x = x + d * levels[1]
        return (yield from _later(self.steps(x, levels[1:], options)))

    def _rises(self, levels: Sequence[float], options: Options) -> bool:
        rises = [t > s for s, t in pairwise(levels)]
        if any(rises) and not all(rises):
            raise ValueError("the sigmas of a schedule fall, or rise; these turn round")
        if any(rises) and self.stochastic and (self.eta is None or options.eta > 0):
            raise ValueError(f"{self.name} adds noise: it walks down a schedule, not up from {levels[0]:g}")
        return any(rises)


def euler(x: Tensor, sigmas: Sequence[float], _options: Options) -> Walk:
    """Algorithm 2 of Karras et al. 2022 (arXiv:2206.00364) without churn; DDIM with eta 0."""
    for step, (s, t) in enumerate(pairwise(sigmas)):
        d = (x - (yield Ask(x, s, step)).denoised) / s  # dx/dsigma
        x = x + d * (t - s)
    return x


def heun(x: Tensor, sigmas: Sequence[float], _options: Options) -> Walk:
    """Algorithm 1 of Karras et al. 2022 (arXiv:2206.00364): Euler, corrected by the slope at the far end."""
    for step, (s, t) in enumerate(pairwise(sigmas)):
        d = (x - (yield Ask(x, s, step)).denoised) / s  # dx/dsigma
        ahead = x + d * (t - s)
        if t > 0:
            d = (d + (ahead - (yield Ask(ahead, t, step)).denoised) / t) / 2
            ahead = x + d * (t - s)
        x = ahead
    return x


def dpm_2(x: Tensor, sigmas: Sequence[float], _options: Options) -> Walk:
    """DPM-Solver-2 (arXiv:2206.00927, algorithm 1), in the form of Karras et al.: the slope halfway in log sigma."""
    for step, (s, t) in enumerate(pairwise(sigmas)):
        d = (x - (yield Ask(x, s, step)).denoised) / s
        if t > 0:
            middle = math.sqrt(s * t)
            halfway = x + d * (middle - s)
            d = (halfway - (yield Ask(halfway, middle, step)).denoised) / middle
        x = x + d * (t - s)
    return x


def lms(x: Tensor, sigmas: Sequence[float], _options: Options) -> Walk:
    """Adams-Bashforth in sigma, with up to four slopes: the polynomial through them is integrated (Hairer, III.1)."""
    slopes: deque[Node] = deque(maxlen=4)
    for step, (s, t) in enumerate(pairwise(sigmas)):
        slopes.append((s, (x - (yield Ask(x, s, step)).denoised) / s))
        weights = _integrals([sigma for sigma, _ in slopes], s, t)
        for weight, (_, d) in zip(weights, slopes, strict=True):
            x = x + weight * d
    return x


def euler_ancestral(x: Tensor, sigmas: Sequence[float], options: Options) -> Walk:
    """Euler to below t, then noise up to t; with eta 1 DDPM's chain (arXiv:2006.11239), but for flows: `_ancestral`."""
    for step, (s, t) in enumerate(pairwise(sigmas)):
        sigma_down, alpha_ratio, sigma_up = _ancestral(s, t, options)
        d = (x - (yield Ask(x, s, step)).denoised) / s
        x = x + d * (sigma_down - s)
        x = alpha_ratio * x + _renewed(s, t, sigma_up, options)
    return x


def dpm_2_ancestral(x: Tensor, sigmas: Sequence[float], options: Options) -> Walk:
    """DPM-Solver-2 to below t, then noise up to t."""
    for step, (s, t) in enumerate(pairwise(sigmas)):
        sigma_down, alpha_ratio, sigma_up = _ancestral(s, t, options)
        d = (x - (yield Ask(x, s, step)).denoised) / s
        if sigma_down > 0:
            middle = math.sqrt(s * sigma_down)
            halfway = x + d * (middle - s)
            d = (halfway - (yield Ask(halfway, middle, step)).denoised) / middle
        x = x + d * (sigma_down - s)
        x = alpha_ratio * x + _renewed(s, t, sigma_up, options)
    return x


def ddpm(x: Tensor, sigmas: Sequence[float], options: Options) -> Walk:
    """DDPM (arXiv:2006.11239), algorithm 2: draw from the posterior of eq. 6 and 7 ("fixed small" variance)."""
    alpha = _alpha(options)
    for step, (s, t) in enumerate(pairwise(sigmas)):
        x0 = (yield Ask(x, s, step)).denoised
        new = _new(s, t, options)
        mean = alpha(s) / alpha(t) * (t / s) ** 2 * x + alpha(t) * new * x0
        x = mean + _renewed(s, t, t * math.sqrt(new), options)
    return x


def ddim(x: Tensor, sigmas: Sequence[float], options: Options) -> Walk:
    """DDIM (arXiv:2010.02502), eq. 12 and 16: eta 0 follows the ODE, eta 1 is DDPM."""
    alpha = _alpha(options)
    for step, (s, t) in enumerate(pairwise(sigmas)):
        x0 = (yield Ask(x, s, step)).denoised
        eps = (x - alpha(s) * x0) / s
        deviation = min(t, options.eta * t * math.sqrt(_new(s, t, options)))
        x = alpha(t) * x0 + math.sqrt(t**2 - deviation**2) * eps + _renewed(s, t, deviation, options)
    return x


def lcm(x: Tensor, sigmas: Sequence[float], options: Options) -> Walk:
    """Multistep consistency sampling (arXiv:2303.01469, algorithm 1; arXiv:2310.04378): all noise is new."""
    alpha = _alpha(options)
    for step, (s, t) in enumerate(pairwise(sigmas)):
        x0 = (yield Ask(x, s, step)).denoised
        x = alpha(t) * x0 + _renewed(s, t, t, options)
    return x


def dpmpp_2m(x: Tensor, sigmas: Sequence[float], options: Options) -> Walk:
    """DPM-Solver++(2M) (arXiv:2211.01095), algorithm 2."""
    alpha, lam = _alpha(options), _lambda(options)
    h_before, before = math.inf, x  # as if from infinitely far away: the first step has order 1
    for step, (s, t) in enumerate(pairwise(sigmas)):
        x0 = (yield Ask(x, s, step)).denoised
        h = lam(t) - lam(s)
        halfway = _halfway(x0, before, h, h_before)
        x = t / s * x + (alpha(t) - alpha(s) * t / s) * halfway  # alpha(t) (1 - exp(-h))
        h_before, before = h, x0
    return x


def dpmpp_2m_sde(x: Tensor, sigmas: Sequence[float], options: Options) -> Walk:
    """SDE-DPM-Solver++(2M) (arXiv:2211.01095); eta scales the SDE's noise, and 0 leaves DPM-Solver++(2M)."""
    alpha, lam = _alpha(options), _lambda(options)
    h_before, before = math.inf, x
    for step, (s, t) in enumerate(pairwise(sigmas)):
        x0 = (yield Ask(x, s, step)).denoised
        h = lam(t) - lam(s)
        eta_h = options.eta * h if options.eta else 0.0
        halfway = _halfway(x0, before, h, h_before)
        kept = t / s * math.exp(-eta_h)
        x = kept * x + (alpha(t) - alpha(s) * kept) * halfway  # alpha(t) (1 - exp(-h - eta h))
        x = x + _renewed(s, t, t * math.sqrt(-math.expm1(-2 * eta_h)), options)
        h_before, before = h, x0
    return x


def uni_pc(x: Tensor, sigmas: Sequence[float], options: Options) -> Walk:
    """UniPC-3 (arXiv:2302.04867) with B(h) = h."""
    return (yield from _uni_pc(x, sigmas, options, lambda h: -h))


def uni_pc_bh2(x: Tensor, sigmas: Sequence[float], options: Options) -> Walk:
    """UniPC-3 (arXiv:2302.04867) with B(h) = exp(h) - 1."""
    return (yield from _uni_pc(x, sigmas, options, lambda h: math.expm1(-h)))


SAMPLERS: Mapping[str, Sampler] = MappingProxyType({
    sampler.name: sampler
    for sampler in (
        Sampler("euler", euler, 1, 1, "The plain one: straight steps along the slope."),
        Sampler("euler_ancestral", euler_ancestral, 1, 1, "Euler with new noise at each step.", True, 1.0),
        Sampler("heun", heun, 2, 2, "Euler, corrected at the far end: two passes a step."),
        Sampler("dpm_2", dpm_2, 2, 2, "The slope in the middle of a step: two passes a step."),
        Sampler("dpm_2_ancestral", dpm_2_ancestral, 2, 2, "DPM-2 with new noise at each step.", True, 1.0),
        Sampler("lms", lms, 4, 1, "Remembers four slopes: finer with many steps."),
        Sampler("ddpm", ddpm, 1, 1, "The first diffusion sampler: best with all of a model's steps.", True),
        Sampler("ddim", ddim, 1, 1, "Deterministic unless eta says otherwise.", True, 0.0),
        Sampler("dpmpp_2m", dpmpp_2m, 2, 1, "Good pictures in 15 to 30 steps."),
        Sampler("dpmpp_2m_sde", dpmpp_2m_sde, 2, 1, "DPM++ 2M with new noise at each step: richer detail.", True, 1.0),
        Sampler("uni_pc", uni_pc, 2, 1, "Predicts and corrects: good pictures in 10 to 20 steps."),
        Sampler("uni_pc_bh2", uni_pc_bh2, 2, 1, "UniPC for few steps and strong guidance."),
        Sampler("lcm", lcm, 1, 1, "For models distilled to answer in a few steps.", True),
    )
})  # fmt: skip


def _uni_pc(x: Tensor, sigmas: Sequence[float], options: Options, bh: Callable[[float], float], order: int = 3) -> Walk:
    """Algorithms 1 (UniC) and 2 (UniP) in turn: what is denoised at the predicted x corrects it, at no cost."""
    lam, steps = _lambda(options), len(sigmas) - 1
    seen: list[Node] = []  # the newest first
    p, origin, q = 0, x, math.nan  # the order of the last step, and where it began
    for step, (s, t) in enumerate(pairwise(sigmas)):
        here = lam(s), (yield Ask(x, s, step)).denoised
        if seen:
            x = _unified(origin, q, s, [*seen[:p], here], options, bh)
        nodes = [here, *seen][:order]
        p = min(len(nodes), steps - step)
        origin, q = x, s
        x = _unified(x, s, t, nodes[:p], options, bh)
        seen = nodes if math.isfinite(lam(s)) else []  # from pure noise of a flow the next step has order 1 again
    return x


def _unified(  # noqa: PLR0913 - the theorem's variables
    x: Tensor, s: float, t: float, nodes: Sequence[Node], options: Options, bh: Callable[[float], float]
) -> Tensor:
    """Theorem 3.1 (UniC) and corollary 3.2 (UniP) for data prediction: from s to t, by what was denoised at nodes."""
    alpha = _alpha(options)
    (lambda_s, x0), *others = nodes
    h = _lambda(options)(t) - lambda_s
    x = t / s * x + (alpha(t) - alpha(s) * t / s) * x0
    r = [(lam - lambda_s) / h for lam, _ in others]
    for a, r_m, (_, x_m) in zip(_unipc_weights(r, h, bh), r, others, strict=True):
        x = x - alpha(t) * a / r_m * (x_m - x0)
    return x


def _unipc_weights(r: Sequence[float], h: float, bh: Callable[[float], float]) -> list[float]:
    """a_m B(h): they fit the step's first moments, whatever B is; a node alone has a = 1/2 instead, where B matters."""
    if len(r) < 2:
        return [bh(h) / 2 for _ in r]
    import numpy as np

    phi, b = math.expm1(-h), []
    for k in range(1, len(r) + 1):
        phi = phi / -h - 1 / math.factorial(k)
        b.append(math.factorial(k) * phi)
    weights: list[float] = np.linalg.solve(np.vander(r, increasing=True).T, b).tolist()
    return weights


def _halfway(x0: Tensor, before: Tensor, h: float, h_before: float) -> Tensor:
    """What to expect half a step ahead, on the line through x0 and the one before; just x0 where a step is endless."""
    if math.isinf(h):
        return x0
    r = h_before / h
    return (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before


def _ancestral(s: float, t: float, options: Options) -> tuple[float, float, float]:
    """Where to step down to, what to multiply by, and the deviation of the noise to add, to arrive at t.

    In a flow the way down is shortened by t / s at eta 1, as rectified-flow samplers have it; it is not DDPM's chain.
    """
    if options.eta == 0:
        return t, 1.0, 0.0
    if options.flow:
        sigma_down = max(t * (1 + (t / s - 1) * options.eta), 0.0)
        alpha_ratio = (1 - t) / (1 - sigma_down)
        return sigma_down, alpha_ratio, math.sqrt(max(t**2 - (alpha_ratio * sigma_down) ** 2, 0.0))
    sigma_up = min(t, options.eta * t * math.sqrt(_new(s, t, options)))
    return math.sqrt(t**2 - sigma_up**2), 1.0, sigma_up


def _new(s: float, t: float, options: Options) -> float:
    """1 - exp(-2h): of the noise at t, the share that DDPM's posterior draws anew.  None on the way up."""
    alpha = _alpha(options)
    return 1 - (alpha(s) * t / (alpha(t) * s)) ** 2 if t < s else 0.0


def _renewed(s: float, t: float, deviation: float, options: Options) -> Tensor | float:
    """The noise of the step from s to t.  Where there is none, none is drawn."""
    return deviation * options.s_noise * options.noise(s, t) if deviation > 0 else 0.0


def _alpha(options: Options) -> Callable[[float], float]:
    return (lambda sigma: 1 - sigma) if options.flow else lambda _: 1.0


def _lambda(options: Options) -> Callable[[float], float]:
    """log(alpha / sigma): endless where there is no noise, or nothing else."""
    alpha = _alpha(options)
    return lambda sigma: _log(alpha(sigma)) - _log(sigma)


def _log(number: float) -> float:
    return math.log(number) if number > 0 else -math.inf


def _integrals(nodes: Sequence[float], s: float, t: float) -> list[float]:
    """Of the Lagrange polynomials through up to four nodes, from s to t: two points of Gauss are exact for a cubic."""
    half, middle = (t - s) / 2, (t + s) / 2
    points = middle - half / math.sqrt(3), middle + half / math.sqrt(3)
    return [
        half * sum(math.prod((p - other) / (node - other) for other in nodes if other != node) for p in points)
        for node in nodes
    ]


def _later(walk: Walk) -> Walk:
    """The same walk as the steps that follow a first one."""
    try:
        ask = next(walk)
        while True:
            ask = walk.send((yield replace(ask, step=ask.step + 1)))
    except StopIteration as end:
        x: Tensor = end.value
        return x
