"""The file in which ComfyUI's users say where else models lie: extra_model_paths.yaml, read as ComfyUI reads it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..files import reason
from ..folders import known_as

LARGEST = 1 << 20  # bytes
PACKS = "custom_nodes"
SETTINGS = ("base_path", "is_default")  # of a section, beside its folders


@dataclass(frozen=True, slots=True)
class Named:
    """A folder that a section names, by the kind of what is in it."""

    kind: str  # ours
    path: Path
    first: bool  # looked at before the folders of the base directory


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """All the folders that such files name."""

    first: Mapping[str, tuple[Path, ...]]
    further: Mapping[str, tuple[Path, ...]]
    packs: tuple[Path, ...]


def read(files: Iterable[Path]) -> Elsewhere:
    """The folders that all these files name.  Raises `UsageError` that names the file."""
    named = [folder for file in files for folder in _folders(file)]
    models = [folder for folder in named if folder.kind != PACKS]
    return Elsewhere(
        first=_by_kind(reversed([folder for folder in models if folder.first])),  # the last one said is looked at first
        further=_by_kind(folder for folder in models if not folder.first),
        packs=tuple(dict.fromkeys(folder.path for folder in named if folder.kind == PACKS)),
    )


def _by_kind(folders: Iterable[Named]) -> dict[str, tuple[Path, ...]]:
    found: dict[str, tuple[Path, ...]] = {}
    for folder in folders:
        found[folder.kind] = (*found.get(folder.kind, ()), folder.path)
    return found


def _folders(file: Path) -> Iterator[Named]:
    for name, section in _sections(file).items():
        if section is None:  # all of it is commented out
            continue
        if not isinstance(section, dict):
            raise UsageError(f"{file}: the section {name!r} must hold names of folders and their paths")
        yield from _section(file, str(name), section)


def _section(file: Path, name: str, section: Mapping[Any, Any]) -> Iterator[Named]:
    base = file.absolute().parent / _path(section.get("base_path") or "", f"{file}: 'base_path' of {name!r}")
    first = bool(section.get("is_default", False))
    for kind, lines in section.items():
        if kind in SETTINGS or lines is None:
            continue
        if not isinstance(kind, str):
            raise UsageError(f"{file}: {kind!r} in {name!r} is no name of a folder")
        where = f"{file}: {kind!r} of {name!r}"
        if not isinstance(lines, str):
            raise UsageError(f"{where} must be a path, or one on each line")
        for line in filter(None, map(str.strip, lines.splitlines())):
            yield Named(known_as(kind), Path(os.path.normpath(base / _path(line, where))), first)


def _path(text: Any, where: str) -> Path:
    """A path in which `~` and `$NAME` are what they are in a shell."""
    if not isinstance(text, str) or "\0" in text:
        raise UsageError(f"{where} must be a path, not {text!r}")
    return Path(os.path.expanduser(os.path.expandvars(text)))  # noqa: PTH111 - which knows every user, or leaves it


def _sections(file: Path) -> Mapping[Any, Any]:
    import yaml

    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {reason(error)}") from error
    if len(content) > LARGEST:
        raise UsageError(f"{file} is larger than {LARGEST >> 20} MB")
    try:
        found = yaml.safe_load(content)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UsageError(f"{file} is no YAML: {' '.join(str(error).split())}") from None
    if found is not None and not isinstance(found, dict):
        raise UsageError(f"{file} must hold sections, each with names of folders and their paths")
    return found or {}
