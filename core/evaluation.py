"""The runner: takes the nodes of a run to their ends, on demand, and what they want answered to its driver."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import call, workflow
from .cache import Cache
from .errors import BadReturn, Interrupted
from .event import Event, Failed, Finished, Moved, Place, Refused, Started, Stopped, Warned
from .graph import Link
from .plan import Plan, Step
from .schema import Context
from .values import Blocked, Call, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from .run import Run
    from .store import Outputs

    Answers = list[Tensor]
    Working = Generator[Event | list[Call], Answers | None, None]  # a run: a list of calls is answered, an event not

PAUSE = 0.01  # seconds between two looks at coroutines that all wait


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


def work(run: Run) -> Working:
    """Evaluate the targets, and let go of what was begun for others to do."""
    evaluation = _Evaluation(run)
    try:
        yield from evaluation.events()
    finally:
        evaluation.close()
        run.cache.release(run)


class _Evaluation:
    """Evaluates the targets on demand, with a stack of its own: ten thousand nodes in a chain are fine.

    A node is looked at when somebody needs it.  It waits for what it wants, which is looked at next, and is looked at
    again when that is there.  A result is held until the last step that takes it has run; the cache may hold it longer.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        runs, _ = will_run(run.plan, run.cache, run.forced)
        self._pictures = {
            link.node for i in runs if run.plan.steps[i].node.delivers for link in _links(run.plan.steps[i])
        }
        self._targets = frozenset(run.plan.targets)
        self._done = _Done(run.plan, runs)
        self._stack = list(reversed(run.plan.targets))  # whom to look at, the last first
        self._frames: dict[str, _Frame] = {}
        self._takers: defaultdict[str, list[_Frame]] = defaultdict(list)
        self._parked: list[str] = []  # whose results another run is making
        self._tasks: dict[str, asyncio.Future[list[object]]] = {}  # the coroutines of each node
        self._loop: asyncio.AbstractEventLoop | None = None
        self._spoilt: set[str] = set()  # nodes whose results are not what their keys say: never kept

    def events(self) -> Working:
        """Everything that happens, until all targets are there or something has ended the run."""
        while True:
            while self._stack:
                if (yield from self._look(self._stack.pop())):
                    return
                self._spin(0)
            if self._tasks:
                self._spin(PAUSE)
                if not self._stack:
                    yield []  # no calls now
                if self._run.stopping:
                    yield self._run.told(Stopped(next(iter(self._tasks), next(iter(self._stack), ""))))
                    return
            elif self._parked:
                self._stack, self._parked = self._parked[::-1], []
                yield []
            elif self._frames:
                yield self._run.told(self._loop_made())
                return
            else:
                return

    def close(self) -> None:
        """End what is still going on."""
        for frame in self._frames.values():
            if frame.work is not None:
                frame.work.close()
        if self._loop is not None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            for future in self._tasks.values():
                self._loop.run_until_complete(asyncio.gather(future, return_exceptions=True))
            self._loop.close()

    def _look(self, node_id: str) -> Generator[Event | list[Call], Answers | None, bool]:
        """Take a node as far as it goes; whether that ends the run."""
        needed = node_id in self._takers or node_id in self._targets
        if node_id in self._done or node_id in self._tasks or not needed:
            return False
        frame = self._frames.get(node_id)
        if frame is None:
            step = self._run.steps[node_id]
            if (hit := self._cached(step)) is not None:
                outputs, ui = _parted(hit)
                hit = None
                self._end(step, outputs)
                yield self._run.told(Finished(node_id, outputs, cached=True, ui=ui))
                return False
            frame = self._frames[node_id] = _Frame(step)
        elif frame.missing:
            return False
        if not self._there(frame):
            return False
        if frame.work is None and self._made_elsewhere(frame.step):
            del self._frames[node_id]  # and is looked for in the cache again
            self._parked.append(node_id)
            return False
        return (yield from self._guarded(frame))

    def _there(self, frame: _Frame) -> bool:
        """Whether all is there that a node wants; else that is looked at, and then the node again."""
        missing = [i for i in dict.fromkeys(link.node for link in frame.wanted or ()) if i not in self._done]
        frame.missing = len(missing)
        for node_id in reversed(missing):
            self._takers[node_id].append(frame)
            self._stack.append(node_id)
        return not missing

    def _guarded(self, frame: _Frame) -> Generator[Event | list[Call], Answers | None, bool]:
        """Call or resume a node, and keep its result.  Whatever it raises ends the run, never the program."""
        step = frame.step
        try:
            if self._run.stopping:
                raise Interrupted("stopped")
            if frame.work is None:
                yield self._run.told(Started(step.id))
                plugged = dict(zip(call.wants(step), self._values(frame), strict=True))
                frame.work = call.work(step, plugged, _desk(frame, self._run))
                del plugged
            result = yield from self._advanced(frame, frame.work)
            if result is None:
                return False
            outputs, sound = self._kept(frame, result)
        except Interrupted:
            yield self._run.told(Stopped(step.id))
            return True
        except GeneratorExit:
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise  # it is the program's, not the node's
            yield self._run.told(Failed(step.id, error))
            return True
        if not sound:
            frame.warnings.append("its result has values that are no numbers (NaN or infinite); it is not kept")
        for text in frame.warnings:
            yield self._run.told(Warned(step.id, text))
        ui = _images(result.files, self._run.context) if result.files else result.ui
        del self._frames[step.id]
        self._end(step, outputs)
        yield self._run.told(Finished(step.id, outputs, False, frame.seconds, result.files, ui))
        return False

    def _advanced(
        self, frame: _Frame, work: call.Work
    ) -> Generator[Event | list[Call], Answers | None, call.Result | None]:
        """Answer what a node says until it ends, or has to wait: then None."""
        answer, error = self._values(frame) if frame.wanted is not None else frame.answer, frame.error
        frame.answer = frame.error = None
        while True:
            said = _resumed(frame, work, answer, error)
            answer = error = None
            while frame.said:
                yield frame.said.pop(0)
            match said:
                case call.Result():
                    return said
                case list():
                    answer, error = yield from _answered(frame, said)
                case call.Wants(links):
                    frame.wanted = links
                    if not self._there(frame):
                        return None
                    answer = self._values(frame)
                case call.Awaits():
                    self._begin(frame, said)
                    return None
                case _:
                    if (event := self._noted(frame, said)) is not None:
                        yield event
                    if isinstance(said, Progress) and self._run.stopping:
                        error = Interrupted("stopped")

    def _values(self, frame: _Frame) -> tuple[object, ...]:
        """What a node has wanted, now that it is there."""
        wanted, frame.wanted = frame.wanted or (), None
        return tuple(self._done[link.node][link.output] for link in wanted)

    def _noted(self, frame: _Frame, said: object) -> Event | None:
        """Do what a node says that needs no answer; what is to be told of it."""
        match said:
            case Progress():
                return self._run.told(Moved(frame.step.id, said))
            case Blocked(message):
                return self._run.told(Refused(frame.step.id, message or ""))
            case call.Expands(nodes):
                self._grow(frame.step, nodes)
            case call.Changed(inputs):
                self._distrust(frame, inputs)
        return None

    def _cached(self, step: Step) -> Outputs | None:
        return self._run.cache.get(step) if step.cached and step.id not in self._run.forced else None

    def _made_elsewhere(self, step: Step) -> bool:
        """Whether another run is making this very result, so that there is nothing to do but wait for it."""
        run = self._run
        return not run.stopping and step.id not in run.forced and not run.cache.begin(step, run)

    def _kept(self, frame: _Frame, result: call.Result) -> tuple[Outputs, bool]:
        """The outputs, and whether the cache trusts them.  Here a device tells of what failed before."""
        step, run = frame.step, self._run
        kept = result.outputs if result.ui is None else (*result.outputs, _Shown(result.ui))
        if self._spoilt and any(link.node in self._spoilt for link in _links(step)):
            self._spoilt.add(step.id)
        spoilt = step.id in self._spoilt
        sound = spoilt or run.cache.put(step, kept, frame.seconds, shown=step.id in self._pictures)
        run.cache.release(run, step)
        self._spoilt |= frame.spoils  # what the node itself made of it is sound
        return result.outputs, sound

    def _end(self, step: Step, outputs: Outputs) -> None:
        """A node has its result: those that wait for it may go on, and what it took may be let go."""
        self._done[step.id] = outputs
        for frame in self._takers.pop(step.id, ()):
            frame.missing -= 1
            if not frame.missing:
                self._stack.append(frame.step.id)
        self._done.release(step)

    def _begin(self, frame: _Frame, said: call.Awaits) -> None:
        """Start coroutines, which go on beside other nodes."""
        loop = self._loop = self._loop or asyncio.new_event_loop()
        tasks = [loop.create_task(_held(coroutine), context=variables) for coroutine, variables in said.coroutines]
        self._tasks[frame.step.id] = asyncio.gather(*tasks)
        frame.began = time.perf_counter()

    def _spin(self, seconds: float) -> None:
        """Let coroutines go on, until one has ended or so much time has passed."""
        if self._loop is None or not self._tasks:
            return
        self._loop.run_until_complete(
            asyncio.wait(self._tasks.values(), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        )
        for node_id in [i for i, future in self._tasks.items() if future.done()]:
            future, frame = self._tasks.pop(node_id), self._frames[node_id]
            frame.answer = future.result()
            frame.error = next((value.error for value in future.result() if isinstance(value, _Raised)), None)
            frame.seconds += time.perf_counter() - frame.began
            self._stack.append(node_id)

    def _grow(self, step: Step, nodes: Mapping[str, Any]) -> None:
        """Plan the nodes that `step` puts in its own place."""
        run = self._run
        if twice := run.steps.keys() & nodes.keys():
            raise BadReturn(f"{step.node.id} expands into {min(twice)!r}, which there is already")
        above = run.placed.get(step.id, Place(step.id, ""))
        for node_id, entry in nodes.items():
            run.placed[node_id] = Place(entry.get("override_display_id") or above.display, step.id)
        run.grow(workflow.graph(nodes), step)

    def _distrust(self, frame: _Frame, inputs: tuple[str, ...]) -> None:
        """Forget the results into whose tensors a foreign node has written."""
        for name in inputs:
            if isinstance(link := frame.step.inputs.get(name), Link):
                frame.spoils.add(link.node)
                self._run.cache.drop(self._run.steps[link.node])
                frame.warnings.append(f"has written into what it was given at {name!r}; {link.node!r} will run again")

    def _loop_made(self) -> Failed:
        """What is wrong where nodes wait for each other: one has put nodes in its place that need it."""
        made = [i for i in self._frames if any(p.parent == i for p in self._run.placed.values())]
        node_id = made[-1] if made else next(iter(self._frames))
        kind = self._run.steps[node_id].node.id
        return Failed(node_id, BadReturn(f"{kind} expands into a loop: what it puts in its place needs its own result"))


def _answered(
    frame: _Frame, calls: list[Call]
) -> Generator[list[Call], Answers | None, tuple[Answers | None, Exception | None]]:
    """Have calls answered.  The driver throws what is the node's: a call that failed, or a stop."""
    began = time.perf_counter()
    try:
        return (yield calls), None
    except Exception as thrown:
        return None, thrown
    finally:
        frame.seconds += time.perf_counter() - began


def _resumed(frame: _Frame, work: call.Work, answer: object, error: BaseException | None) -> object:
    """What a node says next; a `call.Result` at its end."""
    began = time.perf_counter()
    try:
        return work.send(answer) if error is None else work.throw(error)
    except StopIteration as end:
        return end.value
    finally:
        frame.seconds += time.perf_counter() - began


def _desk(frame: _Frame, run: Run) -> call.Desk:
    def report(progress: Progress) -> None:
        if run.stopping:
            raise Interrupted("stopped")
        if not progress.total:  # it only asks whether to go on
            return
        event = run.told(Moved(frame.step.id, progress))
        if run.aside is not None:
            run.aside(event)
        else:
            frame.said.append(event)

    wants = frame.step.node.wants_context
    context = {"context": replace(run.context, warn=frame.warnings.append)} if wants else {}
    return call.Desk(context, lambda kind: run.hidden(frame.step, kind), run.adapted, report, run.owner)


def _parted(kept: Outputs) -> tuple[Outputs, Mapping[str, Any] | None]:
    """Outputs, and what an editor shows, as `_Evaluation._kept` has put them together."""
    return (kept[:-1], kept[-1].ui) if kept and isinstance(kept[-1], _Shown) else (kept, None)


def _images(paths: tuple[str, ...], context: Context) -> dict[str, Any]:
    """Files as ComfyUI's clients ask for them: by name, subfolder and kind of folder."""
    return {"images": [_image(Path(path), context) for path in paths]}


def _image(path: Path, context: Context) -> dict[str, str]:
    kind, root = ("temp", context.temp) if path.is_relative_to(context.temp) else ("output", context.output)
    inside = path.parent.relative_to(root).as_posix() if path.is_relative_to(root) else "."
    return {"filename": path.name, "subfolder": "" if inside == "." else inside, "type": kind}


class _Frame:
    """A node whose result somebody needs: what it does, and what it waits for."""

    __slots__ = (
        "answer",
        "began",
        "error",
        "missing",
        "said",
        "seconds",
        "spoils",
        "step",
        "wanted",
        "warnings",
        "work",
    )

    def __init__(self, step: Step) -> None:
        self.step = step
        self.work: call.Work | None = None  # None: it has not begun
        self.wanted: tuple[Link, ...] | None = tuple(call.wants(step).values())  # None: it does not wait for outputs
        self.answer: Any = None  # to what it said last, where that was no wish for outputs
        self.error: BaseException | None = None
        self.missing = 0  # nodes that have to finish before it can go on
        self.began = 0.0  # when its coroutines were started
        self.seconds = 0.0
        self.warnings: list[str] = []
        self.said: list[Event] = []  # in a call that has not returned yet
        self.spoils: set[str] = set()  # nodes into whose results it has written


class _Done(dict[str, "Outputs"]):
    """Results in use.  Each is let go when the last step that takes it has its own, unless it is what a run is for.

    Where a node may put others in its place, these may take anything: all is kept.
    """

    def __init__(self, plan: Plan, runs: set[str]) -> None:
        foreign = any(step.node.pack for step in plan.steps.values())
        self._kept = set(plan.steps if foreign else plan.targets)
        self._runs = runs
        self._takers = Counter(link.node for i in runs for link in _links(plan.steps[i]))

    def release(self, step: Step) -> None:
        """`step` has its result, and needs what it takes no more."""
        for link in _links(step) if step.id in self._runs else ():  # others, whose result got lost, were not counted
            self._takers[link.node] -= 1
            if not self._takers[link.node] and link.node not in self._kept:
                self.pop(link.node, None)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What an editor shows, kept with a foreign node's outputs."""

    ui: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Raised:
    """What a coroutine has raised."""

    error: BaseException


async def _held(coroutine: Coroutine[Any, Any, object]) -> object:
    """What comes of a coroutine.  Some exceptions would end the loop, and every other coroutine with it."""
    try:
        return await coroutine
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        return _Raised(error)


def _links(step: Step) -> Iterator[Link]:
    return (value for value in step.inputs.values() if isinstance(value, Link))
