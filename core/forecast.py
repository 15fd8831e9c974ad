"""What a run of a graph would do, node by node, and how long it would take: also of a graph that is not sound yet."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from . import environment
from .explain import Explained
from .graph import Graph, Problem, ancestors, targets, upstream
from .host import Host
from .workflow import api

State = Literal["run", "cached", "skipped", "blocked", "idle"]
Expect = Callable[
    [str, Mapping[str, Any]], float | None
]  # seconds that a node of this type will take, with its inputs in the API format

STATES: Mapping[str, State] = {"HIT": "cached", "MISS": "run", "RUN": "run", "SKIP": "skipped"}
NOTHING_NEEDS_IT = "no node that saves or shows something needs it"
ONLY_BLOCKED = "only blocked nodes need it"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would become of one node, and why."""

    node: str
    type: str
    state: State
    reason: str
    seconds: float | None = None  # that it is expected to take; None: it does not run, or has never run
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would become of every node of a graph."""

    targets: tuple[str, ...]
    nodes: tuple[Outlook, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many nodes there are of each state; `total` are those that the targets need."""
        found = Counter(each.state for each in self.nodes)
        states: tuple[State, ...] = ("run", "cached", "skipped", "blocked", "idle")
        return {state: found[state] for state in states} | {"total": len(self.nodes) - found["idle"]}

    @property
    def seconds(self) -> float:
        """What is known of how long it will take, all in all."""
        return sum((each.seconds for each in self.nodes if each.seconds is not None), 0.0)

    @property
    def unknown(self) -> int:
        """How many nodes will run of which nobody knows how long they take."""
        return sum(each.state == "run" and each.seconds is None for each in self.nodes)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong with what the targets need."""
        return tuple(problem for each in self.nodes for problem in each.problems)


def forecast(  # noqa: PLR0913 - what to look at, and what is known
    host: Host,
    graph: Graph,
    only: Sequence[str] = (),
    forced: frozenset[str] = frozenset(),
    *,
    scope: str = "",
    expect: Expect = lambda *_: None,
) -> Forecast:
    """The outlook of every node, those of sound ones in the order in which they run.  Loads and runs nothing."""
    wanted = tuple(only) or targets(graph, host.registry)
    strangers = () if only else tuple(i for i in graph if graph[i].type not in host.registry)
    needed = ancestors(graph, (*wanted, *strangers))
    wrong: defaultdict[str, list[Problem]] = defaultdict(list)
    for problem in host.problems(graph, (*wanted, *strangers)):
        wrong[problem.node].append(problem)
    causes = _blocked(graph, wrong)
    rows = _explained(host, graph, [i for i in wanted if i not in causes], scope, forced)
    beside = [i for i in graph if i in needed and i not in rows and i not in causes]  # sound, but for nothing
    peeked = _explained(host, graph, beside, scope)
    return Forecast(wanted, tuple(_outlooks(graph, rows, peeked, causes, wrong, expect)))


def warm(host: Host) -> None:
    """Look at the code that stored results depend on, which takes a moment: the first forecast need not, then."""
    salt = environment.salted(environment.Environment("", "", "", "", ""))
    for node in tuple(host.registry.values()):
        salt(node)


def _explained(
    host: Host, graph: Graph, only: Sequence[str], scope: str, forced: frozenset[str] = frozenset()
) -> dict[str, Explained]:
    return {row.node: row for row in host.explained(graph, scope, only, forced)} if only else {}


def _blocked(graph: Graph, wrong: Mapping[str, object]) -> dict[str, str]:
    """Every node that has a problem or takes something from one that has: the node with the problem."""
    below: defaultdict[str, list[str]] = defaultdict(list)
    for node_id, instance in graph.items():
        for above in upstream(instance):
            below[above].append(node_id)
    causes = {i: i for i in wrong}
    waiting = deque(causes)
    while waiting:
        node_id = waiting.popleft()
        for each in below[node_id]:
            if each not in causes:
                causes[each] = causes[node_id]
                waiting.append(each)
    return causes


def _outlooks(  # noqa: PLR0913 - all that is known of the nodes
    graph: Graph,
    rows: Mapping[str, Explained],
    peeked: Mapping[str, Explained],
    causes: Mapping[str, str],
    wrong: Mapping[str, list[Problem]],
    expect: Expect,
) -> Iterator[Outlook]:
    for i, row in rows.items():
        state = STATES[row.verdict]
        seconds = expect(row.type, api({i: graph[i]})[i]["inputs"]) if state == "run" else None
        yield Outlook(i, row.type, state, row.reason, seconds)
    for i, instance in graph.items():
        if i in causes:
            found = tuple(wrong.get(i, ()))
            reason = found[0].message if found else f"needs {causes[i]}, which has a problem"
            yield Outlook(i, instance.type, "blocked", reason, problems=found)
        elif i in peeked and peeked[i].verdict == "HIT":
            yield Outlook(i, instance.type, "cached", peeked[i].reason)
        elif i not in rows:
            yield Outlook(i, instance.type, "idle", ONLY_BLOCKED if i in peeked else NOTHING_NEEDS_IT)
