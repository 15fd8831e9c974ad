"""What files hash to, remembered by path, size, times and inode, so that a large file is read once."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import file_digest, sha256
from pathlib import Path


class Digests:
    """Sha256 of files and folders, kept in SQLite between processes.  Safe to use from several threads."""

    def __init__(self, index: Path) -> None:
        self._index = index
        self._found: dict[str, str] = {}
        self._begun: dict[str, Future[str]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="digests")

    def of(self, path: Path) -> str:
        """Sha256 of a file's content; of a folder: of the names and hashes of the files in it."""
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and not _ignored(p))
            lines = (f"{p.relative_to(path).as_posix()}\0{self.of(p)}\n" for p in files)
            return sha256("".join(lines).encode()).hexdigest()
        with self._lock:
            begun = self._begun.get(self.stand_in(path))
        if begun is not None:
            return begun.result()
        return self.known(path) or self._hashed(path)

    def known(self, path: Path) -> str | None:
        """The hash of a file, if it was computed since the file last changed."""
        name = self.stand_in(path)
        if name not in self._found:
            with contextlib.suppress(sqlite3.Error), contextlib.closing(self._opened()) as index:
                row = index.execute("SELECT sha256 FROM digests WHERE name = ?", (name,)).fetchone()
                if row:
                    self._found[name] = row[0]
        return self._found.get(name)

    def begin(self, path: Path) -> None:
        """Compute the hash of a file in the background."""
        with self._lock:
            self._begun.setdefault(self.stand_in(path), self._pool.submit(self._hashed, path))

    @staticmethod
    def stand_in(path: Path) -> str:
        """What names a file's content until its hash is known."""
        stat = path.stat()
        return f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"

    def _hashed(self, path: Path) -> str:
        name = self.stand_in(path)
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        self._found[name] = digest
        with contextlib.suppress(sqlite3.Error, OSError), contextlib.closing(self._opened()) as index, index:
            index.execute("INSERT OR REPLACE INTO digests VALUES (?, ?)", (name, digest))
        return digest

    def _opened(self) -> sqlite3.Connection:
        self._index.parent.mkdir(parents=True, exist_ok=True)
        index = sqlite3.connect(self._index, timeout=10)
        index.execute("CREATE TABLE IF NOT EXISTS digests (name TEXT PRIMARY KEY, sha256 TEXT NOT NULL) WITHOUT ROWID")
        return index


def _ignored(path: Path) -> bool:
    return path.name.startswith(".") or path.suffix in {".md", ".txt", ".pyc"}
