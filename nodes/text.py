"""Texts: to write one once and plug it in often, and to put prompts together."""

from __future__ import annotations

from typing import Annotated

from ..core.schema import Multiline, node


@node("values")
def text(value: Annotated[str, Multiline()] = "") -> str:
    """A text."""
    return value


@node("values")
def join_text(
    first: Annotated[str, Multiline()] = "",
    second: Annotated[str, Multiline()] = "",
    third: Annotated[str, Multiline()] = "",
    between: Annotated[str, "What stands between two of them; empty texts are left out."] = ", ",
) -> str:
    """Put texts together."""
    return between.join(part for part in (first, second, third) if part)
