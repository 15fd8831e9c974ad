"""Walking several images side by side, each at its own pace, asking for all their calls at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from ..values import Progress
from .guidance import denoise
from .parameterisation import end

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch import Tensor

    from ..values import Call, Guider
    from .samplers import Walk

    T = TypeVar("T")
    Work = Generator[list[Call] | Progress, list[Tensor], T]  # a long node: calls are answered, progress is not
    Thread = Generator[list[Call], list[Tensor], Tensor]  # one image: its walk, guided


def side_by_side(walks: Sequence[Walk], guider: Guider, steps: int) -> Work[list[Tensor]]:
    """Take every walk of `steps` steps to its end: the last x of each.

    Yields lists of calls, all that the images want at once, and Progress, as often as the slowest image ends a step.
    """
    images = [_Image() for _ in walks]
    threads = [_thread(walk, guider, image, steps) for walk, image in zip(walks, images, strict=True)]
    answers: dict[int, list[Tensor] | None] = dict.fromkeys(range(len(walks)))
    ends: dict[int, Tensor] = {}
    done = 0
    while answers:
        wants: dict[int, list[Call]] = {}
        for k, answer in answers.items():
            try:
                wants[k] = next(threads[k]) if answer is None else threads[k].send(answer)
            except StopIteration as stop:
                ends[k] = stop.value
        slowest = min(image.done for image in images)
        if slowest > done:
            done, preview = slowest, images[0].denoised
            yield Progress(done, steps, None if preview is None else end(guider.model, preview))
        flat = iter((yield [call for calls in wants.values() for call in calls]) if wants else [])
        answers = {k: list(islice(flat, len(calls))) for k, calls in wants.items()}
    return [ends[k] for k in range(len(walks))]


def masked(walk: Walk, mask: Tensor, kept: Callable[[float], Tensor], sigma_end: float = 0.0) -> Walk:
    """The same walk, painting only where mask is 1 and keeping the original where it is 0; blending in between.

    mask (1, 1, h, w); kept(sigma) (1, C, h, w) is the original as it looks at that noise level.  What is asked shows
    the original around the painting, and each answer is the original there (RePaint, arXiv:2201.09865, no resampling).
    """
    original = kept(0.0)

    def blended(paint: Tensor, around: Tensor) -> Tensor:
        return mask * paint + (1 - mask) * around

    try:
        ask = next(walk)
        while True:
            answer = yield replace(ask, x=blended(ask.x, kept(ask.sigma)))
            uncond = None if answer.uncond is None else blended(answer.uncond, original)
            ask = walk.send(replace(answer, denoised=blended(answer.denoised, original), uncond=uncond))
    except StopIteration as stop:  # in between, the answers have been blended already
        end: Tensor = stop.value.where(mask > 0, kept(sigma_end))
        return end


def noted(walk: Walk, note: Callable[[Tensor], None]) -> Walk:
    """The same walk, which notes each denoised image (1, C, h, w) that it is told."""
    try:
        ask = next(walk)
        while True:
            answer = yield ask
            note(answer.denoised)
            ask = walk.send(answer)
    except StopIteration as stop:
        x: Tensor = stop.value
        return x


@dataclass(slots=True)
class _Image:
    """How far one image is."""

    done: int = 0  # steps
    denoised: Tensor | None = None


def _thread(walk: Walk, guider: Guider, image: _Image, steps: int) -> Thread:
    """One image's asks as calls.  A walk of no steps ends at once: its x is where it stood."""
    try:
        ask = next(walk)
        while True:
            answer = yield from denoise(guider, ask)
            image.denoised = answer.denoised
            ask = walk.send(answer)
            image.done = ask.step
    except StopIteration as stop:
        image.done = steps
        x: Tensor = stop.value
        return x
