"""What a run tells while it goes on.  Frozen values, each of one node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .values import Progress

if TYPE_CHECKING:
    from .store import Outputs


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node shows that another one has put in its own place."""

    display: str  # the node of the workflow that stands there
    parent: str  # the node that put it there


@dataclass(frozen=True, slots=True)
class _Of:
    """The event of a node."""

    node: str
    place: Place | None = field(default=None, compare=False, kw_only=True)  # None: it stands in the workflow itself

    @property
    def display(self) -> str:
        """The node of the workflow that the event shows at."""
        return self.place.display if self.place else self.node

    @property
    def parent(self) -> str:
        """The node that put this one there; empty: it stands in the workflow."""
        return self.place.parent if self.place else ""


@dataclass(frozen=True, slots=True)
class Started(_Of):
    """A node is being called."""


@dataclass(frozen=True, slots=True)
class Moved(_Of):
    """A long node is getting on."""

    progress: Progress


@dataclass(frozen=True, slots=True)
class Warned(_Of):
    """A node did its work, and has something to say about it."""

    text: str


@dataclass(frozen=True, slots=True)
class Refused(_Of):
    """A node was not called: another one has blocked what it depends on, and says why."""

    message: str


@dataclass(frozen=True, slots=True)
class Finished(_Of):
    """A node has its result."""

    outputs: Outputs
    cached: bool
    seconds: float = 0.0
    files: tuple[str, ...] = ()  # what an output node has delivered
    ui: Mapping[str, Any] | None = None  # what an editor shows at it: {"images": [...]}, {"text": [...]}


@dataclass(frozen=True, slots=True)
class Stopped(_Of):
    """The run was stopped, at this node."""


@dataclass(frozen=True, slots=True)
class Failed(_Of):
    """A node failed, and with it the run."""

    error: BaseException


Event = Started | Moved | Warned | Refused | Finished | Stopped | Failed
