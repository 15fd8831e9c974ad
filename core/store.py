"""Results on disk: safetensors beside an index in SQLite, shared by processes.  Damage costs a recompute, no more."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import StorageError
from .files import write
from .index import Index
from .trees import flattened, rebuilt

if TYPE_CHECKING:
    from torch import Tensor

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
            if blake2b(content, digest_size=16).hexdigest() != rows[0][0]:
                raise ValueError("its content is not what was written")
            outputs = _decoded(content)
        except FileNotFoundError:
            self._index.change("DELETE FROM results WHERE key = ?", (key,))
            return None
        except Exception:  # whatever a damaged file makes its readers raise: it costs a recompute, nothing else
            self._set_aside(key)
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
        try:
            write(self._file(key), content, durable=False)  # its digest tells whether all of it arrived
        except StorageError:
            return False
        digest = blake2b(content, digest_size=16).hexdigest()
        row = (key, len(content), seconds, digest, time.time())
        if not self._index.change("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", row):
            self._remove(key)
            return False
        self._shrink()
        return True

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
        for (key,) in self._index.rows("SELECT key FROM results"):
            self._remove(key)
        self._index.change("DELETE FROM results")

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _shrink(self) -> None:
        excess = self.info()["bytes"] - self.budget
        if excess <= 0:
            return
        for key, size in self._index.rows("SELECT key, bytes FROM results ORDER BY used"):
            if excess <= 0:
                return
            self._remove(key)
            self._index.change("DELETE FROM results WHERE key = ?", (key,))
            excess -= size

    def _remove(self, key: str) -> None:
        with contextlib.suppress(OSError):
            self._file(key).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Results that a new index knows nothing of would stay for ever."""
        for path in self.folder.glob("??/*.safetensors"):
            with contextlib.suppress(OSError):
                path.unlink()

    def _set_aside(self, key: str) -> None:
        aside = self.folder / "damaged"
        with contextlib.suppress(OSError):
            aside.mkdir(exist_ok=True)
            self._file(key).replace(aside / f"{key}.safetensors")
        self._index.change("DELETE FROM results WHERE key = ?", (key,))


def _encoded(outputs: Outputs) -> bytes | None:
    if (flat := flattened(outputs)) is None:
        return None
    from safetensors.torch import save

    data, found = flat
    try:
        text = json.dumps(data)
    except ValueError:  # a whole number of more digits than Python writes
        return None
    return save(found, {"limner": text})


def _decoded(content: bytes) -> Outputs:
    from safetensors.torch import load

    found: dict[str, Tensor] = load(content)
    length = int.from_bytes(content[:8], "little")
    data = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["limner"])
    outputs = rebuilt(data, found)
    if not isinstance(outputs, tuple):
        raise TypeError("a result is a tuple")
    return outputs
