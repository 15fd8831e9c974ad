"""Numbers, texts and truths under ComfyUI's ids: to set one once and plug it in often."""

from __future__ import annotations

import sys
from typing import Annotated

from ...core.schema import Multiline, Range, Says, node

LARGEST = sys.maxsize


@node("utils/primitive", namespace="", name="PrimitiveString", label="String")
def primitive_string(*, value: str) -> str:
    """A text of one line."""
    return value


@node("utils/primitive", namespace="", name="PrimitiveStringMultiline", label="String (Multiline)")
def primitive_string_multiline(*, value: Annotated[str, Multiline()]) -> str:
    """A text."""
    return value


@node("utils/primitive", namespace="", name="PrimitiveInt", label="Int")
def primitive_int(*, value: Annotated[int, Range(-LARGEST, LARGEST), Says({"control_after_generate": True})]) -> int:
    """A whole number."""
    return value


@node("utils/primitive", namespace="", name="PrimitiveFloat", label="Float")
def primitive_float(*, value: Annotated[float, Range(-LARGEST, LARGEST)]) -> float:
    """A number."""
    return value


@node("utils/primitive", namespace="", name="PrimitiveBoolean", label="Boolean")
def primitive_boolean(*, value: bool) -> bool:
    """Yes or no."""
    return value
