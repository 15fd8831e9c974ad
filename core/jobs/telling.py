"""A run's events as plain values: what is said while a job runs, and what is kept of it when it has ended."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..call import CALLING
from ..errors import Interrupted
from ..evaluation import will_run
from ..event import Event, Failed, Finished, Moved, Refused, Started, Stopped, Warned
from ..run import Run
from . import failure, previews
from .backend import Emit, Result
from .job import Job, State

EVERY = 0.05  # seconds between two looks at a node's progress
PICTURES = 0.2  # seconds between two previews of a job
TEXT = 3  # the kind of binary messages that are a text for a node


class Teller:
    """Tells of one job.  Progress is told some times a second, a node's last one always."""

    def __init__(
        self, job: Job, emit: Emit, wanted: Callable[[], bool] = lambda: False, folders: Sequence[Path] = ()
    ) -> None:
        self.job = job
        self.folders = folders  # whose files are told without the folder
        self.node = ""  # that was begun last
        self.result: Result | None = None  # None: it has not ended
        self._emit, self._wanted = emit, wanted
        self._began = time.perf_counter()
        self._held: Moved | None = None  # progress that is not told yet
        self._moved: dict[str, float] = {}  # when progress of a node was told
        self._pictured = -PICTURES
        self._state: State = "done"
        self._error: dict[str, Any] | None = None
        self._trace = ""
        self._outputs: dict[str, Any] = {}
        self._meta: dict[str, Any] = {}
        self._executed: list[str] = []
        self._cached: dict[str, None] = {}
        self._steps: tuple[str, ...] = ()

    def begin(self, run: Run) -> None:
        """The run is made: nodes that will not be executed are told."""
        runs, _ = will_run(run.plan, run.cache, run.forced)
        self._steps = tuple(run.plan.steps)
        self._cached = {i: None for i in self._steps if i not in runs}
        self._say("cached", nodes=list(self._cached))

    def event(self, event: Event) -> None:
        """Tell an event of the run."""
        if isinstance(event, Moved):
            self._move(event)
            return
        self._let_go()
        match event:
            case Started():
                self.node = event.node
                self._say("node_started", **_where(event))
            case Warned():
                self._say("warning", node=event.node, text=self._clean(event.text))
            case Refused():
                self._say("refused", node=event.node, message=self._clean(event.message))
            case Finished():
                self._finish(event)
            case Stopped():
                self._end_at(event.node, Interrupted("stopped"))
            case Failed():
                self._end_at(event.node, event.error)

    def end(self, error: BaseException | None = None) -> Result:
        """The run has ended, or `error` has kept it from that; told once."""
        if self.result is None:
            if error is not None:
                self._end_at(self.node or None, error)
            if self._state == "done":  # what was not looked at was not needed: something below it was there
                self._cached |= dict.fromkeys(self._steps)
            self.result = Result(
                self.job.id,
                self._state,
                self._outputs,
                self._meta,
                self._error,
                tuple(self._executed),
                tuple(i for i in self._cached if i not in self._executed),
                round(time.perf_counter() - self._began, 4),
                self._trace,
            )
            self._emit({"event": "ended", "job": self.job.id, "result": self.result.as_json()})
        return self.result

    def _finish(self, event: Finished) -> None:
        ui = None if event.ui is None else _plain(event.ui)
        if ui is not None:
            self._outputs[event.node] = ui
            self._meta[event.node] = {
                "node_id": event.node,
                "display_node": event.display,
                "parent_node": event.parent or None,
                "real_node_id": event.display,
            }
        if event.cached:
            self._cached[event.node] = None
        else:
            self._executed.append(event.node)
        status, seconds = "cached" if event.cached else "executed", round(event.seconds, 4)
        self._say("node_finished", **_where(event), status=status, seconds=seconds, output=ui)

    def _end_at(self, node: str | None, error: BaseException) -> None:
        stopped = isinstance(error, Interrupted)
        self._state = "interrupted" if stopped else "failed"
        self._error = failure.described(error, node, self.folders)
        self._trace = "" if stopped else failure.trace(error)

    def _move(self, event: Moved) -> None:
        if self._held is not None and self._held.node != event.node:
            self._let_go()
        now = time.monotonic()
        if previews.is_result(event.progress.preview):
            self._show(event)
        if now - self._moved.get(event.node, -EVERY) < EVERY:
            self._held = event
            return
        self._moved[event.node], self._held = now, None
        self._tell_progress(event)
        seen = event.progress.preview is None or previews.is_result(event.progress.preview)
        if not seen and now - self._pictured >= PICTURES and self._wanted():
            self._pictured = now
            self._show(event)

    def _show(self, event: Moved) -> None:
        if shown := previews.shown(event.progress.preview):
            self._say("preview", **_where(event), **shown)

    def _let_go(self) -> None:
        """Tell the progress that was held back."""
        held, self._held = self._held, None
        if held is not None:
            self._tell_progress(held)

    def _tell_progress(self, event: Moved) -> None:
        self._say("progress", **_where(event), value=event.progress.done, max=event.progress.total)

    def _clean(self, text: str) -> str:
        return failure.without_paths(text, self.folders)

    def _say(self, name: str, **more: Any) -> None:
        self._emit({"event": name, "job": self.job.id, "client": self.job.client, **more})


def of_network(event: object, jobs: Iterable[Job], folders: Sequence[Path] = ()) -> dict[str, Any]:
    """A network was loaded or unloaded, by one of these jobs."""
    recipe, size, reason = (getattr(event, name) for name in ("recipe", "bytes", "reason"))
    text = f"{type(event).__name__.lower()} {recipe.kind.replace('_', ' ')}, {size / 1e6:.1f} MB: {reason}"
    alone = job[0] if len(job := list(jobs)) == 1 else None  # of several it is not known whose it is
    whose = {"job": alone.id, "client": alone.client} if alone else {"job": "", "client": ""}
    return {"event": "model", **whose, "text": failure.without_paths(text, folders)}


def of_pack(kind: str | int, data: Any, to: str | None) -> dict[str, Any]:
    """What a pack says to one client or to all; what it writes at a node is an event of the job that runs it."""
    calling = CALLING.get(None)
    job = calling.owner.get("prompt_id", "") if calling else ""
    if kind != TEXT or calling is None or not job:
        return {"event": "said", "job": "", "client": "", "type": kind, "data": data, "to": to}
    node, text = _text(data)
    return {"event": "text", "job": job, "client": calling.owner.get("client_id", ""), "node": node, "text": text}


def _text(data: bytes) -> tuple[str, str]:
    """The node's id and the text in the data of a binary message: the id's length in four bytes, the id, the text."""
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end].decode(errors="replace"), data[end:].decode(errors="replace")


def _where(event: Started | Moved | Finished) -> dict[str, str]:
    return {"node": event.node, "display": event.display, "parent": event.parent}


def _plain(ui: Mapping[str, Any]) -> dict[str, Any]:
    """What a node gives an editor to show, as JSON: foreign ones give anything."""
    try:
        text = json.dumps(ui, default=str, skipkeys=True)
    except Exception:  # it holds itself, or something that cannot be written down
        return {}
    found: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return found
