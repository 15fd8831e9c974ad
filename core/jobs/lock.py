"""One server for one queue: a lock on a file, which the system lets go of when its process ends, however it ends."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from ..errors import Busy, StorageError
from ..files import reason

FAR = 1 << 30  # Windows lets nobody read the bytes that are locked: lock one that the file does not have


class Lock:
    """Held from the moment it is made until it is closed.  The file says who holds it; it stays when nobody does."""

    def __init__(self, path: Path) -> None:
        """Take the lock.  Raises `Busy`, naming the process that has it and its address, and waits for nobody."""
        self.path = path
        self._file = _opened(path)
        try:
            _take(self._file)
        except BlockingIOError:
            os.close(self._file)
            raise Busy(_who(path)) from None
        except OSError as error:
            os.close(self._file)
            raise StorageError(path, f"it cannot be locked: {reason(error)}") from error
        self._held = True
        self.tell("")

    def tell(self, address: str) -> None:
        """Say at which address the holder can be found."""
        with suppress(OSError):  # a disk that is full: nobody can read who it is, the lock holds all the same
            text = json.dumps({"pid": os.getpid(), "address": address}).encode()
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, text)
            os.ftruncate(self._file, len(text))

    def close(self) -> None:
        """Let go."""
        if self._held:
            self._held = False
            os.close(self._file)


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise StorageError(path, reason(error)) from error


def _who(path: Path) -> str:
    """A sentence that names the holder, as far as the file does."""
    try:
        found = json.loads(path.read_bytes())
        pid, address = found["pid"], found["address"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"another server has the queue in {path.parent}: use another --data"
    where = f", at {address}" if address else ""
    return (
        f"another server (process {pid}{where}) has the queue in {path.parent}: end it, or give this one other --data"
    )


if sys.platform == "win32":
    import msvcrt

    def _take(file: int) -> None:
        os.lseek(file, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
else:
    import fcntl

    def _take(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
