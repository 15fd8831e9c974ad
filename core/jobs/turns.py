"""Whose turn it is: what was cut short first, then the highest priority, in there line by line, in a line by place.

Lines take turns: that whose last turn is longest ago is next.  Nothing here looks at jobs that have ended, but for the
last turn of a line, which an index has.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from ..errors import Conflict
from .job import Job
from .ledger import change

AGAIN = """SELECT id FROM jobs INDEXED BY again WHERE state = 'pending' AND begun IS NOT NULL ORDER BY begun LIMIT 1"""
LINE = """SELECT priority, line FROM jobs AS here INDEXED BY waiting WHERE state = 'pending'
    AND priority = (SELECT max(priority) FROM jobs INDEXED BY waiting WHERE state = 'pending') GROUP BY line
    ORDER BY (SELECT max(begun) FROM jobs AS past WHERE past.line = here.line), min(place), line LIMIT 1"""
FIRST = """SELECT id FROM jobs INDEXED BY waiting
    WHERE state = 'pending' AND priority = ? AND line = ? ORDER BY place, sequence LIMIT 1"""
SERVED = """SELECT DISTINCT line, (SELECT max(begun) FROM jobs AS past WHERE past.line = here.line)
    FROM jobs AS here INDEXED BY waiting WHERE state = 'pending'"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits, and where."""

    job: Job
    line: str
    place: float
    begun: int | None  # the tick of its last turn, if it was cut short


def cut_short(db: sqlite3.Connection) -> str | None:
    """The first of the jobs that were cut short and wait again."""
    found = db.execute(AGAIN).fetchone()
    return found[0] if found else None


def next_one(db: sqlite3.Connection) -> str | None:
    """The job whose turn it is, if none was cut short."""
    line = db.execute(LINE).fetchone()
    return db.execute(FIRST, line).fetchone()[0] if line else None


def served(db: sqlite3.Connection) -> dict[str, int]:
    """When each line in which somebody waits had its last turn; 0: never."""
    return {line: turn or 0 for line, turn in db.execute(SERVED)}


def in_turn(waiting: Sequence[Waiting], last: Mapping[str, int]) -> list[Job]:
    """The order in which they would be taken one by one, if `last` are the lines' last turns."""
    again = sorted((w for w in waiting if w.begun is not None), key=lambda w: w.begun or 0)
    ticks = count(max(last.values(), default=0) + 1)
    turns = {**last, **{w.line: next(ticks) for w in again}}
    ordered = [w.job for w in again]
    by_priority: defaultdict[int, list[Waiting]] = defaultdict(list)
    for w in waiting:
        if w.begun is None:
            by_priority[w.job.priority].append(w)
    for _, alike in sorted(by_priority.items(), reverse=True):
        lines = _lines(alike)
        heap = [(turns.get(name, 0), line[0].place, name) for name, line in lines.items()]
        heapq.heapify(heap)
        while heap:
            name = heapq.heappop(heap)[2]
            ordered.append(lines[name].popleft().job)
            turns[name] = next(ticks)
            if lines[name]:
                heapq.heappush(heap, (turns[name], lines[name][0].place, name))
    return ordered


def move(db: sqlite3.Connection, name: str, before: str) -> None:
    """Put a waiting job into the line of another one, between that and the one ahead of it."""
    query = "SELECT priority, line, begun FROM jobs WHERE id = ?"
    priority, line, begun = db.execute(query, [before]).fetchone()
    if begun is not None:
        raise Conflict(f"the job {before!r} was cut short and is next: nothing can be put before it")
    query = (
        "SELECT id, place FROM jobs WHERE state = 'pending' AND begun IS NULL AND priority = ? AND line = ? AND id != ?"
    )
    rows = db.execute(f"{query} ORDER BY place, sequence", [priority, line, name]).fetchall()
    ids, places = [row[0] for row in rows], [row[1] for row in rows]
    k = ids.index(before)
    if k and not places[k - 1] < _ahead(places, k) < places[k]:  # no room: the line stands anew
        places = _spread(places)
        db.executemany("UPDATE jobs SET place = ? WHERE id = ?", list(zip(places, ids, strict=True)))
    change(db, name, priority=priority, line=line, place=_ahead(places, k), begun=None)


def _lines(waiting: Sequence[Waiting]) -> dict[str, deque[Waiting]]:
    lines: defaultdict[str, deque[Waiting]] = defaultdict(deque)
    for w in sorted(waiting, key=lambda w: (w.place, w.job.sequence)):
        lines[w.line].append(w)
    return lines


def _ahead(places: Sequence[float], k: int) -> float:
    """A place ahead of the k-th, and behind the one before it if there is room."""
    return places[k - 1] / 2 + places[k] / 2 if k else places[0] - _step(places[0])


def _spread(places: Sequence[float]) -> list[float]:
    """As many places, apart from each other, of which none is behind the last one: later jobs come behind them."""
    high = places[-1]
    low = min(places[0], high - _step(high))
    return [low + (high - low) * ((k + 1) / len(places)) for k in range(len(places))]


def _step(place: float) -> float:
    return max(1.0, abs(place) * 1e-6)  # large enough to make a difference to a float of that size
