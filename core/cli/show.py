"""How a run is shown: bars for a terminal, lines for a pipe, JSON for a program; pictures' paths on stdout."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..run import Event, Failed, Finished, Moved, Started, Warned
from . import failure

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Show:
    """Says nothing but the paths of the pictures."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, whatever happened."""

    def begin(self, number: int, made: Mapping[str, Any]) -> None:
        """Run `number` begins, with what was set or drawn for it."""

    def event(self, number: int, event: Event) -> None:  # noqa: ARG002 - for those that tell runs apart
        """Something happened in run `number`."""
        if isinstance(event, Finished):
            for path in event.files:
                print(path, flush=True)  # noqa: T201

    def network(self, event: object) -> None:
        """A network was loaded or unloaded."""

    def stopping(self) -> None:
        """Somebody has pressed Ctrl-C."""

    def done(self, summary: dict[str, Any]) -> None:
        """All runs have ended."""


class Lines(Show):
    """A line for each node that runs."""

    def begin(self, number: int, made: Mapping[str, Any]) -> None:
        if made:
            self._say(f"run {number + 1}: {settings(made)}")

    def event(self, number: int, event: Event) -> None:
        super().event(number, event)
        match event:
            case Finished(cached=False):
                self._say(f"{_name(number, event.node)} {event.seconds:.2f} s")
            case Warned():
                self._say(f"{_name(number, event.node)} warning: {event.text}")

    def network(self, event: object) -> None:
        self._say(_network(event))

    def stopping(self) -> None:
        self._say("stopping; Ctrl-C once more ends at once")

    def done(self, summary: dict[str, Any]) -> None:
        if summary["executed"] or summary["cached"]:
            self._say(f"ran {len(summary['executed'])}, cached {len(summary['cached'])}, {summary['seconds']:.1f} s")

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201


class Bars(Lines):
    """A bar for each run, with its node, steps and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True)
        self._progress: Progress = Progress(
            *columns,
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # above the bars; what is piped stays in its pipe
        )
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def event(self, number: int, event: Event) -> None:
        match event:
            case Started():
                self._end(number)  # a bar with a total cannot become one without
                self._tasks[number] = self._progress.add_task(_name(number, event.node), total=None)
            case Moved():
                self._progress.update(self._tasks[number], completed=event.progress.done, total=event.progress.total)
            case Warned():
                super().event(number, event)
            case Finished() if event.files:
                self._end(number)
                Show.event(self, number, event)

    def _end(self, number: int) -> None:
        if number in self._tasks:
            self._progress.remove_task(self._tasks.pop(number))

    def _say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)


class Objects(Show):
    """Each event as a JSON object on standard output, `done` last."""

    def begin(self, number: int, made: Mapping[str, Any]) -> None:
        self._say({"event": "begun", "run": number, "set": made})

    def event(self, number: int, event: Event) -> None:
        data: dict[str, Any] = {"event": type(event).__name__.lower(), "run": number, "node": event.node}
        match event:
            case Moved():
                data |= {"done": event.progress.done, "total": event.progress.total}
            case Warned():
                data |= {"text": event.text}
            case Finished():
                data |= {"cached": event.cached, "seconds": round(event.seconds, 4), "files": list(event.files)}
            case Failed():
                data |= {"error": failure.code(event.error)}
        self._say(data)

    def network(self, event: object) -> None:
        recipe, size, reason = (getattr(event, name) for name in ("recipe", "bytes", "reason"))
        self._say({"event": type(event).__name__.lower(), "kind": recipe.kind, "bytes": size, "reason": reason})

    def done(self, summary: dict[str, Any]) -> None:
        self._say(summary)

    @staticmethod
    def _say(data: Mapping[str, Any]) -> None:
        print(json.dumps(data), flush=True)  # noqa: T201


def show(options: argparse.Namespace) -> Show:
    """The way that suits the options and where standard error goes."""
    if options.json:
        return Objects()
    if options.quiet:
        return Show()
    return Bars() if sys.stderr.isatty() else Lines()


def settings(made: Mapping[str, Any]) -> str:
    """What was set, on one line."""
    values = (textwrap.shorten(str(value), 60, placeholder="...") for value in made.values())
    return ", ".join(f"{key}={value}" for key, value in zip(made, values, strict=True))


def _name(number: int, node: str) -> str:
    return f"{node} #{number + 1}" if number else node


def _network(event: object) -> str:
    recipe, size, reason = (getattr(event, name) for name in ("recipe", "bytes", "reason"))
    return f"{type(event).__name__.lower()} {recipe.kind.replace('_', ' ')}, {size / 1e6:.1f} MB: {reason}"
