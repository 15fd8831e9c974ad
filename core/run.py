"""The runner: the only module that calls nodes.  A run yields events, and the calls its nodes want answered."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .cache import Cache
from .errors import BadReturn, Interrupted
from .graph import Link
from .plan import Plan, Step
from .schema import Context, Need
from .store import Outputs
from .values import Call, Files, Progress

if TYPE_CHECKING:
    from torch import Tensor

    Answers = list[Tensor]
    Work = Generator["list[Call] | Progress | Need", object, object]  # a long node
    Working = Generator["Event | list[Call]", Answers | None, None]  # a run: a list of calls is answered, an event not


@dataclass(frozen=True, slots=True)
class Started:
    """A node is being called."""

    node: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A long node is getting on."""

    node: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class Warned:
    """A node did its work, and has something to say about it."""

    node: str
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A node has its result."""

    node: str
    outputs: Outputs
    cached: bool
    seconds: float = 0.0
    files: tuple[str, ...] = ()  # what an output node has delivered


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run was stopped, at this node."""

    node: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A node failed, and with it the run."""

    node: str
    error: BaseException


Event = Started | Moved | Warned | Finished | Stopped | Failed


class Run:
    """One run of a plan.  `work` is advanced by a driver; `stop()` may be called from any thread."""

    def __init__(
        self, plan: Plan, cache: Cache, context: Context, forced: frozenset[str] = frozenset(), scope: str = ""
    ) -> None:
        self.plan = plan
        self.scope = scope  # the workflow, whose past runs `explain` compares with
        self.cache = cache
        self.context = context
        self.forced = below(plan, forced)
        self.work: Working = _work(self)
        self._stop = threading.Event()

    def stop(self) -> None:
        """End the run before the next node or the next network call."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether somebody has called `stop`."""
        return self._stop.is_set()


def below(plan: Plan, forced: frozenset[str]) -> frozenset[str]:
    """`forced`, and all that takes something from them: it may be another thing now."""
    found: set[str] = set()
    for step in plan.steps.values():
        if step.id in forced or any(link.node in found for link in _links(step)):
            found.add(step.id)
    return frozenset(found)


def will_run(plan: Plan, cache: Cache, forced: frozenset[str] = frozenset()) -> tuple[set[str], set[str]]:
    """The steps that a run would execute, and those whose results it would take from the cache.

    All others are not needed: something below them is cached.  An output node always runs: it delivers.
    """
    runs: set[str] = set()
    hits: set[str] = set()
    wanted = set(plan.targets)
    forced = below(plan, forced)
    for step in reversed(tuple(plan.steps.values())):  # what depends on a step comes after it
        if step.id not in wanted:
            continue
        if step.cached and step.id not in forced and cache.where(step):
            hits.add(step.id)
        else:
            runs.add(step.id)
            wanted.update(link.node for link in _links(step))
    return runs, hits


@dataclass(slots=True)
class _Frame:
    """A step on the stack: waiting for what it needs, or half way through its work."""

    step: Step
    work: Work | None = None
    need: str | None = None  # the lazy input that the work waits for
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)


class _Done(dict[str, Outputs]):
    """Results in use.  Each is let go when the last step that takes it has its own, unless it is what a run is for."""

    def __init__(self, plan: Plan, runs: set[str]) -> None:
        self._kept = set(plan.targets)
        self._runs = runs
        self._takers = Counter(link.node for i in runs for link in _links(plan.steps[i]))

    def release(self, step: Step) -> None:
        """`step` has its result, and needs what it takes no more."""
        for link in _links(step) if step.id in self._runs else ():  # others, whose result got lost, were not counted
            self._takers[link.node] -= 1
            if not self._takers[link.node] and link.node not in self._kept:
                self.pop(link.node, None)


def _work(run: Run) -> Working:
    """Evaluate the targets, and let go of what was begun for others to do."""
    try:
        yield from _evaluated(run)
    finally:
        run.cache.release(run)


def _evaluated(run: Run) -> Working:
    """Evaluate the targets on demand, with a stack of our own: ten thousand nodes in a chain are fine.

    A result is held only until the last step that takes it has run; the cache may hold it longer.
    """
    plan = run.plan
    runs, _ = will_run(plan, run.cache, run.forced)
    shown = {link.node for i in runs if plan.steps[i].node.delivers for link in _links(plan.steps[i])}
    done = _Done(plan, runs)
    for target in plan.targets:
        stack = [_Frame(plan.steps[target])]
        while stack:
            frame = stack[-1]
            step = frame.step
            if frame.work is None and step.id not in done and (hit := _cached(run, step)) is not None:
                done[step.id] = hit
                yield Finished(step.id, hit, cached=True)
                done.release(step)
                hit = None
            if step.id in done:
                stack.pop()
                continue
            if (missing := _missing(frame, done)) is not None:
                stack.append(_Frame(plan.steps[missing]))
                continue
            if _waits(run, frame):
                yield []  # no calls now
                continue
            result = yield from _guarded(run, frame, done, shown=step.id in shown)
            if isinstance(result, Failed | Stopped):
                yield result
                return
            if isinstance(result, Need):
                frame.need = result.input
                continue
            run.cache.release(run, step)
            outputs, files = result
            done[step.id] = outputs
            for text in frame.warnings:
                yield Warned(step.id, text)
            yield Finished(step.id, outputs, cached=False, seconds=frame.seconds, files=files)
            del outputs, result
            done.release(step)


