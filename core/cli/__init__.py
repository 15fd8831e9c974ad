"""The command line: translates words into calls of a host, and what comes back into lines.  Loads torch only to run."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from ..errors import InvalidGraph, LimnerError

EXAMPLES = """
examples:
  limner run workflows/text-to-image.json
  limner run workflows/text-to-image.json --set prompt.value="a green frog, 3d style" --seed 7
  limner run workflows/text-to-image.json --set sample.seed=1..8 --out pictures
  limner explain workflows/text-to-image.json
  limner run output/limner_00001.png          # a picture carries its workflow

exit codes: 0 done, 1 failed, 2 wrong usage, 3 invalid workflow or missing model, 5 out of memory,
124 time limit, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.act(options)
        sys.stdout.flush()
    except InvalidGraph as error:
        return _told(error, "the workflow cannot run:\n" + "\n".join(f"  {p}" for p in error.problems))
    except LimnerError as error:
        return _told(error, str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever reads has gone, as `| head` does
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def parser() -> argparse.ArgumentParser:
    """The words that can be said."""
    from . import look, run

    top = argparse.ArgumentParser(
        prog="limner",
        description="Pictures from words, by graphs of nodes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"limner {version('limner')}")
    verbs = top.add_subparsers(metavar="COMMAND", required=True)

    command = verbs.add_parser("run", help="run a workflow, and print the paths of its pictures")
    _file(command)
    _overrides(command)
    _computing(command)
    command.add_argument("--out", type=Path, metavar="DIR", help="where pictures go (default: output)")
    command.add_argument("--only", action="append", metavar="ID", help="run what this node needs, and it; repeatable")
    command.add_argument(
        "--force", nargs="?", action="append", const="*", metavar="ID", help="run it though it is cached"
    )
    command.add_argument("--no-cache", action="store_true", help="neither read nor write results on disk")
    command.add_argument("--no-metadata", action="store_true", help="leave the workflow out of the pictures")
    command.add_argument("--timeout", type=float, metavar="S", help="give up after so many seconds (exit code 124)")
    command.add_argument("--json", action="store_true", help="events on standard output, one JSON object a line")
    command.add_argument("--dry-run", action="store_true", help="say what would run, and run nothing")
    command.add_argument("--quiet", action="store_true", help="no progress")
    command.set_defaults(act=run.run)

    command = verbs.add_parser("explain", help="say of each node whether it would run, and why")
    _file(command)
    _overrides(command)
    _computing(command)
    command.add_argument("--only", action="append", metavar="ID", help="look at what this node needs, and it")
    command.add_argument("--json", action="store_true")
    command.set_defaults(act=look.explain)

    for name, act, words in (
        ("params", look.params, "list what can be set in a workflow"),
        ("validate", look.validate, "report everything that is wrong with a workflow"),
    ):
        command = verbs.add_parser(name, help=words)
        _file(command)
        _base(command)
        command.add_argument("--json", action="store_true")
        command.set_defaults(act=act)

    command = verbs.add_parser("nodes", help="list the nodes, or tell all about one")
    command.add_argument("node", nargs="?", metavar="ID")
    command.add_argument("--json", action="store_true")
    command.set_defaults(act=look.nodes)

    command = verbs.add_parser("models", help="list the models that workflows can name")
    _base(command)
    command.add_argument("--json", action="store_true")
    command.set_defaults(act=look.models)

    command = verbs.add_parser("cache", help="say how full the cache on disk is, or clear it")
    command.add_argument("what", nargs="?", choices=["info", "clear"], default="info")
    _base(command)
    command.set_defaults(act=look.cache)

    command = verbs.add_parser("convert", help="write a workflow in another form, by the name of the new file")
    _file(command)
    command.add_argument("to", type=Path, metavar="OUT", help="*.api.json: ComfyUI's API format; *.json: Limner's")
    command.set_defaults(act=look.convert)
    return top


def _file(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "file", type=Path, metavar="FILE", help="a workflow, a ComfyUI API file, or a picture with one"
    )


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
    group.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="numbers and choices may be several, as 1..8 or 5,7.5: the product is run",
    )  # fmt: skip
    group.add_argument("--set-file", action="append", default=[], metavar="KEY=PATH", help="the text of a file")
    group.add_argument("--seed", metavar="N", help="for every seed; `random` draws one")


def _told(error: LimnerError, text: str) -> int:
    print(f"limner: {text}", file=sys.stderr)  # noqa: T201 - what people read
    return error.exit_code
