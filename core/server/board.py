"""The board: how far each running job is, as its events have told.  Lives in the loop's thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ..graph import ancestors
from ..workflow import graph

if TYPE_CHECKING:
    from ..jobs.job import Job
    from ..jobs.queue import Queue

Event = Mapping[str, Any]


@dataclass(slots=True)
class Going:
    """A job that runs."""

    types: Mapping[str, str]  # of its nodes
    needed: frozenset[str]  # the nodes that its targets need
    done: set[str] = field(default_factory=set)  # those of them that need not be waited for
    node: str = ""  # the one that was begun last, as the posted graph has it
    value: int = 0
    max: int = 0

    @classmethod
    def of(cls, job: Job) -> Going:
        """A job that has just been begun."""
        nodes = graph(job.prompt)
        return cls({i: n.type for i, n in nodes.items()}, frozenset(ancestors(nodes, job.targets)))

    def as_json(self) -> dict[str, Any]:
        """How far it is: nodes done of all, and steps of the node that is running."""
        return {
            "done": len(self.done),
            "total": len(self.needed),
            "node": self.node or None,
            "value": self.value,
            "max": self.max,
        }


class Board:
    """The running jobs by their ids."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._going: dict[str, Going] = {}

    def of(self, job: str) -> Going | None:
        """How far a job is; None if it does not run."""
        return self._going.get(job)

    def hear(self, event: Event) -> None:
        """Note what an event tells."""
        name, going = event["event"], self._going.get(event["job"])
        if name == "started":
            self._begin(event["job"])
        elif name == "finished":
            self._going.pop(event["job"], None)
        elif going is not None:
            _note(going, event)

    def begin(self) -> None:
        """Note the jobs that run already."""
        for job in self._queue.running():
            self._going[job.id] = Going.of(job)

    def _begin(self, name: str) -> None:
        if (job := self._queue.get(name)) is not None:
            self._going[name] = Going.of(job)


def _note(going: Going, event: Event) -> None:
    match event["event"]:
        case "cached":
            going.done |= going.needed & set(event["nodes"])
        case "node_started":
            going.node, going.value, going.max = event["display"], 0, 0
        case "progress":
            going.node, going.value, going.max = event["display"], event["value"], event["max"]
        case "node_finished":
            going.done |= going.needed & {event["node"]}


BOARD: web.AppKey[Board] = web.AppKey("board", Board)
