"""How long nodes take: seconds from past runs, by a node's type and constants.  May be lost: it is found out anew."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ..index import Index

SCHEMA = (
    """CREATE TABLE timings (
        kind TEXT NOT NULL, digest TEXT NOT NULL, seconds REAL NOT NULL, noted INTEGER NOT NULL,
        PRIMARY KEY (kind, digest)) WITHOUT ROWID""",
    "CREATE INDEX noted ON timings (noted)",
)
READ = "SELECT kind, digest, seconds, noted FROM timings ORDER BY noted"
TRIM = "DELETE FROM timings WHERE noted <= (SELECT noted FROM timings ORDER BY noted DESC LIMIT 1 OFFSET ?)"
ANY = ""  # the digest of whatever constants
FRESH = 0.3  # how much the latest time counts
KEEP = 5000  # rows
MOST_UNWRITTEN = 500


class Timings:
    """Running averages, in which the latest times count most.  Safe to use from several threads."""

    def __init__(self, path: Path | None = None) -> None:
        """Remember in `path`; without one, for as long as this lives."""
        self._index = None if path is None else Index(path, SCHEMA)
        self._known: dict[tuple[str, str], float] = {}
        self._unwritten: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        rows = (
            self._index.rows("SELECT kind, digest, seconds, noted FROM timings ORDER BY noted") if self._index else []
        )
        self._known |= {(kind, digest): seconds for kind, digest, seconds, _ in rows}
        self._count = rows[-1][3] if rows else 0

    def note(self, kind: str, inputs: Mapping[str, Any], seconds: float) -> None:
        """A node of type `kind` with these inputs, in the API format, took so long."""
        with self._lock:
            for key in ((kind, _digest(inputs)), (kind, ANY)):
                before = self._known.pop(key, seconds)  # and put at the end: the first are forgotten first
                self._known[key] = before + FRESH * (seconds - before)
                self._unwritten.add(key)
            while len(self._known) > KEEP:
                del self._known[next(iter(self._known))]
        if len(self._unwritten) >= MOST_UNWRITTEN:
            self.flush()

    def expect(self, kind: str, inputs: Mapping[str, Any]) -> float | None:
        """How long such a node is going to take; None: none has run yet.

        Links and seeds do not count.  If none with these constants has run, others of its type stand for it.
        """
        with self._lock:
            return self._known.get((kind, _digest(inputs)), self._known.get((kind, ANY)))

    def flush(self) -> None:
        """Write what is not written yet."""
        with self._lock:
            rows = []
            for key in self._known if self._unwritten else ():  # in the order in which they were noted
                if key in self._unwritten:
                    self._count += 1
                    rows.append((*key, self._known[key], self._count))
            self._unwritten.clear()
        if self._index is None or not rows:
            return
        self._index.change("INSERT OR REPLACE INTO timings VALUES (?, ?, ?, ?)", *rows)
        self._index.change(
            "DELETE FROM timings WHERE noted <= (SELECT noted FROM timings ORDER BY noted DESC LIMIT 1 OFFSET ?)",
            (KEEP,),
        )

    def close(self) -> None:
        """Write what is not written, and let go of the file."""
        self.flush()
        if self._index is not None:
            self._index.close()


def _digest(inputs: Mapping[str, Any]) -> str:
    constants = {
        name: value for name, value in inputs.items() if not isinstance(value, list) and not name.endswith("seed")
    }
    text = json.dumps(constants, sort_keys=True, default=str)
    return blake2b(text.encode(), digest_size=12).hexdigest()
