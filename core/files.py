"""Reading plain files only, writing them whole or not at all, and names that stay inside their folder."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from .errors import StorageError, UsageError

if sys.platform != "win32":
    import fcntl

TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp(\..*)?")
ABANDONED = 86400.0  # seconds after which nobody writes to a temporary file any more, where that cannot be known
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?")  # devices, on Windows
FORBIDDEN = re.compile(
    r'[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff<>:"|?*\\]'
)  # and marks that turn text round
LONGEST = 240, 1000  # bytes of a name, and of a path
PLAINLY = sum(getattr(os, f"O_{name}", 0) for name in ("NOFOLLOW", "NONBLOCK", "CLOEXEC", "BINARY"))


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends well and vanishes when it does not.

    `durable` waits until the disk has it.  Raises `StorageError` with the reason where the disk refuses.
    """
    with _beside(path) as temporary:
        yield temporary
        if durable:
            _sync(temporary)
        temporary.replace(path)


def numbered(folder: Path, prefix: str, suffix: str, fill: Callable[[Path], None]) -> Path:
    """Have `fill` write a new file `<prefix>_00001<suffix>`, with the first number that is free.

    `prefix` may lead into folders below `folder`.  No two callers get one number, not in other processes either.
    """
    first = safe_join(folder, f"{prefix}_00001{suffix}")
    stem = prefix.rpartition("/")[2]

    def paths() -> Iterator[Path]:
        for number in count(_last_number(first, stem, suffix) + 1):
            yield first.with_name(f"{stem}_{number:05}{suffix}")

    return placed(first, paths(), fill)


def placed(
    beside: Path, paths: Iterable[Path], fill: Callable[[Path], None], same: Callable[[Path], bool] = lambda _: False
) -> Path:
    """Have `fill` write a new file, and give it the first of `paths` that is free, or else already the `same`.

    `beside` is any path in the folder of `paths`, which are asked for once the file is filled.
    """
    with _beside(beside) as temporary:
        fill(temporary)
        _sync(temporary)
        for path in paths:
            try:
                _claim(path, temporary)
            except FileExistsError:
                if not same(path):
                    continue
            return path
    raise StorageError(beside, "every name for it is taken")


def write(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Write `content` to `path`, whole or not at all."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(data)


def reason(error: OSError) -> str:
    """Why the system refused, in words."""
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    return (error.strerror or str(error)).lower()


def safe_join(root: Path, name: str, *, links: bool = False) -> Path:
    """`root / name`, or a `UsageError` where that could lead out of `root` or to a device.

    `links` follows links that the folder's owner has put into it, wherever they lead.
    """
    parts = name.split("/")
    for part in parts:
        if not part or part in {".", ".."} or part != part.strip() or part.endswith("."):
            raise UsageError(f"{name!r} is no file name: it must be a plain relative path")
        if FORBIDDEN.search(part) or RESERVED.fullmatch(part) or len(part.encode()) > LONGEST[0]:
            raise UsageError(f"{name!r} is no file name: {part!r} cannot be one on every system")
    if len(name.encode()) > LONGEST[1]:
        raise UsageError(f"{name!r} is no file name: it is too long")
    path = root.joinpath(*parts)
    if not links and not inside(path, root):
        raise UsageError(f"{name!r} leads out of the folder {root.name}")
    return path


def inside(path: Path, root: Path) -> bool:
    """Whether `path` lies below `root` when all links are followed."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False


def opened(root: Path, name: str) -> BinaryIO:
    """The plain file `name` below `root`, to read.  Raises `UsageError` where `safe_join` does, and OSError.

    What is put in its place meanwhile is not followed out of `root`, and a pipe is not waited for.
    """
    target = safe_join(root, name).resolve()
    if not target.is_relative_to(root.resolve()):
        raise UsageError(f"{name!r} leads out of the folder {root.name}")
    descriptor = os.open(target, os.O_RDONLY | PLAINLY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "is no plain file")
    return os.fdopen(descriptor, "rb")


def sweep(root: Path) -> int:
    """Remove the temporary files below `root` that programs have left there when they were killed; how many.

    Those that somebody writes to are left alone.
    """
    swept = 0
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names if TEMPORARY.fullmatch(name)):
            with suppress(OSError):
                if _abandoned(path):
                    path.unlink()
                    swept += 1
    return swept


if sys.platform == "win32":  # where a file that is open cannot be given another name either

    def _held(_: Path) -> int | None:
        return None

    def _abandoned(path: Path) -> bool:
        return time.time() - path.stat().st_mtime > ABANDONED
else:

    def _held(path: Path) -> int | None:
        """Hold a temporary file, for as long as this process lives or until it is closed."""
        held = os.open(path, os.O_RDWR | PLAINLY)
        with suppress(OSError):  # a disk that knows no locks
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return held

    def _abandoned(path: Path) -> bool:
        """Whether nobody holds it."""
        file = os.open(path, os.O_RDWR | PLAINLY)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return time.time() - os.fstat(file).st_mtime > ABANDONED
        else:
            return True
        finally:
            os.close(file)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary file in the folder of `path`, gone in the end."""
    temporary: Path | None = None
    held: int | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{token_hex(8)}.tmp{path.suffix}")
        temporary.touch(exist_ok=False)
        held = _held(temporary)
        yield temporary
    except OSError as error:
        raise StorageError(path, reason(error)) from error
    finally:
        if held is not None:
            os.close(held)
        if temporary is not None:
            with suppress(OSError):  # the folder may have gone
                temporary.unlink(missing_ok=True)


def _claim(path: Path, temporary: Path) -> None:
    """Give what is in `temporary` the name `path`.  Raises FileExistsError, as `replace` would not, if it is taken."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a disk without links, such as exFAT: nobody else gets the name, but a crash could leave it empty
        path.touch(exist_ok=False)
        temporary.replace(path)


def _last_number(first: Path, stem: str, suffix: str) -> int:
    pattern = re.compile(rf"{re.escape(stem)}_(\d+){re.escape(suffix)}")
    found = (pattern.fullmatch(path.name) for path in first.parent.iterdir())
    return max((int(match[1]) for match in found if match), default=0)


def _sync(path: Path) -> None:
    with path.open("r+b") as file:  # Windows syncs only what may be written
        os.fsync(file.fileno())
