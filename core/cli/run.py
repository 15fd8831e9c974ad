"""`limner run`: settings to runs, runs to events, events to lines and a record beside the pictures."""

from __future__ import annotations

import argparse
import platform
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from .. import workflow
from ..environment import installed
from ..errors import Interrupted, LimnerError, TimeLimit, UsageError
from ..event import Event, Failed, Finished, Stopped
from ..files import write
from ..host import Host, workflow_file
from ..run import Run
from . import failure, show
from .look import explain, host
from .settings import Variant, variants

TOGETHER = 8  # runs driven side by side


def run(options: argparse.Namespace) -> int:
    """Run every variant, print what was delivered, and end with a summary."""
    if options.dry_run:
        explain(options)
        return 0
    began = time.perf_counter()
    records: list[Record] = []
    error: BaseException | None = None
    with closing(show.show(options)) as shown:
        try:
            _run(options, records, shown)
        except (LimnerError, KeyboardInterrupt) as raised:
            error = raised
        failures = ((record.error, record.node) for record in records if record.error is not None)
        failed, node = next(failures, (None, ""))
        error = error or failed
        shown.say(_summary(records, error, node, time.perf_counter() - began))
    return failure.told(error, node) if error else 0


@dataclass(slots=True)
class Record:
    """One run, as its events tell it."""

    number: int
    variant: Variant
    run: Run
    files: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # of each node that was executed, in order
    cached: list[str] = field(default_factory=list)
    error: BaseException | None = None
    node: str = ""  # that failed

    def take(self, event: Event) -> None:
        """Note an event."""
        match event:
            case Finished(cached=True):
                self.cached.append(event.node)
            case Finished():
                self.seconds[event.node] = round(event.seconds, 4)
                self.files += event.files
            case Failed():
                self.error, self.node = event.error, event.node
            case Stopped():
                self.error = Interrupted(f"stopped at {event.node}")

    def end(self) -> None:
        """Count what did not have to be looked at as cached: something below it was."""
        if self.error is None:
            self.cached = [node_id for node_id in self.run.plan.steps if node_id not in self.seconds]


def _run(options: argparse.Namespace, done: list[Record], shown: show.Show) -> None:
    """Drive the variants, some at a time; ends after the first lot that has an error."""
    if not options.timeout > 0:
        raise UsageError(f"--timeout is a number of seconds above 0, not {options.timeout:g}")
    if options.output is not None and options.output.exists() and not options.output.is_dir():
        raise UsageError(f"--out {options.output} is not a folder")
    until = time.monotonic() + options.timeout
    here = host(options)
    here.listen(lambda event: shown.say(show.network(event)))
    scope, forced = str(workflow_file(options.file).absolute()), frozenset(options.force)
    records = (
        Record(number, variant, here.run(variant.graph, scope, options.only, forced, variant.document))
        for number, variant in enumerate(variants(_fresh(here.read(options.file)), here, options))
    )
    while lot := list(islice(records, TOGETHER)):
        done += lot
        for record in lot:
            shown.say({"event": "begun", "run": record.number, "set": record.variant.made})
        runs = [record.run for record in lot]
        with _stopping(runs, until - time.monotonic(), shown) as late:
            for k, event in here.drive(runs):
                lot[k].take(event)
                shown.say(show.event(lot[k].number, event))
        for record in lot:
            record.end()
            _write(here, record)
        if any(record.error is not None for record in lot):
            if late.is_set():
                raise TimeLimit(f"gave up after {options.timeout:g} s")
            return


def _summary(records: Sequence[Record], error: BaseException | None, node: str, seconds: float) -> dict[str, Any]:
    """The last object of --json.  A node of several runs is named once."""
    found: dict[str, Any] = {
        "event": "done",
        "status": failure.code(error) if error else "ok",
        "outputs": [path for record in records for path in record.files],
        "executed": list(dict.fromkeys(node_id for record in records for node_id in record.seconds)),
        "cached": list(dict.fromkeys(node_id for record in records for node_id in record.cached)),
        "seconds": round(seconds, 3),
    }
    if error is not None:
        found["error"] = {"code": failure.code(error), "message": failure.sentence(error), "node": node}
    return found


def _fresh(document: workflow.Document) -> workflow.Document:
    """The document without what is recorded of an earlier run: records can be run again."""
    return replace(document, rest={k: v for k, v in document.rest.items() if k != "run"})


@contextmanager
def _stopping(runs: Sequence[Run], seconds: float, shown: show.Show) -> Iterator[threading.Event]:
    """End `runs` when time is up, which is set then, or at Ctrl-C; a second Ctrl-C ends the program."""
    late = threading.Event()

    def stop() -> None:
        for run in runs:
            run.stop()

    def timed_out() -> None:
        late.set()
        stop()

    def pressed(*_: object) -> None:
        if all(run.stopping for run in runs):
            raise KeyboardInterrupt
        stop()
        shown.say({"event": "stopping"})

    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), timed_out)
    timer.daemon = True
    before = {sign: signal.signal(sign, pressed) for sign in (signal.SIGINT, signal.SIGTERM)}
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _write(here: Host, record: Record) -> None:
    """Beside the first picture: a workflow that makes it again, and what there is to know of this run of it."""
    if not record.files:
        return
    said = {
        "status": failure.code(record.error) if record.error else "ok",
        "set": record.variant.made,
        "environment": asdict(here.environment) | {"limner": installed("limner"), "python": platform.python_version()},
        "keys": {step.id: step.key for step in record.run.plan.steps.values()},
        "files": here.files(record.run.plan),
        "seconds": record.seconds,
        "cached": record.cached,
        "outputs": record.files,
    }
    document = workflow.Document(workflow.api(record.variant.graph), rest={"run": said})
    write(Path(record.files[0]).with_suffix(".run.json"), workflow.dumps(document))
