"""What a job died of, for its client: a sentence without the machine's paths; and for the log: all there is."""

from __future__ import annotations

import re
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import InvalidGraph, LimnerError, kind
from . import story

PACKAGE = Path(__file__).resolve().parents[2]
LONGEST = 10_000  # characters of a message
POSIX = re.compile(r"(?<![\w.~/-])(?:/[^\s/'\"<>|:;,()\[\]{}]+){2,}")
# Names with blanks are known by their quotes.
QUOTED = re.compile(r"""(?P<quote>['"])(?:[A-Za-z]:)?[\\/][^'"\n]*[\\/](?P<last>[^'"\n\\/]*)(?P=quote)""")
# What a process can do nothing about but end: from then on all that it asks of the device fails.  CUDA's and HIP's.
LOST_DEVICE = re.compile(
    r"(?:CUDA|HIP) error: (?:device-side assert|an illegal (?:memory access|instruction)|misaligned address"
    r"|unspecified launch failure|the launch timed out|hardware stack error|invalid program counter"
    r"|operation not supported on global/shared address space|uncorrectable |unknown error).*"
)
WINDOWS = re.compile(r"(?<!\w)(?:[A-Za-z]:[\\/]|\\\\)[^\s'\"<>|:;,()\[\]{}]+")


def described(error: BaseException, node: str | None = None, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """What went wrong, as a job keeps it; files in `folders` are told as `without_paths` does."""
    if isinstance(error, InvalidGraph) and node is None and error.problems:
        node = error.problems[0].node
    message = without_paths(_sentence(error)[:LONGEST], folders)
    return story.error(kind(error).code, _name(error), message, node)


def lost_device(error: BaseException) -> str:
    """How the device was lost to this process, for as long as that lives; empty where it was not."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        # torch has its own class for this since 2.8, which is one of these.
        if isinstance(cause, RuntimeError) and (found := LOST_DEVICE.search(errors.words(cause))):
            return found[0]
        cause = cause.__cause__ or cause.__context__
    return ""


def trace(error: BaseException) -> str:
    """The traceback; of errors of ours, which are sentences, what they say."""
    if isinstance(error, LimnerError):
        return str(error)
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # somebody else's error, whose text fails in its turn
        return f"{_name(error)}, which cannot be written down"


def without_paths(text: str, folders: Sequence[Path] = ()) -> str:
    """`text`, without what says where on this machine things lie.

    Of paths in one of `folders` the part below it is left, after the folder's name unless it is the first; of others,
    the last name.
    """
    kept = {str(folder): f"{folder.name}/" for folder in folders[1:] if not folder.is_relative_to(folders[0])}
    known = {str(folder): "" for folder in (*_places(), *folders[:1]) if len(folder.parts) > 1} | kept
    for folder in sorted(known, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.~/-]){re.escape(folder)}[\\/]", known[folder], text)
        text = re.sub(rf"(?<![\w.~/-]){re.escape(folder)}(?![\w.-])", Path(folder).name, text)
    text = QUOTED.sub(r"\g<quote>…/\g<last>\g<quote>", text)
    return WINDOWS.sub(_last, POSIX.sub(_last, text))


def _last(match: re.Match[str]) -> str:
    return "…/" + re.split(r"[\\/]", match[0])[-1]


def _places() -> list[Path]:
    return [Path.home(), Path.cwd(), Path(sys.prefix), Path(sys.base_prefix), Path(tempfile.gettempdir()), PACKAGE]


def _sentence(error: BaseException) -> str:
    if isinstance(error, InvalidGraph):
        return "the workflow cannot run: " + "; ".join(map(str, error.problems))
    return errors.sentence(error)


def _name(error: BaseException) -> str:
    """The error's class, as ComfyUI names it: with its module, unless that is Python's own."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
