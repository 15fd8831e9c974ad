"""JSON as everybody reads it: no NaN, no name twice, no half letters, nothing so deep or so large that it hurts."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

DEEPEST = 100  # lists and objects in each other
LARGEST = 64 << 20  # bytes
LONGEST_NUMBER = 4000  # digits; Python turns no more into a number


def loads(text: str | bytes, most: int = LARGEST) -> Any:
    """The data of a JSON text.  Raises ValueError whose text goes on after a subject: "is not JSON: line 1, ..."."""
    if len(text) > most:
        raise ValueError(f"is larger than {most >> 20} MB" if most >> 20 else f"is larger than {most} bytes")
    try:
        return _loaded(text if isinstance(text, str) else text.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except UnicodeError:
        raise ValueError("is not text in UTF-8") from None
    except ValueError as error:
        raise ValueError(f"is no valid JSON: {error}") from None


def _loaded(text: str) -> Any:
    data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole)
    json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair is not text
    if _deeper(data, DEEPEST):
        raise RecursionError
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name!r} stands twice in one object")
    return found


def _deeper(data: object, most: int) -> bool:
    """Whether more than `most` lists and objects stand in each other."""
    level = [data]
    for _ in range(most):
        parts = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
        level = [inner for part in parts for inner in part if isinstance(inner, dict | list)]
    return bool(level)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON has")


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"a number has {len(text)} digits, more than {LONGEST_NUMBER}")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text if len(text) < 40 else f'{text[:40]}...'} is too large a number")
    return number
