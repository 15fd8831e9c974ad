"""Where nodes stand that nobody has placed: in columns, each after what it needs.  Nothing here is recursive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMN, GAP, TITLE = 60, 30, 30  # between columns and rows, and above a node
WIDTH, SOCKET, WIDGET = 270, 20, 28  # of a node, a row of sockets and a widget

Point = Sequence[Any]  # numbers: x and y, or width and height
Above = Mapping[str, Sequence[str]]  # the nodes that a node takes something from


def size(sockets: int, widgets: int) -> list[int]:
    """The room that a node takes."""
    return [WIDTH, max(sockets, 1) * SOCKET + widgets * WIDGET + 10]


def ranked(above: Above) -> dict[str, int]:
    """The column of each node: one more than the last of those it needs.  What is in a loop comes first."""
    below: dict[str, list[str]] = {name: [] for name in above}
    missing = {}
    for name, others in above.items():
        needed = {other for other in others if other in above}
        missing[name] = len(needed)
        for other in needed:
            below[other].append(name)
    ranks: dict[str, int] = {}
    ready = [name for name, count in missing.items() if not count]
    for name in ready:
        ranks.setdefault(name, 0)
        for other in below[name]:
            ranks[other] = max(ranks.get(other, 0), ranks[name] + 1)
            missing[other] -= 1
            if not missing[other]:
                ready.append(other)
    order = {name: ranks[name] for name in ready}
    return order | {name: 0 for name in above if name not in order}


def placed(above: Above, places: Mapping[str, Point], sizes: Mapping[str, Point]) -> dict[str, list[Any]]:
    """A place for each node that has none, below all that have one."""
    left = min((at[0] for at in places.values()), default=0)
    top = max((at[1] + sizes[name][1] for name, at in places.items()), default=-TITLE - GAP) + TITLE + GAP
    free = {name: rank for name, rank in ranked(above).items() if name not in places}
    widths: dict[int, Any] = {}
    for name, rank in free.items():
        widths[rank] = max(widths.get(rank, 0), sizes[name][0])
    columns = {}
    for rank in sorted(widths):
        columns[rank] = left
        left += widths[rank] + COLUMN
    found, bottoms = {}, dict.fromkeys(columns, top)
    for name, rank in free.items():
        found[name] = [columns[rank], bottoms[rank]]
        bottoms[rank] += sizes[name][1] + TITLE + GAP
    return found
