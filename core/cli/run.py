"""`limner run`: settings to runs, runs to events, events to lines and a record beside the pictures."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from .. import workflow
from ..errors import Interrupted, LimnerError, TimeLimit
from ..files import write
from ..graph import Graph
from ..host import ALL, Host
from ..run import Event, Failed, Finished, Run, Stopped
from .look import explain, host
from .settings import size, variants
from .show import Show, show

TOGETHER = 8  # runs driven side by side


def run(options: argparse.Namespace) -> int:
    """Run every variant, and print what was delivered."""
    if options.dry_run:
        return explain(options)
    began = time.perf_counter()
    shown = show(options)
    here = host(
        options,
        device=options.device,
        dtype=options.dtype,
        vram_budget=size(options.vram_budget),
        disk_cache=not options.no_cache,
        output=options.out,
        metadata=not options.no_metadata,
    )
    here.listen(shown.network)
    document = workflow.read(options.file)
    wanted = variants(here.lowered(document), here.registry, options)
    forced = frozenset(options.force or ())
    report = Report([])
    with shown:
        error = _run(here, document, wanted, options, ALL if "*" in forced else forced, report, shown)
    status = "ok" if error is None else error.code if isinstance(error, LimnerError) else "failed"
    shown.done(
        {
            "event": "done",
            "status": status,
            "outputs": report.files,
            "executed": report.executed,
            "cached": report.cached,
            "seconds": round(time.perf_counter() - began, 3),
        }
        | ({"error": _described(error, report.failed)} if error else {})
    )
    if error is None:
        return 0
    print(f"limner: {_sentence(error, report.failed)}", file=sys.stderr)  # noqa: T201
    return error.exit_code if isinstance(error, LimnerError) else 1


class Report:
    """What the runs of one command have done so far."""

    def __init__(self, files: list[str]) -> None:
        self.files = files
        self.executed: list[str] = []
        self.cached: list[str] = []
        self.failed = ""  # the node that failed

    def add(self, one: Record) -> None:
        """Count a run in.  A node of several runs is named once."""
        self.files += one.files
        self.executed += [i for i in one.executed if i not in self.executed]
        self.cached += [i for i in one.run.plan.steps if i not in one.executed and i not in self.cached]


class Record:
    """One run, as its events tell it."""

    def __init__(self, number: int, run: Run, graph: Graph, made: dict[str, Any]) -> None:
        self.number, self.run, self.graph, self.made = number, run, graph, made
        self.files: list[str] = []
        self.seconds: dict[str, float] = {}
        self.executed: list[str] = []
        self.error: BaseException | None = None
        self.failed = ""

    def take(self, event: Event) -> None:
        """Note an event."""
        match event:
            case Finished(cached=False):
                self.executed.append(event.node)
                self.seconds[event.node] = round(event.seconds, 4)
                self.files += event.files
            case Failed():
                self.error, self.failed = event.error, event.node
            case Stopped():
                self.error = Interrupted(f"stopped at {event.node}")


def _run(  # noqa: PLR0913 - what one command is made of
    here: Host,
    document: workflow.Document,
    wanted: list[tuple[dict[str, Any], Graph]],
    options: argparse.Namespace,
    forced: frozenset[str],
    report: Report,
    shown: Show,
) -> BaseException | None:
    """Drive the variants, some at a time; ends after the first batch that has an error."""
    limit = Limit(options.timeout)
    for first in range(0, len(wanted), TOGETHER):
        records = [
            Record(
                first + k,
                here.run(graph, str(options.file.absolute()), options.only, forced, _with(document, graph)),
                graph,
                made,
            )
            for k, (made, graph) in enumerate(wanted[first : first + TOGETHER])
        ]
        with limit.on([record.run for record in records]):
            for k, event in here.drive([record.run for record in records]):
                records[k].take(event)
                shown.event(records[k].number, event)
        for record in records:
            report.add(record)
            _write_record(here, record)
        if broken := next((record for record in records if record.error is not None), None):
            report.failed = broken.failed
            if limit.reached:
                return TimeLimit(f"gave up after {options.timeout:g} s")
            return broken.error
    return None


class Limit:
    """Ends runs when time is up, or at Ctrl-C; a second Ctrl-C ends the program."""

    def __init__(self, seconds: float | None) -> None:
        self.reached = False
        self._until = None if seconds is None else time.monotonic() + seconds

    @contextmanager
    def on(self, runs: list[Run]) -> Iterator[None]:
        """Watch over `runs` while they are driven."""
        before = {
            sign: signal.signal(sign, lambda s, f: self._signalled(runs, s, f))
            for sign in (signal.SIGINT, signal.SIGTERM)
        }
        timer = (
            None if self._until is None else threading.Timer(max(self._until - time.monotonic(), 0), self._up, [runs])
        )
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            for sign, handler in before.items():
                signal.signal(sign, handler)

    def _up(self, runs: list[Run]) -> None:
        self.reached = True
        for run in runs:
            run.stop()

    @staticmethod
    def _signalled(runs: list[Run], _: int, __: FrameType | None) -> None:
        if all(run.stopping for run in runs):
            raise KeyboardInterrupt
        for run in runs:
            run.stop()


def _with(document: workflow.Document, graph: Graph) -> workflow.Document:
    """The document as it is written into the pictures: as it stands if nothing was set, else what ran."""
    changed = workflow.api(graph)
    same = {i: e["inputs"] for i, e in changed.items()} == {i: e.get("inputs", {}) for i, e in document.graph.items()}
    return document if same else workflow.Document(changed, requires=document.requires)


def _write_record(here: Host, record: Record) -> None:
    """Beside the first picture: what ran, with which seeds, versions, device and files, and how long it took."""
    if not record.files:
        return
    first = Path(record.files[0])
    data = {
        "status": "ok" if record.error is None else "failed",
        "workflow": workflow.api(record.graph),
        "set": record.made,
        "environment": {name: getattr(here.environment, name) for name in here.environment.__slots__},
        "keys": {step.id: step.key for step in record.run.plan.steps.values()},
        "models": here.models(record.graph),
        "seconds": record.seconds,
        "cached": [i for i in record.run.plan.steps if i not in record.executed],
        "outputs": record.files,
    }
    write(first.with_suffix(".run.json"), json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def _described(error: BaseException, node: str) -> dict[str, str]:
    code = error.code if isinstance(error, LimnerError) else "failed"
    return {"code": code, "message": _sentence(error, ""), "node": node}


def _sentence(error: BaseException, node: str) -> str:
    """What went wrong, for a person.  What a node raised is named by its kind, unless it is a sentence of ours."""
    try:
        text = str(error)
    except Exception:
        text = ""
    plain = isinstance(error, LimnerError | ValueError) and text
    told = text if plain else f"{type(error).__name__}: {text}"
    return f"{node}: {told}" if node else told
