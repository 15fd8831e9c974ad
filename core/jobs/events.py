"""What happens, in order: each event has a number, is told at once, and is kept for those who come back for it.

The newest lie in memory, as many as fit a bound.  All but the fleeting ones (progress, pictures of half-done work) also
go to a table on disk, and outlive the server.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Gone
from ..index import Index

Event = Mapping[str, Any]
Listener = Callable[[dict[str, Any]], None]

SCHEMA = (
    "CREATE TABLE events (seq INTEGER PRIMARY KEY, job TEXT NOT NULL, event TEXT NOT NULL)",
    "CREATE INDEX jobs ON events (job, seq)",
    "CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
)
FLEETING = frozenset({"progress", "preview", "queue", "said"})  # nobody who comes later wants to know
UNKEPT = frozenset({"preview", "said"})  # and take no number: they may hold bytes
OF_JOBS = frozenset({"queued", "started", "finished", "prioritised", "cancelled"})  # written at once
AHEAD = 1000  # numbers that are reserved on disk: after a kill none is given out twice
MOST_UNWRITTEN = 500
LATEST = 0.25  # seconds after which an event is written
PAGE = 256  # events that a follower holds


@dataclass(frozen=True, slots=True)
class _Kept:
    seq: int
    job: str
    event: dict[str, Any]
    size: int  # characters of JSON


class Events:
    """Belongs to the thread of one event loop; nothing here waits for a reader, or for the disk longer than a write."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        most: int = 20_000,
        room: int = 16 << 20,
        keep: int = 50_000,
        disk: int = 64 << 20,
    ) -> None:
        """Remember up to `most` events and `room` characters in memory, and up to `keep` and `disk` in `path`.

        A table that is damaged is set aside; without a path there is none.
        """
        self.previews = 0  # how many want pictures of half-done work
        self._most, self._room, self._keep, self._disk = most, room, keep, disk
        self._ring: deque[_Kept] = deque()
        self._size = 0
        self._unwritten: list[tuple[int, str, str]] = []
        self._due: asyncio.TimerHandle | None = None
        self._listeners: list[Listener] = []
        self._news = asyncio.Event()
        self._closed = False
        self._index = None if path is None else Index(path, SCHEMA, made=self._emptied)
        self._last = self._reserved = self._floor = 0  # the floor: the last number that has been forgotten
        self._rows = self._written = 0  # on disk: events, and characters
        self._last = self._reserved = self._mark("last")
        self._floor = self._mark("floor")
        for count, size in self._found("SELECT count(*), total(length(event)) FROM events"):
            self._rows, self._written = count, int(size)

    @property
    def last(self) -> int:
        """The number of the latest event."""
        return self._last

    def say(self, event: dict[str, Any]) -> int:
        """Number an event, keep it, and tell all who listen or follow.  A listener that fails fails nobody else."""
        event["time"] = time.time()
        if event["event"] in UNKEPT:
            event["seq"] = self._last
        else:
            self._last += 1
            event["seq"] = self._last
            self._keep_it(event)
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:  # somebody else's
                logging.getLogger(__name__).exception("a listener to events failed")
        return self._last

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` called with each event as it is said; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def since(self, seq: int, job: str | None = None) -> list[dict[str, Any]]:
        """All that is kept of what came after the event `seq`, or of that what concerns one job.  Raises `Gone`."""
        found: list[dict[str, Any]] = []
        while True:
            events, seq = self._after(seq, job)
            found += events
            if seq >= self._last:
                return found

    async def follow(self, since: int, job: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """What came after the event `since`, and then what comes, each once, until the log is closed.

        Who is slow gets what is fleeting no more, and is `Gone` if what he has not seen is forgotten.
        """
        while True:
            news = self._news
            events, since = self._after(since, job)
            for event in events:
                yield event
            if since >= self._last:
                if self._closed:
                    return
                await news.wait()

    def flush(self) -> None:
        """Write what is not written yet."""
        if self._due is not None:
            self._due.cancel()
        self._due = None
        rows, self._unwritten = self._unwritten, []
        if self._index is None or not rows:
            return
        if not self._index.change("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", *rows):
            self._floor = max(self._floor, rows[-1][0])  # the disk refuses: they are kept in memory alone
            return
        self._rows += len(rows)
        self._written += sum(len(text) for _, _, text in rows)
        while self._rows > self._keep or self._written > self._disk:
            self._forget(max(self._rows // 10, 1))

    def close(self) -> None:
        """Write what is not written, and end those who follow."""
        self.flush()
        self._set_mark("last", self._last)
        self._closed = True
        self._wake()
        if self._index is not None:
            self._index.close()

    def _keep_it(self, event: dict[str, Any]) -> None:
        text = json.dumps(event, default=str)
        kept = _Kept(event["seq"], event.get("job", ""), event, len(text))
        self._ring.append(kept)
        self._size += kept.size
        self._write_later(kept, text)
        while len(self._ring) > self._most or self._size > self._room:
            dropped = self._ring.popleft()
            self._size -= dropped.size
            if self._index is None:
                self._floor = dropped.seq
            elif self._unwritten and self._unwritten[0][0] <= dropped.seq:
                self.flush()
        self._wake()

    def _write_later(self, kept: _Kept, text: str) -> None:
        """Fleeting ones never, those of jobs at once, others many at a time."""
        if self._index is None:
            return
        if kept.seq > self._reserved:
            self._reserved = kept.seq + AHEAD
            self._set_mark("last", self._reserved)
        if kept.event["event"] in FLEETING:
            return
        self._unwritten.append((kept.seq, kept.job, text))
        if kept.event["event"] in OF_JOBS or len(self._unwritten) >= MOST_UNWRITTEN:
            self.flush()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(LATEST, self.flush)

    def _after(self, seq: int, job: str | None) -> tuple[list[dict[str, Any]], int]:
        """The next events after `seq`, a page at most, and the number up to which there are no others."""
        if seq > self._last:
            raise Gone(f"there was no event {seq}: the latest is {self._last}; look at the jobs")
        first = self._ring[0].seq if self._ring else self._last + 1
        if seq + 1 >= first:
            return self._remembered(seq - first + 1, job)
        if seq < self._floor:
            raise Gone(
                f"the events after {seq} are not kept any more, only those after {self._floor}; look at the jobs"
            )
        return self._read(seq, first, job)

    def _remembered(self, skipped: int, job: str | None) -> tuple[list[dict[str, Any]], int]:
        """From memory, where numbers have no gaps."""
        found: list[dict[str, Any]] = []
        for k in range(skipped, len(self._ring)):
            kept = self._ring[k]  # quick near both ends, where almost all readers are
            if job in (None, kept.job):
                found.append(kept.event)
                if len(found) == PAGE:
                    return found, kept.seq
        return found, self._last

    def _read(self, seq: int, first: int, job: str | None) -> tuple[list[dict[str, Any]], int]:
        """From disk, up to where memory begins."""
        where, values = ("", ()) if job is None else ("AND job = ?", (job,))
        query = f"SELECT seq, event FROM events WHERE seq > ? AND seq < ? {where} ORDER BY seq LIMIT {PAGE}"  # noqa: S608
        rows = self._found(query, seq, first, *values)
        return [json.loads(text) for _, text in rows], rows[-1][0] if len(rows) == PAGE else first - 1

    def _forget(self, count: int) -> None:
        """Drop the oldest events from disk."""
        rows = self._found("SELECT seq, length(event) FROM events ORDER BY seq LIMIT ?", count)
        self._rows -= len(rows)
        self._written -= sum(size for _, size in rows)
        if not rows or self._index is None:
            self._rows = self._written = 0
            return
        self._floor = rows[-1][0]
        self._index.change("DELETE FROM events WHERE seq <= ?", (self._floor,))
        self._set_mark("floor", self._floor)

    def _emptied(self) -> None:
        """The table is made, or made anew after it was set aside."""
        self._floor, self._reserved = self._last, 0
        self._rows = self._written = 0

    def _found(self, query: str, *values: object) -> Sequence[tuple[Any, ...]]:
        return self._index.rows(query, *values) if self._index else []

    def _mark(self, name: str) -> int:
        rows = self._found("SELECT value FROM marks WHERE name = ?", name)
        return rows[0][0] if rows else 0

    def _set_mark(self, name: str, value: int) -> None:
        if self._index is not None:
            self._index.change("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, value))

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
