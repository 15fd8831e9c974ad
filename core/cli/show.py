"""How a run is shown: bars for a terminal, lines for a pipe, JSON for a program; pictures' paths on stdout."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..event import Event, Failed, Finished, Moved, Refused, Warned
from . import failure

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Said = Mapping[str, Any]  # one thing that happens, as --json puts it: what it is stands under "event"


def event(number: int, event: Event) -> Said:
    """What happens in run `number`."""
    said = {"event": type(event).__name__.lower(), "run": number, "node": event.node}
    match event:
        case Moved():
            return said | {"done": event.progress.done, "total": event.progress.total}
        case Warned():
            return said | {"text": event.text}
        case Refused():
            return said | {"message": event.message}
        case Finished():
            return said | {"cached": event.cached, "seconds": round(event.seconds, 4), "files": list(event.files)}
        case Failed():
            return said | {"error": failure.code(event.error)}
    return said


def network(event: object) -> Said:
    """A network is loaded or unloaded."""
    recipe, size, reason = (getattr(event, name) for name in ("recipe", "bytes", "reason"))
    return {"event": type(event).__name__.lower(), "kind": recipe.kind, "bytes": size, "reason": reason}


def line(said: Said) -> str:
    """What people read of it; may be nothing."""
    match said:
        case {"event": "begun", "set": made} if made:
            return f"run {said['run'] + 1}: {settings(made)}"
        case {"event": "finished", "cached": False, "seconds": seconds}:
            return f"{_name(said)} {seconds:.2f} s"
        case {"event": "warned", "text": text}:
            return f"{_name(said)} warning: {text}"
        case {"event": "refused", "message": message}:
            return f"{_name(said)} did not run: {message}"
        case {"event": "loaded" | "unloaded" as what, "kind": kind, "bytes": size, "reason": reason}:
            return f"{what} {kind.replace('_', ' ')}, {size / 1e6:.1f} MB: {reason}"
        case {"event": "stopping"}:
            return "stopping; Ctrl-C once more ends at once"
        case {"event": "done", "executed": executed, "cached": cached, "seconds": seconds} if executed or cached:
            return f"ran {len(executed)}, cached {len(cached)}, {seconds:.1f} s"
    return ""


class Show:
    """Says nothing but the paths of the pictures."""

    def say(self, said: Said) -> None:
        """Show what happens."""
        for path in said.get("files", ()):
            print(path, flush=True)  # noqa: T201

    def close(self) -> None:
        """End, whatever happened."""


class Objects(Show):
    """Each event as a JSON object on standard output, `done` last."""

    def say(self, said: Said) -> None:
        print(json.dumps(said), flush=True)  # noqa: T201


class Lines(Show):
    """A line for each node that runs."""

    def say(self, said: Said) -> None:
        super().say(said)
        if text := line(said):
            self._print(text)

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201


class Bars(Lines):
    """A bar for each run, with its node, steps and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True)
        above = sys.stdout.isatty()  # the bars; what is piped stays in its pipe
        self._progress: Progress = Progress(
            *columns, console=Console(stderr=True), transient=True, redirect_stdout=above
        )
        self._tasks: dict[int, TaskID] = {}
        self._progress.start()

    def say(self, said: Said) -> None:
        match said:
            case {"event": "started", "run": run}:
                self._end(run)  # a bar with a total cannot become one without
                self._tasks[run] = self._progress.add_task(_name(said), total=None)
            case {"event": "moved", "run": run, "done": done, "total": total}:
                self._progress.update(self._tasks[run], completed=done, total=total)
            case {"event": "finished", "run": run, "files": files}:
                if files:
                    self._end(run)
                Show.say(self, said)
            case _:
                super().say(said)

    def close(self) -> None:
        self._progress.stop()

    def _end(self, run: int) -> None:
        if run in self._tasks:
            self._progress.remove_task(self._tasks.pop(run))

    def _print(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)


def show(options: argparse.Namespace) -> Show:
    """The way that suits the options and where standard error goes."""
    if options.json:
        return Objects()
    if options.quiet:
        return Show()
    return Bars() if sys.stderr.isatty() else Lines()


def settings(made: Mapping[str, Any]) -> str:
    """What was set, on one line."""
    return ", ".join(f"{key}={textwrap.shorten(str(value), 60, placeholder='...')}" for key, value in made.items())


def _name(said: Said) -> str:
    return f"{said['node']} #{said['run'] + 1}" if said["run"] else str(said["node"])
