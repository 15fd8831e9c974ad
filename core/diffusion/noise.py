"""Noise: everything random in a picture, as a function of its seed.  Drawn on the CPU: the same on every device.

A picture has two streams, one for its start and one for its steps; the second one is either fresh at each step or the
increments of one Brownian path, which is the same path whatever the schedule.  (torch's generator for the CPU reads the
low 32 bits of a seed: seeds that differ by 2**32 give the same picture.)
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

Noise = Callable[[float, float], "Tensor"]  # from sigma, to sigma -> noise of variance 1


def start(seed: int, shape: Sequence[int]) -> Tensor:
    """The noise that a picture starts from: what torch.randn gives after torch.manual_seed(seed)."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def fresh(seed: int, like: Tensor) -> Noise:
    """New noise at each step, of the shape of `like` and sent to where it is."""
    generator = _stream(seed, "steps")
    return lambda _s, _t: _sent(torch.randn(like.shape, generator=generator), like)


class Brownian:
    """The increments of one path W over sigma >= 0, each divided by its deviation.  Called as `Noise`.

    W(0) = 0 and W(t) - W(s) ~ N(0, t - s).  It is a tree of bridges (arXiv:2001.01328, section 4): W is first drawn at
    the powers of two, then halfway between two points that are known, with a generator seeded by these points.  So W(t)
    depends on the seed and on t alone, and finer schedules walk along the path that coarser ones took.
    """

    DEPTH = 18  # halvings before the last bridge, to t itself: steps shorter than sigma / 2**18 stray a little

    def __init__(self, seed: int, like: Tensor) -> None:
        self._seed, self._like = seed, like
        self._powers: list[Tensor] = []  # W(1), W(2), W(4) ...
        self._recent: dict[float, Tensor] = {}  # the two ends of the last step: the next one begins where it ended

    def __call__(self, s: float, t: float) -> Tensor:
        """(W(t) - W(s)) / sqrt(|t - s|), of the shape of `like` and sent to where it is."""
        ends = {sigma: self._recent[sigma] if sigma in self._recent else self.at(sigma) for sigma in (s, t)}
        self._recent = ends
        return _sent((ends[t] - ends[s]) / math.sqrt(abs(t - s)), self._like)

    def at(self, sigma: float) -> Tensor:
        """W(sigma), in float64 on the CPU."""
        a, w_a, b, w_b = self._octave(sigma)
        for _ in range(self.DEPTH):
            if sigma == a:
                break
            middle = (a + b) / 2
            w = self._bridged(a, w_a, b, w_b, middle)
            a, w_a, b, w_b = (middle, w, b, w_b) if sigma >= middle else (a, w_a, middle, w)
        return w_a if sigma == a else self._bridged(a, w_a, b, w_b, sigma)

    def _octave(self, sigma: float) -> tuple[float, Tensor, float, Tensor]:
        """The two powers of two (or 0 and 1) around sigma, and W there."""
        k = max(math.frexp(sigma)[1], 0)  # sigma < 2**k
        while len(self._powers) <= k:
            last = len(self._powers)
            before = self._powers[-1] if last else torch.zeros(self._like.shape, dtype=torch.float64)
            self._powers.append(before + math.sqrt(2.0 ** max(last - 1, 0)) * self._drawn(2.0**last))
        if k == 0:
            return 0.0, torch.zeros_like(self._powers[0]), 1.0, self._powers[0]
        return 2.0 ** (k - 1), self._powers[k - 1], 2.0**k, self._powers[k]

    def _bridged(self, a: float, w_a: Tensor, b: float, w_b: Tensor, t: float) -> Tensor:
        """W(t), drawn given W(a) and W(b)."""
        share = (t - a) / (b - a)
        return w_a + share * (w_b - w_a) + math.sqrt(share * (b - t)) * self._drawn(a, b, t)

    def _drawn(self, *points: float) -> Tensor:
        return torch.randn(self._like.shape, generator=_stream(self._seed, "path", *points)).double()


class Source(Protocol):
    """Where a batch's noise comes from."""

    def start(self, shape: Sequence[int]) -> Tensor:
        """What each image starts from: (B, C, h, w)."""

    def steps(self, like: Tensor, levels: Sequence[float], *, path: bool) -> list[Noise]:
        """Each image's noise while it walks along levels: fresh, or the increments of a Brownian path."""


@dataclass(frozen=True, slots=True)
class Apart:
    """Each image draws by itself: it is the same alone as in a batch."""

    seeds: Sequence[int]

    def start(self, shape: Sequence[int]) -> Tensor:
        """What each image starts from: (B, C, h, w)."""
        return torch.cat([start(seed, (1, *shape[1:])) for seed in self.seeds])

    def steps(self, like: Tensor, _levels: Sequence[float], *, path: bool) -> list[Noise]:
        """Each image's own stream, or its own path."""
        draw: Callable[[int, Tensor], Noise] = Brownian if path else fresh
        return [draw(seed, like[:1]) for seed in self.seeds]


