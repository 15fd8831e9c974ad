"""A table in SQLite that may be lost: made when it is first written, shared by processes, set aside where damaged."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}  # not: busy, full, read-only, whose index is a good one


class Index:
    """What is remembered between processes and can be found out anew.  Nothing that goes wrong with it is raised."""

    def __init__(self, path: Path, schema: Sequence[str], version: int = 1, made: Callable[[], object] = bool) -> None:
        """Open nothing yet.  `schema` is statements, of that version; `made` is called when an index starts empty."""
        self.path = path
        self._schema, self._version, self._made = schema, version, made
        self._open: sqlite3.Connection | None = None
        self._lock = threading.RLock()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds; nothing where there is no index, or none that can be read."""
        if self._open is None and not self.path.exists():
            return []
        return self._tried(lambda index: index.execute(query, values).fetchall()) or []

    def change(self, query: str, *rows: Sequence[object]) -> bool:
        """Do it for each row, or once where there are none.  Whether the index has taken it."""

        def made(index: sqlite3.Connection) -> bool:
            with index:  # all of it or nothing
                index.executemany(query, rows or [()])
            return True

        return self._tried(made) or False

    def close(self) -> None:
        """Let go of the file; it opens again when it is needed."""
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    def __del__(self) -> None:
        self.close()

    def _tried(self, act: Callable[[sqlite3.Connection], T]) -> T | None:
        with self._lock:
            for _ in range(2):  # once more where the index was set aside, with an empty one
                try:
                    return act(self._opened())
                except (sqlite3.Error, OSError) as error:
                    self.close()
                    if not _damaged(error) or not self._set_aside():
                        return None
            return None

    def _opened(self) -> sqlite3.Connection:
        if self._open is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open = sqlite3.connect(self.path, timeout=10, check_same_thread=False)
            (found,) = self._open.execute("PRAGMA user_version").fetchone()
            if not found:
                self._begin(self._open)
            elif found != self._version:
                raise _Foreign
            self._open.execute("PRAGMA synchronous = NORMAL")
        return self._open

    def _begin(self, index: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.OperationalError):  # another process does it now
            index.execute("PRAGMA journal_mode = WAL")
        index.execute("BEGIN IMMEDIATE")
        if index.execute("PRAGMA user_version").fetchone() == (0,):  # still: nobody was quicker
            for statement in (*self._schema, f"PRAGMA user_version = {self._version}"):
                index.execute(statement)
            self._made()
        index.commit()

    def _set_aside(self) -> bool:
        """Keep what cannot be read beside a new, empty index.  Whether there is room for that one now."""
        for suffix in ("", "-wal", "-shm"):
            path = self.path.with_name(f"{self.path.name}{suffix}")
            with contextlib.suppress(OSError):
                path.replace(path.with_name(f"damaged-{path.name}"))
        return not self.path.exists()


class _Foreign(sqlite3.DatabaseError):
    """An index of another version, which may read it another way."""


def _damaged(error: Exception) -> bool:
    return isinstance(error, _Foreign) or getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED
