"""Workflows that are kept: JSON files below one folder, each with its revision and its last versions.  Nothing is lost.

A revision is a hash of the content.  Who replaces a file says which revision he has seen; where another one is there by
now, nothing is written.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from .errors import LimnerError, StorageError, UsageError
from .files import numbered, opened, reason, safe_join, write

KEPT = 20  # versions of each file
ANY = "*"  # a revision that fits whatever is there
VERSIONS = ".versions"
NUMBER = re.compile(r"version_(\d+)\.json")


@dataclass(frozen=True, slots=True)
class Stored:
    """A workflow file, without its content."""

    path: str
    size: int
    modified: float  # unix seconds
    revision: str


@dataclass(frozen=True, slots=True)
class Version:
    """What a workflow file once was."""

    number: int  # later ones have higher ones
    size: int
    modified: float  # unix seconds: when it was the workflow's content
    revision: str


class NotThere(LimnerError):
    """A workflow, or a version of one, that is not there."""

    code = "not_found"


class Outdated(LimnerError):
    """Somebody else has written meanwhile: `current` is the revision that is there, None where there is no file."""

    code = "outdated"

    def __init__(self, message: str, current: str | None) -> None:
        self.current = current
        super().__init__(message)


class Unseen(Outdated):
    """Who does not say which revision he replaces would overwrite what he has not seen."""

    code = "revision_needed"


class Shelf:
    """The workflows in a folder.  Safe to use from several threads; made when the first one is put there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    def all(self) -> list[Stored]:
        """Every workflow, by path."""
        found: list[Stored] = []
        for name in sorted(self._files()):
            with suppress(NotThere, OSError):  # gone meanwhile
                found.append(self.read(name)[0])
        return found

    def read(self, name: str) -> tuple[Stored, bytes]:
        """A workflow and its content.  Raises `NotThere`."""
        content = self._content(name)
        if content is None:
            raise NotThere(f"there is no workflow {name!r}")
        return self._stored(name, content), content

    def put(self, name: str, content: bytes, seen: str | None = None, *, new: bool = False) -> tuple[Stored, bool]:
        """Write a workflow; whether it is a new one.  `seen` is the revision that it replaces, `new` says: none.

        What was there becomes a version.  Raises `Outdated` or `Unseen`, and then writes nothing.
        """
        path = self._path(name)
        with self._lock:
            before = self._content(name)
            if before != content:  # else it has been done already, and the answer was lost
                _check(name, before, seen, new=new)
                self._keep(name, path, before)
                write(path, content)
            return self._stored(name, content), before is None

    def delete(self, name: str, seen: str | None = None) -> None:
        """Take a workflow away; its versions stay.  Raises `NotThere`, `Outdated` or `Unseen`."""
        path = self._path(name)
        with self._lock:
            before = self._content(name)
            if before is None:
                raise NotThere(f"there is no workflow {name!r}")
            _check(name, before, seen)
            self._keep(name, path, before)
            try:
                path.unlink()
            except OSError as error:
                raise StorageError(name, reason(error)) from error
            self._tidy(path.parent)

    def versions(self, name: str) -> list[Version]:
        """What a workflow was before, the latest first; also of one that is deleted.  Raises `NotThere`."""
        found = [_version(n, path) for n, path in self._kept(name)]
        if not found and self._content(name) is None:
            raise NotThere(f"there is no workflow {name!r}")
        return found[::-1]

    def version(self, name: str, number: int) -> tuple[Version, bytes]:
        """One of them, and its content.  Raises `NotThere`."""
        for n, path in self._kept(name):
            if n == number:
                return _version(n, path), path.read_bytes()
        have = ", ".join(str(n) for n, _ in self._kept(name)) or "none"
        raise NotThere(f"there is no version {number} of {name!r}; there are: {have}")

    def _path(self, name: str) -> Path:
        path = safe_join(self.folder, name)
        *folders, last = name.split("/")
        if any(part.startswith(".") for part in (*folders, last)):
            raise UsageError(f"{name!r} is no workflow's name: no part of it may begin with a dot")
        if not last.endswith(".json") or any(folder.endswith(".json") for folder in folders):
            raise UsageError(f"{name!r} is no workflow's name: it must end in .json, and folders must not")
        return path

    def _content(self, name: str) -> bytes | None:
        self._path(name)
        try:
            with opened(self.folder, name) as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError(name, f"it cannot be read: {reason(error)}") from error

    def _stored(self, name: str, content: bytes) -> Stored:
        return Stored(name, len(content), self._path(name).stat().st_mtime, revision(content))

    def _files(self) -> Iterator[str]:
        for folder, folders, names in os.walk(self.folder):
            folders[:] = [each for each in folders if not each.startswith(".")]
            for name in (Path(folder, name).relative_to(self.folder).as_posix() for name in names):
                with suppress(UsageError):  # a link that leads out, or no workflow's name
                    if self._path(name).is_file():
                        yield name

    def _kept(self, name: str) -> list[tuple[int, Path]]:
        self._path(name)
        folder = self.folder / VERSIONS / name
        found = ((NUMBER.fullmatch(path.name), path) for path in folder.glob("version_*.json"))
        return sorted((int(match[1]), path) for match, path in found if match)

    def _keep(self, name: str, path: Path, content: bytes | None) -> None:
        """Make a version of what is about to go; the oldest ones fall off."""
        kept = self._kept(name)
        if content is None or (kept and kept[-1][1].read_bytes() == content):
            return
        when = path.stat().st_mtime

        def fill(temporary: Path) -> None:
            temporary.write_bytes(content)
            os.utime(temporary, (when, when))

        numbered(self.folder / VERSIONS / name, "version", ".json", fill)
        for _, oldest in kept[: max(0, len(kept) + 1 - KEPT)]:
            oldest.unlink(missing_ok=True)

    def _tidy(self, folder: Path) -> None:
        """Folders that nothing is left in."""
        while folder != self.folder:
            try:
                folder.rmdir()
            except OSError:  # not empty
                return
            folder = folder.parent


def revision(content: bytes) -> str:
    """What names this content."""
    return sha256(content).hexdigest()[:32]


def _check(name: str, before: bytes | None, seen: str | None, *, new: bool = False) -> None:
    current = None if before is None else revision(before)
    if new and current is not None:
        raise Outdated(
            f"there is a workflow {name!r} already: say which revision you replace, or take another name", current
        )
    if seen is None and current is not None:
        raise Unseen(
            f"there is a workflow {name!r} already: say which revision you have seen, or that it is new", current
        )
    if seen is not None and current is None:
        raise Outdated(f"there is no workflow {name!r} to replace: somebody may have deleted it", None)
    if seen not in (None, ANY, current):
        raise Outdated(f"{name!r} has been changed meanwhile: read it anew, and put both together", current)


def _version(number: int, path: Path) -> Version:
    content = path.read_bytes()
    return Version(number, len(content), path.stat().st_mtime, revision(content))
