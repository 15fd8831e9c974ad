"""Numbers, seeds and choices: to set one once and plug it in often."""

from __future__ import annotations

from collections.abc import Generator
from typing import Annotated, Any

from ..core.schema import SEED_LIMIT, Lazy, Multiline, Need, Range, node
from ..core.values import Seeds

MOST_SEEDS = 256


@node("values")
def whole_number(value: Annotated[int, Range(-SEED_LIMIT, SEED_LIMIT)] = 0) -> int:
    """A whole number."""
    return value


@node("values")
def number(value: Annotated[float, Range(-1e300, 1e300)] = 0.0) -> float:
    """A number."""
    return value


@node("values", name="TrueOrFalse")
def true_or_false(value: bool = False) -> bool:  # noqa: FBT001 - a widget
    """Yes or no."""
    return value


@node("values")
def seed_list(
    seeds: Annotated[str, Multiline(), "Numbers and ranges: 3, 7, 10..12 are five seeds."] = "1..4",
) -> Seeds:
    """Seeds for the images of a batch."""
    values: list[int] = []
    for part in seeds.replace("\n", ",").split(","):
        if part.strip():
            first, dots, last = part.partition("..")
            low, high = _seed(first), _seed(last if dots else first)
            if not low <= high < low + MOST_SEEDS:
                raise ValueError(f"{part.strip()!r} is not a range of at most {MOST_SEEDS} seeds")
            values += range(low, high + 1)
    if not 0 < len(values) <= MOST_SEEDS:
        raise ValueError(f"there must be from 1 to {MOST_SEEDS} seeds, not {len(values)}")
    return Seeds(tuple(values))


@node("values", returns=Any)
def switch(
    condition: bool = False,  # noqa: FBT001 - a widget
    if_true: Annotated[Any, Lazy(), "Used if the condition holds."] = None,  # noqa: ARG001 - comes when it is needed
    if_false: Annotated[Any, Lazy(), "Used if it does not."] = None,  # noqa: ARG001 - so does this
) -> Generator[Need, Any, Any]:
    """Choose one of two inputs.  Only what is above the chosen one runs."""
    chosen = yield Need("if_true" if condition else "if_false")
    if chosen is None:
        raise ValueError(f"the condition is {str(condition).lower()}, and nothing is plugged in there")
    return chosen


def _seed(text: str) -> int:
    word = text.strip()
    if not word.isdecimal() or int(word) > SEED_LIMIT:
        raise ValueError(f"{word!r} is not a seed: a whole number from 0 to {SEED_LIMIT}")
    return int(word)
