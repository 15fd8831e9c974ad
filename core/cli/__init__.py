"""The command line: translates words into calls of a host, and what comes back into lines.  Loads torch only to run."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from ..errors import LimnerError

EXAMPLES = """
examples:
  limner run text-to-image                    # a workflow that comes along, or a file
  limner run text-to-image --set prompt.value="a green frog, 3d style" --seed 7
  limner run text-to-image --seed 1..8 --set guide.scale=2,4 --out pictures
  limner run pictures/limner_00001.png        # a picture carries its workflow
  limner params text-to-image                 # what can be set
  limner explain text-to-image                # what would run again, and why

exit codes: 0 done, 1 failed, 2 wrong usage, 3 invalid workflow or missing model, 5 out of memory,
124 time limit, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know fewer letters than a prompt
    try:
        options = parser().parse_args(arguments)
        code: int = options.act(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has gone, as `| head` does
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (LimnerError, KeyboardInterrupt) as error:
        from . import failure

        return failure.told(error)
    return code


def parser() -> argparse.ArgumentParser:
    """The words that can be said."""
    top = argparse.ArgumentParser(
        prog="limner",
        description="Pictures from words, by graphs of nodes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="say which Limner this is")
    verbs = top.add_subparsers(metavar="COMMAND", required=True)

    command = verbs.add_parser("run", help="run a workflow, and print the paths of its pictures")
    _file(command)
    _overrides(command)
    _computing(command)
    command.add_argument("--out", type=Path, metavar="DIR", help="where pictures go, if not to the base directory")
    command.add_argument("--only", action="append", metavar="ID", help="run what this node needs, and it; repeatable")
    command.add_argument(
        "--force",
        nargs="?",
        action="append",
        const="*",
        metavar="ID",
        help="run this node, or all, though cached",
    )
    command.add_argument("--no-cache", action="store_true", help="neither read nor write results on disk")
    command.add_argument("--no-metadata", action="store_true", help="leave the workflow out of the pictures")
    command.add_argument("--timeout", type=float, metavar="S", help="give up after so many seconds (exit code 124)")
    command.add_argument("--json", action="store_true", help="events on standard output, one JSON object a line")
    command.add_argument("--dry-run", action="store_true", help="say what would run, and run nothing")
    command.add_argument("--quiet", action="store_true", help="no progress")
    command.set_defaults(act=_later("run", "run"))

    command = verbs.add_parser("explain", help="say of each node whether it would run, and why")
    _file(command)
    _overrides(command)
    _computing(command)
    command.add_argument("--only", action="append", metavar="ID", help="look at what this node needs, and it")
    command.add_argument("--json", action="store_true")
    command.set_defaults(act=_later("look", "explain"), force=None, no_cache=False)

    for name, words in (
        ("params", "list what can be set in a workflow"),
        ("validate", "report everything that is wrong with a workflow"),
    ):
        command = verbs.add_parser(name, help=words)
        _file(command)
        _base(command)
        command.add_argument("--json", action="store_true")
        command.set_defaults(act=_later("look", name))

    command = verbs.add_parser("nodes", help="list the nodes, or tell all about one")
    command.add_argument("node", nargs="?", metavar="ID")
    command.add_argument("--json", action="store_true")
    command.set_defaults(act=_later("look", "nodes"))

    command = verbs.add_parser("models", help="list the models that workflows can name")
    _base(command)
    command.add_argument("--json", action="store_true")
    command.set_defaults(act=_later("look", "models"))

    command = verbs.add_parser("cache", help="say how full the cache on disk is, or clear it")
    command.add_argument("what", nargs="?", choices=["info", "clear"], default="info")
    _base(command)
    command.set_defaults(act=_later("look", "cache"))

    command = verbs.add_parser("convert", help="write a workflow in another form, by the name of the new file")
    _file(command)
    command.add_argument("to", type=Path, metavar="OUT", help="*.api.json: ComfyUI's API format; *.json: Limner's")
    command.set_defaults(act=_later("look", "convert"))
    return top


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that takes longer than all the rest of --help."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"limner {version('limner')}")  # noqa: T201 - it is the answer
        parser.exit()


def _later(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    """A command, whose module is imported when it is called."""

    def act(options: argparse.Namespace) -> int:
        command: Any = getattr(import_module(f".{module}", __name__), name)
        return int(command(options))

    return act


def _file(command: argparse.ArgumentParser) -> None:
    words = "a workflow, a ComfyUI API file, a picture with one, or the name of a workflow that comes along"
    command.add_argument("file", type=Path, metavar="FILE", help=words)


def _base(command: argparse.ArgumentParser) -> None:
    command.add_argument("--base-directory", type=Path, metavar="DIR", help="where models, input, output and cache lie")


def _computing(command: argparse.ArgumentParser) -> None:
    _base(command)
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    command.add_argument("--dtype", default="auto", help="auto, float32, float16 or bfloat16 (default: %(default)s)")
    command.add_argument(
        "--vram-budget", metavar="SIZE", help="how much of the device networks may take, as 6GB or 800MB"
    )


def _overrides(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("settings", "later ones win; KEY is ID.input, TITLE.input or TYPE.input")
    group.add_argument("--params", type=Path, metavar="FILE", help="JSON: {KEY: value}; a list runs each of its values")
    group.add_argument("--seed", metavar="N", help="for every seed that nothing is plugged into; `random` draws one")
    group.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="numbers and choices may be several, as 1..8 or 5,7.5: the product is run",
    )  # fmt: skip
    group.add_argument(
        "--set-file", action="append", default=[], metavar="KEY=PATH", help="a file's text, or a picture"
    )
