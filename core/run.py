"""A run: a plan on its way, which says what happens and what its nodes want answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import workflow
from .cache import Cache
from .errors import BadReturn
from .evaluation import below, work
from .event import Event, Place
from .graph import Graph, ancestors, problems
from .plan import Plan, Step
from .schema import Context

if TYPE_CHECKING:
    from .evaluation import Working

MAY_BE = {"value_for_socket", "no_such_file"}  # problems of a graph that a node builds: it may hold any values


class Run:
    """One run of a plan.  `work` is advanced by a driver; `stop()` may be called from any thread."""

    def __init__(  # noqa: PLR0913 - what there is to say of a run
        self,
        plan: Plan,
        cache: Cache,
        context: Context,
        forced: frozenset[str] = frozenset(),
        scope: str = "",
        adapted: Callable[[object, str], object] = lambda value, _: value,
    ) -> None:
        self.plan = plan
        self.scope = scope  # the workflow, whose past runs `explain` compares with
        self.cache = cache
        self.context = context
        self.forced = below(plan, forced)
        self.adapted = adapted  # a foreign value as our own nodes take it, by its wire
        self.aside: Callable[[Event], None] | None = None  # is told at once what a foreign node says while it works
        self.owner: Mapping[str, str] = {}  # whose run it is, as foreign nodes may ask: client_id, prompt_id
        self.steps = dict(plan.steps)  # and those that nodes put in their own place
        self.graph = plan.graph  # with those, too
        self.placed: dict[str, Place] = {}  # where those show
        self.work: Working = work(self)
        self._stop = threading.Event()

    def stop(self) -> None:
        """End the run before the next node or the next network call."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether somebody has called `stop`."""
        return self._stop.is_set()

    def grow(self, added: Graph, step: Step) -> None:
        """Plan what `step` puts in its own place.  Raises `BadReturn` where that cannot run."""
        self.graph = {**self.graph, **added}
        if found := [p for p in problems(added, self.plan.registry, within=self.graph) if p.code not in MAY_BE]:
            raise BadReturn(f"{step.node.id} expands into what cannot run: {'; '.join(map(str, found))}")
        needed = ancestors(self.graph, added) - self.steps.keys()
        self.plan.grown({i: self.graph[i] for i in needed}, self.steps)

    def hidden(self, step: Step, kind: str) -> object:
        """What a foreign node is given that nobody plugs in."""
        match kind:
            case "UNIQUE_ID":
                return step.id
            case "PROMPT":
                return workflow.api(self.plan.graph)
            case "EXTRA_PNGINFO":
                return self.context.extra
            case "DYNPROMPT":
                return DynamicPrompt(self)
        return None

    def told(self, event: Event) -> Event:
        """`event`, with the place where it shows."""
        place = self.placed.get(event.node)
        return event if place is None else replace(event, place=place)


class DynamicPrompt:
    """The graph as it is now, with the nodes that others have put in their place: for foreign nodes that look at it."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def get_node(self, node_id: str) -> dict[str, Any]:
        """A node in the API format.  Raises KeyError where there is none."""
        return workflow.api({node_id: self._run.graph[node_id]})[node_id]

    def has_node(self, node_id: str) -> bool:
        """Whether there is such a node."""
        return node_id in self._run.graph

    def all_node_ids(self) -> set[str]:
        """Of the workflow, and those added."""
        return set(self._run.graph)

    def get_original_prompt(self) -> dict[str, Any]:
        """The workflow in the API format, as it was posted."""
        return workflow.api(self._run.plan.graph)

    def get_parent_node_id(self, node_id: str) -> str | None:
        """The node that put this one there; None: it stands in the workflow."""
        return place.parent if (place := self._run.placed.get(node_id)) else None

    def get_display_node_id(self, node_id: str) -> str:
        """The node of the workflow that this one shows at."""
        return place.display if (place := self._run.placed.get(node_id)) else node_id

    def get_real_node_id(self, node_id: str) -> str:
        """The node of the workflow that stands behind this one."""
        while (place := self._run.placed.get(node_id)) is not None:
            node_id = place.parent
        return node_id
