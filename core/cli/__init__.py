"""The command line: translates words into calls of a host, and what comes back into lines.  Loads torch only to run."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from ..errors import LimnerError, UsageError
from .flags import FLAGS

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

SETTINGS = "--params --seed --set --set-file"  # the later ones win
COMPUTING = "--base-directory --device --dtype --vram-budget --no-cache"
SERVING = "--base-directory --device --dtype --vram-budget --no-metadata"
LOOKING = f"file {SETTINGS} {COMPUTING} --only --force --json"

COMMANDS = {  # the module that does it, what it is for, and the words that it takes
    "run": (
        "run",
        "run a workflow, and print the paths of its pictures",
        f"{LOOKING} --out --no-metadata --timeout --dry-run --quiet",
    ),
    "explain": ("look", "say of each node whether it would run, and why", LOOKING),
    "params": ("look", "list what can be set in a workflow", "file --base-directory --json"),
    "validate": ("look", "report everything that is wrong with a workflow", "file --base-directory --json"),
    "nodes": ("look", "list the nodes, or tell all about one", "node --json"),
    "models": ("look", "list the models that workflows can name", "--base-directory --json"),
    "cache": ("look", "say how full the cache on disk is, or clear it", "what --base-directory"),
    "convert": ("look", "write a workflow in another form, by the name of the new file", "file to"),
    "serve": ("serve", "serve ComfyUI's API and Limner's own", f"{SERVING} {' '.join(FLAGS)}"),
}


def size(text: str) -> int:
    """Bytes from "6GB" or "800MB"."""
    match = re.fullmatch(r"(?i)\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", text)
    if match is None:
        raise UsageError(f"{text!r} is not a size such as 6GB or 800MB")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " "))


def word(help: str, **more: Any) -> dict[str, Any]:  # noqa: A002 - argparse calls it so
    """What argparse is to know of a word."""
    return {"help": help, **more}


KEY = """ID.input, TITLE.input or TYPE.input; numbers and choices may be several, as 1..8 or 5,7.5: the product is run;
of --params, --seed, --set and --set-file the later ones win"""
WORDS = FLAGS | {  # those of a `dest` are named as the fields of `host.Settings` that they set
    "file": word(
        "a workflow, ours or ComfyUI's, a picture with one, or one that comes along", metavar="FILE", type=Path
    ),
    "to": word(
        "*.json: Limner's format; *.api.json: ComfyUI's API format; *.ui.json: its editor's; *.png: the picture FILE "
        "with all of them in it",
        metavar="OUT",
        type=Path,
    ),
    "node": word("its id or its name", metavar="ID", nargs="?"),
    "what": word("default: info", nargs="?", choices=["info", "clear"], default="info"),
    "--params": word("JSON: {KEY: value}; a list runs each of its values", metavar="FILE", type=Path),
    "--seed": word("for every seed that nothing is plugged into; `random` draws one", metavar="N"),
    "--set": word(KEY, metavar="KEY=VALUE", action="append", default=[]),
    "--set-file": word("a file's text, or a picture", metavar="KEY=PATH", action="append", default=[]),
    "--base-directory": word("where models, input, output and cache lie", metavar="DIR", dest="base", type=Path),
    "--device": word("auto, cpu, cuda or cuda:N (default: %(default)s)", default="auto"),
    "--dtype": word("auto, float32, float16 or bfloat16 (default: %(default)s)", default="auto"),
    "--vram-budget": word("how much of the device networks may take, as 6GB or 800MB", metavar="SIZE", type=size),
    "--no-cache": word("neither read nor write results on disk", action="store_false", dest="disk_cache"),
    "--only": word("run what this node needs, and it; repeatable", metavar="ID", action="append"),
    "--force": word(
        "run this node though cached, or all", metavar="ID", nargs="?", action="append", const="*", default=[]
    ),
    "--json": word("answer as JSON; of a run: each event as an object on a line of its own", action="store_true"),
    "--out": word("where pictures go, if not to the base directory", metavar="DIR", dest="output", type=Path),
    "--no-metadata": word("leave the workflow out of the pictures", action="store_false", dest="metadata"),
    "--timeout": word("give up after so many seconds (exit code 124)", metavar="S", type=float, default=math.inf),
    "--dry-run": word("say what would run, and run nothing", action="store_true"),
    "--quiet": word("no progress", action="store_true"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know fewer letters than a prompt
    try:
        options = parser().parse_args(arguments)
        module = import_module(f".{COMMANDS[options.command][0]}", __name__)
        code: int | None = getattr(module, options.command)(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has gone, as `| head` does
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (LimnerError, KeyboardInterrupt) as error:
        from . import failure

        return failure.told(error)
    return code or 0


def parser() -> argparse.ArgumentParser:
    """The words that can be said."""
    top = argparse.ArgumentParser(
        prog="limner",
        description="Pictures from words, by graphs of nodes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="say which Limner this is")
    commands = top.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, (_, purpose, words) in COMMANDS.items():
        command = commands.add_parser(name, help=purpose)
        for each in words.split():
            command.add_argument(each, **WORDS[each])
    return top


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that takes longer than all the rest of --help."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from ..environment import installed

        print(f"limner {installed('limner')}")  # noqa: T201 - it is the answer
        parser.exit()
