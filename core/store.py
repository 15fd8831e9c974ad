"""Results on disk: safetensors beside an index in SQLite, shared by processes.  Damage costs a recompute, no more."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from .errors import StorageError
from .files import write
from .index import Index
from .trees import flattened, rebuilt

Outputs = tuple[object, ...]

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS results (
        key TEXT PRIMARY KEY, bytes INTEGER NOT NULL, seconds REAL NOT NULL, digest TEXT NOT NULL, used REAL NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS seen (
        scope TEXT NOT NULL, node TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (scope, node)
    ) WITHOUT ROWID""",
)


class Store:
    """Plain results under a budget of bytes, the least recently used dropped first."""

    def __init__(self, folder: Path, budget: int = 2 << 30) -> None:
        self.folder = folder
        self.budget = budget
        self._index = Index(folder / "index.db", SCHEMA, made=self._sweep)

    def close(self) -> None:
        """Let go of the index; it opens again when it is needed."""
        self._index.close()

    def has(self, key: str) -> bool:
        """Whether there is a result; reads no tensor."""
        return bool(self._index.rows("SELECT 1 FROM results WHERE key = ?", key)) and self._file(key).exists()

    def get(self, key: str) -> Outputs | None:
        """The result, or None.  A damaged one is set aside."""
        rows = self._index.rows("SELECT digest FROM results WHERE key = ?", key)
        if not rows:
            return None
        try:
            content = self._file(key).read_bytes()
            if _digest(content) != rows[0][0]:
                raise ValueError("its content is not what was written")
            outputs = _decoded(content)
        except Exception:  # whatever a damaged file makes its readers raise: it costs a recompute, nothing else
            self._drop(key, aside=True)
            return None
        self._index.change("UPDATE results SET used = ? WHERE key = ?", (time.time(), key))
        return outputs

    def put(self, key: str, outputs: Outputs, seconds: float) -> bool:
        """Keep `outputs`, which took `seconds` to make; False where they are not plain or the disk refuses."""
        content = _encoded(outputs)
        if content is None or len(content) > self.budget:
            return False
        if not self._index.change("DELETE FROM results WHERE key = ?", (key,)):  # no row is ever older than its file
            return False
        row = (key, len(content), seconds, _digest(content), time.time())
        with contextlib.suppress(StorageError):
            write(self._file(key), content, durable=False)  # its digest tells whether all of it arrived
            if self._index.change("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", row):
                self._shrink()
                return True
            self._drop(key)
        return False

    def seen(self, scope: str) -> Mapping[str, Any]:
        """What each node of the workflow `scope` was when it last ran, by node id."""
        return {
            node: json.loads(record)
            for node, record in self._index.rows("SELECT node, record FROM seen WHERE scope = ?", scope)
        }

    def remember(self, scope: str, records: Mapping[str, Any]) -> None:
        """Note what the nodes of `scope` were in this run."""
        rows = [(scope, node, json.dumps(record, sort_keys=True)) for node, record in records.items()]
        if rows:
            self._index.change("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", *rows)

    def info(self) -> dict[str, int]:
        """How many results there are, their bytes, and the budget."""
        ((count, total),) = self._index.rows("SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM results") or [(0, 0)]
        return {"results": count, "bytes": total, "budget": self.budget}

    def clear(self) -> None:
        """Forget every result.  What is known of past runs stays."""
        self._sweep()
        self._index.change("DELETE FROM results")

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _shrink(self) -> None:
        last = """SELECT key FROM (SELECT key, SUM(bytes) OVER (ORDER BY used DESC, key) AS with_later FROM results)
            WHERE with_later > ?"""
        for (key,) in self._index.rows(last, self.budget):
            self._drop(key)

    def _drop(self, key: str, *, aside: bool = False) -> None:
        with contextlib.suppress(OSError):
            if aside:
                self._file(key).replace(self.folder / f"damaged-{key}.safetensors")
            else:
                self._file(key).unlink()
        self._index.change("DELETE FROM results WHERE key = ?", (key,))

    def _sweep(self) -> None:
        """Results that a new index knows nothing of would stay for ever."""
        for path in self.folder.glob("??/*.safetensors"):
            with contextlib.suppress(OSError):
                path.unlink()


def _encoded(outputs: Outputs) -> bytes | None:
    from safetensors.torch import save

    with contextlib.suppress(TypeError, ValueError):  # not plain, or a number of more digits than Python writes
        data, found = flattened(outputs)
        return save(found, {"limner": json.dumps(data)})
    return None


def _decoded(content: bytes) -> Outputs:
    from safetensors.torch import load

    length = int.from_bytes(content[:8], "little")
    data = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["limner"])
    outputs: Outputs = rebuilt(data, load(content))
    return outputs


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()
