"""What files hash to, remembered by path, size, times and inode, so that a large file is read once."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from hashlib import file_digest, sha256
from pathlib import Path

from .index import Index

SCHEMA = ("CREATE TABLE IF NOT EXISTS digests (name TEXT PRIMARY KEY, sha256 TEXT NOT NULL) WITHOUT ROWID",)


class Digests:
    """Sha256 of files and folders, kept in SQLite between processes.  Safe to use from several threads."""

    def __init__(self, index: Path) -> None:
        self._index = Index(index, SCHEMA)
        self._found: dict[str, str] = {}
        self._begun: dict[str, Future[str]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="digests")

    def of(self, path: Path) -> str:
        """Sha256 of a file's content; of a folder: of the names and hashes of the files in it."""
        begun = self._begun.get(self.stand_in(path))
        return begun.result() if begun else self.known(path) or self._hashed(path)

    def known(self, path: Path) -> str | None:
        """The hash of a file or folder, if it was computed since that last changed."""
        name = self.stand_in(path)
        if name not in self._found:
            for (digest,) in self._index.rows("SELECT sha256 FROM digests WHERE name = ?", name):
                self._found[name] = digest
        return self._found.get(name)

    def begin(self, path: Path) -> str:
        """Compute the hash in the background; what stands in for it until then."""
        name = self.stand_in(path)
        with self._lock:
            if name not in self._begun:
                self._begun[name] = self._pool.submit(self._hashed, path)
        return name

    def content(self, stand_in: str) -> str | None:
        """The hash that was begun for `stand_in`, waited for.  None if the file had changed or gone before it came."""
        if begun := self._begun.get(stand_in):
            wait([begun])
        return self._found.get(stand_in)

    @staticmethod
    def stand_in(path: Path) -> str:
        """What names a file's content until its hash is known.  Where that is equal, nobody has written to it."""
        stats = ((p, p.stat()) for p in files(path))
        lines = [f"{p}\0{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}\n" for p, s in stats]
        return _hash(f"{path.resolve()}\n{''.join(lines)}")

    def _hashed(self, path: Path) -> str:
        name = self.stand_in(path)
        if path.is_dir():
            lines = (f"{p.relative_to(path).as_posix()}\0{self.known(p) or self._hashed(p)}\n" for p in files(path))
            digest = _hash("".join(lines))
        else:
            with path.open("rb") as file:
                digest = file_digest(file, "sha256").hexdigest()
        if self.stand_in(path) == name:  # else somebody wrote to it meanwhile
            self._found[name] = digest
            self._index.change("INSERT OR REPLACE INTO digests VALUES (?, ?)", (name, digest))
        return digest


def files(path: Path) -> list[Path]:
    """The file itself; of a folder, all in it that may bear on a model: weights, configurations, vocabularies."""
    if not path.is_dir():
        return [path]
    return sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".") and p.suffix != ".md")


def _hash(text: str) -> str:
    return sha256(text.encode(errors="surrogateescape")).hexdigest()  # not every file's name is UTF-8
