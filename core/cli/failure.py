"""What went wrong, as a sentence for a person, and as a code for a program."""

from __future__ import annotations

import sys

from ..errors import Interrupted, InvalidGraph, LimnerError, OutOfMemory


def told(error: BaseException, node: str = "") -> int:
    """Say what went wrong, on standard error; returns the exit code."""
    print(f"limner: {sentence(error, node)}", file=sys.stderr)  # noqa: T201 - what people read
    return kind(error).exit_code


def code(error: BaseException) -> str:
    """What programs call it."""
    return kind(error).code


def kind(error: BaseException) -> type[LimnerError]:
    """The kind of error of ours that it is, or comes to."""
    if isinstance(error, LimnerError):
        return type(error)
    if isinstance(error, KeyboardInterrupt):
        return Interrupted
    # torch's error for devices is known by its name, so that torch is not loaded for this; the CPU's has none.
    no_room = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return OutOfMemory if no_room or "DefaultCPUAllocator" in _text(error) else LimnerError


def sentence(error: BaseException, node: str = "") -> str:
    """What went wrong, for a person.  What a node raised is named by its kind, unless it is a sentence of ours."""
    if isinstance(error, InvalidGraph):
        return "the workflow cannot run:\n" + "\n".join(f"  {problem}" for problem in error.problems)
    text = _text(error)
    if kind(error) is Interrupted:
        text = text or "stopped"
    elif not (isinstance(error, LimnerError | ValueError) and text):
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    return f"{node}: {text}" if node else text


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # somebody else's error, whose text fails in its turn
        return ""
