"""What went wrong, as a sentence for a person, and as a code for a program."""

from __future__ import annotations

import sys

from .. import errors
from ..errors import InvalidGraph, kind


def told(error: BaseException, node: str = "") -> int:
    """Say what went wrong, on standard error; returns the exit code."""
    print(f"limner: {sentence(error, node)}", file=sys.stderr)  # noqa: T201 - what people read
    return kind(error).exit_code


def code(error: BaseException) -> str:
    """What programs call it."""
    return kind(error).code


def sentence(error: BaseException, node: str = "") -> str:
    """What went wrong, for a person."""
    if isinstance(error, InvalidGraph):
        return "the workflow cannot run:\n" + "\n".join(f"  {problem}" for problem in error.problems)
    text = errors.sentence(error)
    return f"{node}: {text}" if node else text
