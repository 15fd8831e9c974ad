"""The driver: advances runs side by side, answers their calls in shared forward passes, stops them between calls."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor

from .diffusion import parameterisation
from .errors import Interrupted, OutOfMemory, kind
from .event import Event
from .run import Run
from .values import Call, Progress

if TYPE_CHECKING:
    from .diffusion.parameterisation import Network
    from .diffusion.walks import Work
    from .models.residency import Residency

T = TypeVar("T")
Result = Tensor | Exception
Answers = list[Tensor] | Exception | None  # None: the run has not begun


BATCH = 64  # images of one forward pass
PAUSE = 0.002  # seconds


def drive(runs: Sequence[Run], networks: Residency, *, batch: int = BATCH) -> Iterator[tuple[int, Event]]:
    """Every event of every run, with the run's number.  `batch` bounds the images of one forward pass.

    A run that is stopped, or whose call fails, is told so inside the node that asked; the others go on.  What several
    runs need is made by one of them: those that wait for it yield no calls, and are asked again in the next round.
    """
    answers: Mapping[int, Answers] = dict.fromkeys(range(len(runs)))
    try:
        while answers:
            waiting: list[tuple[int, Call]] = []
            idle: list[int] = []
            for k, answer in answers.items():
                run = runs[k]
                said = _resume(run, Interrupted("stopped") if answer is not None and run.stopping else answer)
                while isinstance(said, Event):
                    yield k, said
                    said = _resume(run, None)
                waiting += [(k, call) for call in said or ()]
                if said == []:
                    idle.append(k)
            if idle and not waiting:
                time.sleep(PAUSE)  # the maker is driven by another thread
            answers = _answered(waiting, networks, batch) | dict.fromkeys(idle)
    finally:
        for run in runs:
            run.work.close()  # whoever stops listening ends them: no other run waits for what they began


def alone(work: Work[T], networks: Residency) -> T:
    """Take one long node to its end, answering its own calls: what a host without a driver does."""
    answer: Answers = None
    while True:
        try:
            said = work.throw(answer) if isinstance(answer, Exception) else work.send(answer)  # type: ignore[arg-type]
        except StopIteration as end:
            output: T = end.value
            return output
        calls = [] if isinstance(said, Progress) else [(0, call) for call in said]
        answer = _answered(calls, networks, BATCH).get(0, [])


def _resume(run: Run, answer: Answers) -> Event | list[Call] | None:
    """What `run` says next, None at its end.  An exception is raised inside it."""
    try:
        return run.work.throw(answer) if isinstance(answer, Exception) else run.work.send(answer)
    except StopIteration:
        return None


def _answered(waiting: Sequence[tuple[int, Call]], networks: Residency, batch: int) -> dict[int, Answers]:
    alike: defaultdict[object, list[int]] = defaultdict(list)
    for i, (_, call) in enumerate(waiting):
        pooled = call.conditioning.pooled
        alike[call.model, call.x.shape, call.x.dtype, None if pooled is None else pooled.shape].append(i)
    results: dict[int, Result] = {}
    for members in alike.values():
        for first in range(0, len(members), batch):
            results |= _passed(waiting, members[first : first + batch], networks)
    answers: dict[int, Answers] = {}
    for i, (k, _) in enumerate(waiting):
        result, so_far = results[i], answers.setdefault(k, [])
        if isinstance(result, Exception):
            answers[k] = result
        elif isinstance(so_far, list):
            so_far.append(result)
    return answers


def _passed(waiting: Sequence[tuple[int, Call]], members: Sequence[int], networks: Residency) -> dict[int, Result]:
    """One forward pass for all `members`; where a shared one fails, one for each run: no run fails another."""
    try:
        return dict(zip(members, _fitted([waiting[i][1] for i in members], networks), strict=True))
    except Exception as error:
        runs = {waiting[i][0] for i in members}
        if len(runs) == 1:
            return dict.fromkeys(members, error)
        alone_ = (_passed(waiting, [i for i in members if waiting[i][0] == k], networks) for k in runs)
        return {i: result for results in alone_ for i, result in results.items()}


def _fitted(calls: Sequence[Call], networks: Residency) -> list[Tensor]:
    """All calls in one forward pass; where that does not fit, room is made, then by half as many, to one by one."""
    size, cleared = len(calls), False
    while True:
        try:
            return [x for first in range(0, len(calls), size) for x in _forward(calls[first : first + size], networks)]
        except (RuntimeError, MemoryError) as error:
            if kind(error) is not OutOfMemory:
                raise
        if not cleared:
            networks.clear()  # only here, after the error and the tensors in its frames have gone
            cleared = True
        elif size > 1:
            size = -(-size // 2)
        else:
            shape = tuple(calls[0].x.shape[1:])
            raise OutOfMemory(f"an image of {shape} does not fit; in memory are:\n{networks.table()}")


def _forward(calls: Sequence[Call], networks: Residency) -> list[Tensor]:
    model = calls[0].model
    x = torch.cat([call.x for call in calls])  # (N, C, h, w)
    tokens, mask = _tokens(calls)
    pooled = [call.conditioning.pooled for call in calls]
    vector = None if pooled[0] is None else torch.cat([p for p in pooled if p is not None]).to(x.device)  # (N, P)
    with networks.lent(model.recipe) as network, torch.inference_mode():
        denoiser, sigmas = cast("Network", network), [call.sigma for call in calls]
        denoised = parameterisation.denoise(denoiser, model.sampling, model.latent, x, sigmas, tokens, mask, vector)
    return list(torch.split(denoised, 1))


def _tokens(calls: Sequence[Call]) -> tuple[Tensor, Tensor | None]:
    """The texts of all calls, filled up to the longest, and where they have tokens: (N, T, D), (N, T) or None."""
    conditionings = [call.conditioning for call in calls]
    lengths = {c.tokens.shape[1] for c in conditionings}
    device = calls[0].x.device
    if len(lengths) == 1 and all(c.mask is None for c in conditionings):
        return torch.cat([c.tokens for c in conditionings]).to(device), None
    tokens = torch.zeros(len(calls), max(lengths), conditionings[0].tokens.shape[2])
    tokens = tokens.to(device, conditionings[0].tokens.dtype)
    mask = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=device)
    for k, c in enumerate(conditionings):
        length = c.tokens.shape[1]
        tokens[k, :length] = c.tokens[0]
        mask[k, :length] = True if c.mask is None else c.mask[0]
    return tokens, mask