def _guarded(
    run: Run, frame: _Frame, done: dict[str, Outputs], *, shown: bool
) -> Generator[Event | list[Call], Answers | None, tuple[Outputs, tuple[str, ...]] | Need | Failed | Stopped]:
    """Call or resume a node, and keep its result.  Whatever it raises ends the run, never the program."""
    step = frame.step
    try:
        if run.stopping:
            return Stopped(step.id)
        if frame.work is None:
            yield Started(step.id)
            began = time.perf_counter()
            result = step.node(**_arguments(run, frame, done))
            frame.seconds += time.perf_counter() - began
            frame.work = result if isinstance(result, Generator) else None
        if frame.work is not None:
            wanted, frame.need = _lazy(frame), None
            answer = done[wanted.node][wanted.output] if isinstance(wanted, Link) else wanted
            result = yield from _advanced(run, frame, frame.work, answer)
            if isinstance(result, Need):
                return result
        outputs, files = _outputs(step, result)
        sound = run.cache.put(step, outputs, frame.seconds, shown=shown)  # here a device tells of what failed before
        if not sound:
            frame.warnings.append("its result has values that are no numbers (NaN or infinite); it is not kept")
        return outputs, files
    except Interrupted:
        return Stopped(step.id)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        return Failed(step.id, error)


def _advanced(
    run: Run, frame: _Frame, work: Work, answer: object
) -> Generator[Event | list[Call], Answers | None, object]:
    """Pass a long node's calls up and its progress out, until it ends or needs a lazy input."""
    step = frame.step
    error: Exception | None = None
    while True:
        began = time.perf_counter()
        try:
            said = work.send(answer) if error is None else work.throw(error)
        except StopIteration as end:
            return end.value
        finally:
            frame.seconds += time.perf_counter() - began
        answer = error = None
        if isinstance(said, Need) and said.input in step.inputs:
            return said
        if isinstance(said, Progress):
            yield Moved(step.id, said)
            error = Interrupted("stopped") if run.stopping else None
            continue
        if not isinstance(said, list) or not all(isinstance(call, Call) for call in said):
            raise BadReturn(
                f"{step.node.id} yielded {said!r:.80}, which is neither calls, Progress nor Need of an input"
            )
        if not said:
            answer = []
            continue
        began = time.perf_counter()
        try:
            answer = yield said
        except Exception as thrown:  # the driver's: a call that failed, or a stop, belongs to the node that asked
            error = thrown
        frame.seconds += time.perf_counter() - began


def _cached(run: Run, step: Step) -> Outputs | None:
    return run.cache.get(step) if step.cached and step.id not in run.forced else None


def _waits(run: Run, frame: _Frame) -> bool:
    """Whether another run is making this very result, so that there is nothing to do but wait for it."""
    if frame.work is not None or run.stopping or frame.step.id in run.forced:
        return False
    return not run.cache.begin(frame.step, run)


def _missing(frame: _Frame, done: dict[str, Outputs]) -> str | None:
    """A node that has to be evaluated before `frame` can go on."""
    if frame.work is not None:
        link = _lazy(frame)
        return link.node if isinstance(link, Link) and link.node not in done else None
    return next((link.node for link in _eager(frame.step) if link.node not in done), None)


def _lazy(frame: _Frame) -> object:
    return frame.step.inputs[frame.need] if frame.need else None


def _arguments(run: Run, frame: _Frame, done: dict[str, Outputs]) -> dict[str, object]:
    step = frame.step
    given = {
        spec.name: done[v.node][v.output] if isinstance(v := step.inputs[spec.name], Link) else v
        for spec in step.node.inputs
        if not spec.lazy
    }
    given |= {spec.name: None for spec in step.node.inputs if spec.lazy}
    return given | {"context": replace(run.context, warn=frame.warnings.append)} if step.node.wants_context else given


def _outputs(step: Step, result: object) -> tuple[Outputs, tuple[str, ...]]:
    declared = step.node.outputs
    if not declared and isinstance(result, Files):
        return (), result.paths
    outputs = () if result is None and not declared else tuple(result) if isinstance(result, tuple) else (result,)
    if len(outputs) != len(declared):
        raise BadReturn(f"{step.node.id} declares {len(declared)} outputs, and returned {len(outputs)}")
    for output, value in zip(declared, outputs, strict=True):
        if not isinstance(value, float | int if output.type is float else output.type):
            found = type(value).__name__
            raise BadReturn(f"{step.node.id} declares that {output.name} is {output.wire}, and returned {found}")
    return outputs, ()


def _links(step: Step) -> Iterator[Link]:
    return (value for value in step.inputs.values() if isinstance(value, Link))


def _eager(step: Step) -> Iterator[Link]:
    lazy = {spec.name for spec in step.node.inputs if spec.lazy}
    return (value for name, value in step.inputs.items() if isinstance(value, Link) and name not in lazy)