@dataclass(frozen=True, slots=True)
class Shared:
    """The batch is drawn whole, at the start and at each step, and each image gets its slice: as in ComfyUI."""

    seed: int  # 0..2**64 - 1
    batch_index: Sequence[int] | None = None

    def start(self, shape: Sequence[int]) -> Tensor:
        """One drawing (B, C, h, w); with batch_index one after the other, and image k takes number batch_index[k]."""
        if self.batch_index is None:
            return start(self.seed, shape)
        generator = torch.Generator().manual_seed(self.seed)
        drawn = [torch.randn((1, *shape[1:]), generator=generator) for _ in range(max(self.batch_index) + 1)]
        return torch.cat([drawn[k] for k in self.batch_index])

    def steps(self, like: Tensor, levels: Sequence[float], *, path: bool) -> list[Noise]:
        """Slices of one stream, or of one path between the lowest and the highest of the levels."""
        if not path:
            return _slices(self.seed, like)
        above = [level for level in levels if level > 0]
        path_ = _Halves(self.seed, like, min(above, default=0.0), max(above, default=1.0))
        drawn = lru_cache(maxsize=4)(path_)  # an image may be steps ahead of another
        return [partial(_slice, drawn, k) for k in range(len(like))]


def _slices(seed: int, like: Tensor) -> list[Noise]:
    """The k-th image's i-th draw is the k-th slice of the i-th drawing, in whatever order the images ask."""
    generator = torch.Generator().manual_seed((seed + 1) % 2**64)  # not the start's: ComfyUI's seed for the CPU
    slices: list[deque[Tensor]] = [deque() for _ in like]  # an image may be steps ahead of another

    def noise(k: int, _s: float, _t: float) -> Tensor:
        if not slices[k]:
            for image, drawn in zip(slices, torch.randn(like.shape, generator=generator), strict=True):
                image.append(drawn[None])
        return _sent(slices[k].popleft(), like)

    return [partial(noise, k) for k in range(len(like))]


def _slice(draw: Noise, k: int, s: float, t: float) -> Tensor:
    return draw(s, t)[k : k + 1]


class _Halves(Brownian):
    """The path that torchsde's BrownianTree draws from an entropy: halved between two ends, never between octaves.

    Points are rounded to a millionth, which ends the halving; levels are what float32 makes of them.
    """

    DIGITS = 6

    def __init__(self, seed: int, like: Tensor, low: float, high: float) -> None:
        super().__init__(seed, like)
        low, high = _single(low), _single(high)
        self._low, self._high = round(low, self.DIGITS), round(high, self.DIGITS)
        self._whole = math.sqrt(high - low) * self._seeded()

    def __call__(self, s: float, t: float) -> Tensor:
        """As `Brownian`, with the divisor that float32 gives."""
        return super().__call__(_single(s), _single(t))

    def at(self, sigma: float) -> Tensor:
        """W(sigma) - W(low), in float64 on the CPU."""
        sigma, place, depth = round(sigma, self.DIGITS), 0, 0
        a, w_a, b, w_b = self._low, torch.zeros_like(self._whole), self._high, self._whole
        while a < sigma < b:
            middle = round((a + b) / 2, self.DIGITS)
            share = (middle - a) / (b - a)
            w = w_a + share * (w_b - w_a) + math.sqrt(share * (b - middle)) * self._seeded(place, depth)
            place, depth = 2 * place + (sigma >= middle), depth + 1
            a, w_a, b, w_b = (middle, w, b, w_b) if sigma >= middle else (a, w_a, middle, w)
        return w_b if sigma >= b else w_a

    def _seeded(self, *key: int) -> Tensor:
        """The noise of one point, seeded by where it is in the tree."""
        sequence = np.random.SeedSequence(self._seed, spawn_key=key, pool_size=24)
        generator = torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))
        return torch.randn(self._like.shape, generator=generator).double()


def _single(number: float) -> float:
    return float(torch.tensor(number, dtype=torch.float32))


def _stream(seed: int, *what: object) -> torch.Generator:
    """A generator of its own for each purpose."""
    digest = blake2b(repr((seed, *what)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def _sent(noise: Tensor, like: Tensor) -> Tensor:
    """To the device and dtype of `like`, without waiting for it: from pinned memory, which a GPU copies by itself."""
    noise = noise.to(like.dtype)
    if like.device.type == "cuda":
        noise = noise.pin_memory()
    return noise.to(like.device, non_blocking=True)
