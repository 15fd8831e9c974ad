"""`limner run`: settings to runs, runs to events, events to lines and a record beside the pictures."""

from __future__ import annotations

import argparse
import platform
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any

from .. import workflow
from ..errors import Interrupted, LimnerError, TimeLimit, UsageError
from ..files import write
from ..host import Host, workflow_file
from ..run import Event, Failed, Finished, Run, Stopped
from . import failure
from .look import explain, host
from .settings import Variant, size, variants
from .show import Show, show

TOGETHER = 8  # runs driven side by side


def run(options: argparse.Namespace) -> int:
    """Run every variant, print what was delivered, and end with a summary."""
    if options.dry_run:
        return explain(options)
    began = time.perf_counter()
    records: list[Record] = []
    error: BaseException | None = None
    with show(options) as shown:
        try:
            _run(options, records, shown)
        except (LimnerError, KeyboardInterrupt) as raised:
            error = raised
    broken = next((record for record in records if record.error is not None), None)
    if broken is not None:
        error = error or broken.error
    node = broken.node if broken else ""
    shown.done(_summary(records, error, node, time.perf_counter() - began))
    return failure.told(error, node) if error else 0


@dataclass(slots=True)
class Record:
    """One run, as its events tell it."""

    number: int
    variant: Variant
    run: Run
    files: list[str] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    error: BaseException | None = None
    node: str = ""  # that failed

    def take(self, event: Event) -> None:
        """Note an event."""
        match event:
            case Finished(cached=True):
                self.cached.append(event.node)
            case Finished():
                self.executed.append(event.node)
                self.seconds[event.node] = round(event.seconds, 4)
                self.files += event.files
            case Failed():
                self.error, self.node = event.error, event.node
            case Stopped():
                self.error = Interrupted(f"stopped at {event.node}")

    def end(self) -> None:
        """Count what did not have to be looked at as cached: something below it was."""
        if self.error is None:
            self.cached = [node_id for node_id in self.run.plan.steps if node_id not in self.executed]


def _run(options: argparse.Namespace, done: list[Record], shown: Show) -> None:
    """Drive the variants, some at a time; ends after the first lot that has an error."""
    limit = Limit(options.timeout)
    here = _host(options)
    here.listen(shown.network)
    file = workflow_file(options.file)
    wanted = variants(_fresh(workflow.read(file)), here, options)
    forced = frozenset(options.force or ())
    for first in range(0, len(wanted), TOGETHER):
        records = [
            Record(
                first + k,
                variant,
                here.run(variant.graph, str(file.absolute()), options.only, forced, variant.document),
            )
            for k, variant in enumerate(wanted[first : first + TOGETHER])
        ]
        done += records
        for record in records:
            shown.begin(record.number, record.variant.made)
        with limit.on([record.run for record in records], shown):
            for k, event in here.drive([record.run for record in records]):
                records[k].take(event)
                shown.event(records[k].number, event)
        for record in records:
            record.end()
            _write(here, record)
        if any(record.error is not None for record in records):
            if limit.reached:
                raise TimeLimit(f"gave up after {options.timeout:g} s")
            return


def _summary(records: Sequence[Record], error: BaseException | None, node: str, seconds: float) -> dict[str, Any]:
    """The last object of --json.  A node of several runs is named once."""
    found: dict[str, Any] = {
        "event": "done",
        "status": failure.code(error) if error else "ok",
        "outputs": [path for record in records for path in record.files],
        "executed": list(dict.fromkeys(node_id for record in records for node_id in record.executed)),
        "cached": list(dict.fromkeys(node_id for record in records for node_id in record.cached)),
        "seconds": round(seconds, 3),
    }
    if error is not None:
        found["error"] = {"code": failure.code(error), "message": failure.sentence(error), "node": node}
    return found


def _fresh(document: workflow.Document) -> workflow.Document:
    """The document without what is recorded of an earlier run: records can be run again."""
    return replace(document, rest={k: v for k, v in document.rest.items() if k != "run"})


def _host(options: argparse.Namespace) -> Host:
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise UsageError(f"--out {options.out} is not a folder")
    return host(
        options,
        device=options.device,
        dtype=options.dtype,
        vram_budget=size(options.vram_budget),
        disk_cache=not options.no_cache,
        output=options.out,
        metadata=not options.no_metadata,
    )


class Limit:
    """Ends runs when time is up, or at Ctrl-C; a second Ctrl-C ends the program."""

    def __init__(self, seconds: float | None) -> None:
        if seconds is not None and not 0 < seconds <= threading.TIMEOUT_MAX:
            raise UsageError(f"--timeout is a number of seconds above 0, not {seconds:g}")
        self.reached = False
        self._until = None if seconds is None else time.monotonic() + seconds

    @contextmanager
    def on(self, runs: Sequence[Run], shown: Show) -> Iterator[None]:
        """Watch over `runs` while they are driven."""

        def signalled(_: int, __: FrameType | None) -> None:
            if all(run.stopping for run in runs):
                raise KeyboardInterrupt
            _stop(runs)
            shown.stopping()

        before = {sign: signal.signal(sign, signalled) for sign in (signal.SIGINT, signal.SIGTERM)}
        timer = self._timer(runs)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            for sign, handler in before.items():
                signal.signal(sign, handler)

    def _timer(self, runs: Sequence[Run]) -> threading.Timer | None:
        if self._until is None:
            return None
        timer = threading.Timer(max(self._until - time.monotonic(), 0), self._up, [runs])
        timer.daemon = True
        timer.start()
        return timer

    def _up(self, runs: Sequence[Run]) -> None:
        self.reached = True
        _stop(runs)


def _stop(runs: Sequence[Run]) -> None:
    for run in runs:
        run.stop()


def _write(here: Host, record: Record) -> None:
    """Beside the first picture: a workflow that makes it again, and what there is to know of this run of it."""
    if not record.files:
        return
    said = {
        "status": failure.code(record.error) if record.error else "ok",
        "set": record.variant.made,
        "environment": asdict(here.environment) | {"limner": _version(), "python": platform.python_version()},
        "keys": {step.id: step.key for step in record.run.plan.steps.values()},
        "files": here.files(record.run.plan),
        "seconds": record.seconds,
        "cached": record.cached,
        "outputs": record.files,
    }
    document = workflow.Document(workflow.api(record.variant.graph), rest={"run": said})
    write(Path(record.files[0]).with_suffix(".run.json"), workflow.dumps(document))


def _version() -> str:
    try:
        return version("limner")
    except PackageNotFoundError:
        return "not installed"
