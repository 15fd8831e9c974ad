"""Texts put together, cut and compared, and anything shown as text, under ComfyUI's ids."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

from ...core.schema import Choice, Multiline, Range, node
from ...core.values import Returned

Text = Annotated[str, Multiline()]
MOST = 2**31 - 1  # letters


@node("utils/string", namespace="", name="StringConcatenate", label="Concatenate")
def string_concatenate(
    *, string_a: Text, string_b: Text, delimiter: Annotated[str, "What stands between the two."] = ""
) -> str:
    """Put two texts together."""
    return delimiter.join((string_a, string_b))


@node("utils/string", namespace="", name="StringSubstring", label="Substring")
def string_substring(
    *,
    string: Text,
    start: Annotated[int, Range(-MOST, MOST), "The first letter that is kept, counted from 0; from the end below 0."],
    end: Annotated[int, Range(-MOST, MOST), "The first one after it that is not."],
) -> str:
    """Cut a piece out of a text."""
    return string[start:end]


@node("utils/string", namespace="", name="StringLength", label="Length")
def string_length(*, string: Text) -> int:
    """Count the letters of a text."""
    return len(string)


@node("utils/string", namespace="", name="CaseConverter", label="Case Converter")
def case_converter(
    *,
    string: Text,
    mode: Annotated[str, Choice("UPPERCASE", "lowercase", "Capitalize", "Title Case"), "Which letters are large."],
) -> str:
    """Write a text in large or small letters."""
    change = {"UPPERCASE": str.upper, "lowercase": str.lower, "Capitalize": str.capitalize, "Title Case": str.title}
    return change[mode](string)


@node("utils/string", namespace="", name="StringTrim", label="Trim")
def string_trim(*, string: Text, mode: Annotated[str, Choice("Both", "Left", "Right"), "At which end."]) -> str:
    """Take away blanks at the ends of a text."""
    return {"Both": str.strip, "Left": str.lstrip, "Right": str.rstrip}[mode](string)


@node("utils/string", namespace="", name="StringReplace", label="Replace")
def string_replace(
    *,
    string: Text,
    find: Annotated[str, Multiline(), "What is replaced, wherever it stands."],
    replace: Annotated[str, Multiline(), "What takes its place."],
) -> str:
    """Replace a part of a text by another."""
    return string.replace(find, replace)


@node("utils/string", namespace="", name="StringContains", label="Contains")
def string_contains(
    *,
    string: Text,
    substring: Annotated[str, Multiline(), "What is looked for."],
    case_sensitive: Annotated[bool, "Whether large and small letters differ."] = True,
) -> bool:
    """Say whether a text holds another."""
    return substring in string if case_sensitive else substring.lower() in string.lower()


@node("utils/string", namespace="", name="StringCompare", label="Compare")
def string_compare(
    *,
    string_a: Text,
    string_b: Text,
    mode: Annotated[str, Choice("Starts With", "Ends With", "Equal"), "What is asked of the first text."],
    case_sensitive: Annotated[bool, "Whether large and small letters differ."] = True,
) -> bool:
    """Compare two texts."""
    a, b = (string_a, string_b) if case_sensitive else (string_a.lower(), string_b.lower())
    return {"Starts With": a.startswith(b), "Ends With": a.endswith(b), "Equal": a == b}[mode]


@node("utils", namespace="", name="PreviewAny", label="Preview Any", delivers=True)
def preview_any(*, source: Annotated[Any, "Whatever is to be shown."]) -> Returned:
    """Show anything as text."""
    return Returned((), {"text": [_shown(source)]})


def _shown(value: object) -> str:
    """A text as it is, plain data as JSON, and what holds tensors by their shapes."""
    if isinstance(value, str):
        return value
    try:
        return str(value) if value is None or isinstance(value, int | float) else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return _outlined(value)


def _outlined(value: object) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{' x '.join(map(str, shape))} numbers"
    if not is_dataclass(value) or isinstance(value, type):
        return str(value)
    parts = ((field.name, getattr(value, field.name)) for field in fields(value))
    return f"{type(value).__name__}: " + ", ".join(f"{name} {_shown(part)}" for name, part in parts if part is not None)
