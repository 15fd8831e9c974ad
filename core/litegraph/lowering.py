"""What a graph with modes, definitions and an editor's own nodes stands for: the API format, in which all that runs.

Nothing here is recursive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ..errors import WorkflowError
from .kinds import ANY, EVERYWHERE, GET, PRIMITIVE, SET, VIRTUAL, Sockets, SocketsOf, boundary, declared, fits
from .sheets import INSIDE

DEEPEST = 100  # definitions in each other
MOST_NODES = 100_000  # of a lowered workflow: definitions that hold each other twice double at every level
MUTE, BYPASS = "mute", "bypass"
OURS = frozenset({"mode", "control", "sockets", "values"})  # of a node's `_meta`

Api = Mapping[str, Mapping[str, Any]]  # ComfyUI's API format: id -> class_type, inputs, _meta
Place = tuple[str, int]  # a node and its output; -1 stands for those that are not named


@dataclass(frozen=True, slots=True)
class Flat:
    """A workflow while it is lowered."""

    kinds: SocketsOf
    taken: set[str] = field(default_factory=set)  # ids
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)  # those that run
    aliases: dict[Place, Any] = field(default_factory=dict)  # outputs that stand for a link, a value or nothing
    defaults: dict[Place, Any] = field(default_factory=dict)  # of what definitions take in
    unset: set[Place] = field(default_factory=set)  # what they are given nothing for, and have no default
    bypassed: dict[str, tuple[Mapping[str, Any], Sockets]] = field(default_factory=dict)
    sent: dict[tuple[str, Any], str] = field(default_factory=dict)  # the SetNode of a graph and a name
    fetched: list[tuple[str, str, Any]] = field(default_factory=list)  # each GetNode, its graph and its name

    def put(self, prefix: str, node_id: str, entry: Mapping[str, Any], inputs: dict[str, Any]) -> None:
        """Take in a node that is no instance of a definition."""
        kind, mode = entry["class_type"], entry.get("_meta", {}).get("mode")
        known = self.kinds(kind)
        drawn = known is None and (kind in VIRTUAL or kind in EVERYWHERE)
        if mode == MUTE and not (drawn and kind == PRIMITIVE):  # an editor writes a primitive's value all the same
            self.aliases[node_id, -1] = None
        elif drawn:
            self.see_through(prefix, node_id, kind, inputs)
        elif mode == BYPASS:
            self.bypassed[node_id] = inputs, known or declared(entry) or Sockets((), ())
        else:
            self.nodes[node_id] = {**entry, "inputs": inputs}

    def see_through(self, prefix: str, node_id: str, kind: str, inputs: dict[str, Any]) -> None:
        """Take in a node that only an editor knows, which stands for what is plugged or typed into it."""
        self.aliases[node_id, -1] = None
        if kind in EVERYWHERE:
            return
        self.aliases[node_id, 0] = inputs.get("value")
        if kind == SET:
            sent = prefix, str(inputs.get("name"))
            self.sent[sent] = min(node_id, self.sent.get(sent, node_id), key=natural)
        elif kind == GET:
            self.fetched.append((node_id, prefix, str(inputs.get("name"))))

    def open(self, node_id: str, inputs: Mapping[str, Any], definition: Mapping[str, Any]) -> None:
        """Take in an instance: what its outputs, and its inputs as seen from within, stand for."""
        for k, row in enumerate(definition.get("inputs", [])):
            place = f"{node_id}:{INSIDE}", k
            if "default" in row:
                self.defaults[place] = row["default"]
            if row["name"] in inputs or "default" in row:
                self.aliases[place] = inputs.get(row["name"], row.get("default"))
            else:
                self.unset.add(place)
        for k, row in enumerate(definition.get("outputs", [])):
            self.aliases[node_id, k] = _moved(row["from"], f"{node_id}:")

    def fetch(self) -> None:
        """Plug each GetNode into the SetNode of its name, in its own graph or one around it."""
        for node_id, prefix, name in self.fetched:
            around = (self.sent.get((outer, name)) for outer in _outwards(prefix))
            found = next((sender for sender in around if sender is not None), None)
            self.aliases[node_id, 0] = None if found is None else [found, 0]

    def resolved(self, value: Any, wire: str) -> Any:
        """Follow a link to a node that runs, a value, or None where there is nothing behind it."""
        seen: set[Place] = set()
        usual = None
        while is_link(value) and value[0] not in self.nodes:
            place = (value[0], value[1])
            if place in seen:
                return None
            seen.add(place)
            usual = self.defaults.get(place, usual)
            if place in self.unset:
                return usual  # as if it were not plugged in there
            if value[0] in self.bypassed:
                value = passed_on(value[1], wire, *self.bypassed[value[0]])
            elif place in self.aliases or (value[0], -1) in self.aliases:
                value = self.aliases.get(place)
            else:
                return value  # a link to nowhere: `problems` says so
        return value

    def wired(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """A node as it runs."""
        known = self.kinds(entry["class_type"]) or declared(entry)
        wires = dict(known.inputs) if known else {}
        inputs = {name: self.resolved(value, wires.get(name, ANY)) for name, value in entry["inputs"].items()}
        meta = {k: v for k, v in entry.get("_meta", {}).items() if k not in OURS}
        lowered = {"class_type": entry["class_type"], "inputs": {k: v for k, v in inputs.items() if v is not None}}
        return lowered | ({"_meta": meta} if meta else {})


def lower(graph: Api, definitions: Mapping[str, Any], sockets: SocketsOf) -> dict[str, dict[str, Any]]:
    """The strict API format of a graph.  Inner nodes are called `instance:inner`.  Raises `WorkflowError`."""
    flat = Flat(cache(sockets))
    waiting: list[tuple[str, Api, frozenset[str]]] = [("", graph, frozenset())]
    while waiting:
        prefix, part, within = waiting.pop()
        for name, entry in part.items():
            node_id = prefix + name
            if node_id in flat.taken:
                raise WorkflowError(f"two nodes are called {node_id!r}")
            flat.taken.add(node_id)
            kind = entry["class_type"]
            inputs = {k: _moved(v, prefix) for k, v in entry.get("inputs", {}).items()}
            definition = definitions.get(kind)
            mode = entry.get("_meta", {}).get("mode")
            if definition is None or mode == MUTE:
                flat.put(prefix, node_id, entry, inputs)
            elif mode == BYPASS:
                flat.bypassed[node_id] = inputs, boundary(definition)
            else:
                _check(kind, definition, within)
                flat.open(node_id, inputs, definition)
                waiting.append((f"{node_id}:", definition["graph"], within | {kind}))
            if len(flat.nodes) + len(waiting) > MOST_NODES:
                raise WorkflowError(f"the workflow has more than {MOST_NODES} nodes, counting those in definitions")
    flat.fetch()
    return {node_id: flat.wired(flat.nodes[node_id]) for node_id in sorted(flat.nodes, key=natural)}


def passed_on(slot: int, wire: str, inputs: Mapping[str, Any], sockets: Sockets) -> Any:
    """What a bypassed node gives at an output, to an input of type `wire`: what is plugged into the one that fits.

    That is the input at the same place if its type fits; for an input that takes anything, whatever its type, or the
    first; else the first of the wanted type; else the first that fits.
    """
    rows, given = sockets.rows, sockets.outputs[slot] if 0 <= slot < len(sockets.outputs) else None
    if given is None:
        return None
    place = rows[slot : slot + 1]
    wanted = given if wire in ("", ANY) else wire
    across = [row for row in place if fits(row[1], given) and fits(row[1], wanted)]
    any_way = (place or rows[:1]) if wire in ("", ANY) else []
    exact = [row for row in rows if row[1] == wanted]
    loose = [row for row in rows if fits(row[1], wanted)]
    order = (name for name, _ in (*across, *any_way, *exact, *loose))
    return next((inputs[name] for name in order if is_link(inputs.get(name))), None)


def is_link(value: object) -> bool:
    """Whether a JSON value means another node's output: `["id", index]`."""
    match value:
        case [str(), int() as index]:
            return not isinstance(index, bool)
    return False


def natural(node_id: str) -> tuple[Sequence[tuple[int, int | str]], str]:
    """Ids in the order that people count in: 2 before 10, and 1 before 01 whichever came first."""
    parts = node_id.split(":")
    return [(0, int(p)) if p.isdecimal() and p.isascii() and len(p) < 20 else (1, p) for p in parts], node_id


def _check(kind: str, definition: Mapping[str, Any], within: frozenset[str]) -> None:
    if kind in within:
        raise WorkflowError(f"the definition {definition.get('name', kind)!r} contains itself")
    if len(within) == DEEPEST:
        raise WorkflowError(f"definitions stand in each other more than {DEEPEST} deep")


def _moved(value: Any, prefix: str) -> Any:
    return [prefix + value[0], value[1]] if is_link(value) else value


def _outwards(prefix: str) -> Iterator[str]:
    """A graph, as what its nodes' ids begin with, and those around it."""
    while prefix:
        yield prefix
        prefix = prefix[: prefix.rstrip(":").rfind(":") + 1]
    yield ""
