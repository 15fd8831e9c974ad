"""All nodes as ComfyUI's clients read them, built once for each change of the nodes or of the files that they offer."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..catalogue import v1
from ..graph import Choices
from ..schema import NAMESPACE, Node
from .pages import Page

if TYPE_CHECKING:
    from .office import Office

GRAIN = 2_000_000_000  # ns: a folder that changed just now may change again without its time telling


@dataclass(frozen=True, slots=True)
class Listing:
    """What /object_info answers."""

    nodes: Mapping[str, Any]  # each node's description, by its id
    page: Page  # all of them


@dataclass(frozen=True, slots=True)
class Stamp:
    """When the folders below some roots changed: an entry that comes, goes or is renamed changes its folder."""

    times: Mapping[str, int]  # ns; -1 where there is no folder
    settled: bool  # whether a later change must show

    @classmethod
    def of(cls, roots: Iterable[Path]) -> Stamp:
        """How things are now.  Links are followed, no folder twice."""
        now = time.time_ns()
        times: dict[str, int] = {}
        waiting = [os.fspath(root) for root in roots]
        seen: set[str] = set()
        while waiting:
            folder = waiting.pop()
            times[folder] = _changed(folder)
            if times[folder] >= 0 and (real := os.path.realpath(folder)) not in seen:
                seen.add(real)
                waiting += _inside(folder)
        return cls(times, all(abs(now - changed) > GRAIN for changed in times.values()))

    @property
    def holds(self) -> bool:
        """Whether nothing has changed since."""
        return self.settled and all(_changed(folder) == then for folder, then in self.times.items())


class Listings:
    """The listing of an office, kept while it is true.  May be asked from any thread."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._lock = Lock()
        self._stamp = Stamp({}, settled=False)
        self._listing = Listing({}, Page.of({}))

    def current(self) -> Listing:
        """What holds now."""
        with self._lock:
            if not self._stamp.holds:
                self._stamp = Stamp.of(self._roots())
                self._office.packs.refresh()
                self._listing = listing(self._office.host.registry.values(), self._office.host.folders.choices)
            return self._listing

    def _roots(self) -> list[Path]:
        folders = self._office.host.folders
        return [folders.inputs, *(root for kind in folders.kinds() for root in folders.roots(kind))]


def listing(nodes: Iterable[Node[..., object]], choices: Choices) -> Listing:
    """The listing of `nodes`.  One that cannot be told is left out, and logged."""
    found: dict[str, Any] = {}
    looked = cache(choices)
    for node in nodes:
        try:
            found[node.id] = _plain(v1(node, looked))
        except Exception:  # a foreign node's own words
            logging.getLogger(NAMESPACE).warning("%s cannot be described, and is left out", node.id, exc_info=True)
    return Listing(found, Page.of(found))


def _plain(value: Any) -> Any:
    """`value` as JSON has it: numbers that it does not have become null, other things what they call themselves."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _changed(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116 - asked at every request: three times as fast
    except OSError:
        return -1


def _inside(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.is_dir()]
    except OSError:
        return []
