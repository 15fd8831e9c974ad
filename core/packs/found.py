"""Where packs lie: folders with an `__init__.py` and single files, in folders of packs and in installed packages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import file_digest, sha256
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

GROUP = "limner.nodes"  # of entry points that name packs
LARGE = 1 << 20  # bytes from which a file counts by its size and time: some packs hold weights
LEFT_OUT = {"__pycache__", "node_modules"}


def packs(folders: Iterable[Path]) -> Iterator[Path]:
    """Every pack in `folders`, by name; a folder that is a pack itself is one.  What is hidden or disabled is not."""
    for folder in folders:
        if (folder / "__init__.py").is_file():
            yield folder
        elif folder.is_dir():
            yield from (path for path in sorted(folder.iterdir()) if is_pack(path))


def is_pack(path: Path) -> bool:
    """Whether `path` is a pack that is to be loaded."""
    if path.name.startswith((".", "__")) or path.name.endswith(".disabled"):
        return False
    return (path / "__init__.py").is_file() or (path.suffix == ".py" and path.is_file())


def installed() -> tuple[EntryPoint, ...]:
    """The packs that installed packages name."""
    return tuple(sorted(entry_points(group=GROUP), key=lambda point: point.name))


def digest(path: Path) -> str:
    """Sha256 of a pack's files.  What Python and tools leave beside them does not count."""
    lines = [f"{p.relative_to(path.parent).as_posix()}\0{_content(p)}\n" for p in _files(path)]
    return sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    inside = (p for p in path.rglob("*") if not _left_out(p.relative_to(path)))
    return sorted(p for p in inside if p.is_file())


def _left_out(path: Path) -> bool:
    return path.suffix == ".pyc" or any(part.startswith(".") or part in LEFT_OUT for part in path.parts)


def _content(path: Path) -> str:
    found = path.stat()
    if found.st_size >= LARGE:
        return f"{found.st_size} {found.st_mtime_ns}"
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
