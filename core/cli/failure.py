"""What went wrong, as a sentence for a person, and as a code for a program."""

from __future__ import annotations

import sys

from .. import errors
from ..errors import Interrupted, InvalidGraph


def told(error: BaseException, node: str = "") -> int:
    """Say what went wrong, on standard error; returns the exit code."""
    print(f"limner: {sentence(error, node)}", file=sys.stderr)  # noqa: T201 - what people read
    return errors.kind(_meant(error)).exit_code


def code(error: BaseException) -> str:
    """What programs call it."""
    return errors.kind(_meant(error)).code


def sentence(error: BaseException, node: str = "") -> str:
    """What went wrong, for a person."""
    if isinstance(error, InvalidGraph):
        return "the workflow cannot run:\n" + "\n".join(f"  {problem}" for problem in error.problems)
    text = errors.sentence(_meant(error))
    return f"{node}: {text}" if node else text


def _meant(error: BaseException) -> BaseException:
    return Interrupted(errors.words(error)) if isinstance(error, KeyboardInterrupt) else error  # a person's Ctrl-C
