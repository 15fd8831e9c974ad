"""One graph of a file in ComfyUI's editor format: its nodes and links by id, checked and without its quirks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import WorkflowError
from .kinds import NOTES

INPUTS, OUTPUTS = "-10", "-20"  # where a definition's links start and end
INSIDE = "$inputs"  # what we call the former
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OWN = "limner"  # where a file that we wrote holds what ComfyUI has no place for

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wire:
    """A link."""

    id: str
    origin: str
    output: int
    target: str
    place: int  # of the input: not to be trusted
    view: Mapping[str, Any]  # how it is drawn: reroute, hidden, label


@dataclass(slots=True)
class Sheet:
    """A graph while it is read: the whole file, or a definition."""

    id: str  # of the definition; empty: the whole file
    raw: Raw
    ids: Mapping[str, str]  # ours for each of the file's
    nodes: Mapping[str, Raw]  # by our ids
    plugs: Mapping[str, Mapping[str, Wire]]  # what is plugged into the inputs of a node, by their names
    wires: Mapping[str, Wire]
    rows: list[dict[str, Any]] = field(default_factory=list)  # the definition's inputs
    taken: dict[str, int] = field(default_factory=dict)  # their names, for `called`
    drawn: dict[str, dict[str, Any]] = field(default_factory=dict)  # see `shown`
    outputs: list[dict[str, Any]] = field(default_factory=list)
    graph: dict[str, dict[str, Any]] = field(default_factory=dict)
    canvas: dict[str, Any] = field(default_factory=dict)

    def shown(self, node_id: str) -> dict[str, Any]:
        """The types of the inputs that a node shows, by name."""
        if node_id not in self.drawn:
            rows = dicts(self.nodes[node_id].get("inputs"))
            self.drawn[node_id] = {row["name"]: row.get("type") for row in rows if isinstance(row.get("name"), str)}
        return self.drawn[node_id]

    def link(self, wire: Wire) -> list[Any] | None:
        """What is at the other end, as an input of ours holds it; None where that is not there."""
        if wire.origin == INPUTS:
            return [INSIDE, wire.output] if wire.output < len(self.rows) else None
        origin = self.nodes.get(wire.origin)
        return None if origin is None or origin["type"] in NOTES else [wire.origin, wire.output]


def definitions(data: Raw, source: str) -> dict[str, Raw]:
    """Every subgraph by its id, those inside others too."""
    found: dict[str, Raw] = {}
    waiting = [data]
    while waiting:
        held = waiting.pop().get("definitions")
        for raw in dicts(held.get("subgraphs")) if isinstance(held, dict) else ():
            name = raw.get("id")
            if not isinstance(name, str) or not name:
                raise WorkflowError(f"{source} has a subgraph without an id")
            if name in found and found[name] != raw:
                raise WorkflowError(f"{source} has two subgraphs of the id {name!r}")
            if name not in found:
                waiting.append(raw)
            found[name] = raw
    return found


def inner_first(raws: Mapping[str, Raw]) -> Iterator[str]:
    """The subgraphs, each after those that it holds, as far as they do not hold each other."""
    begun: set[str] = set()
    done: set[str] = set()
    for root in raws:
        stack = [root]
        while stack:
            name = stack[-1]
            if name not in begun:
                begun.add(name)
                kinds = [node.get("type") for node in dicts(raws[name].get("nodes"))]
                stack += [kind for kind in kinds if isinstance(kind, str) and kind in raws and kind not in begun]
                continue
            stack.pop()
            if name not in done:
                done.add(name)
                yield name


def sheet(name: str, raw: Raw, where: str) -> Sheet:
    """The nodes and links of a graph.  Raises `WorkflowError` where it has no sense."""
    if not isinstance(raw.get("nodes", []), list):
        raise WorkflowError(f"{where}: 'nodes' must be a list")
    ids, nodes = _nodes(raw, where)
    wires = {wire.id: wire for wire in _wires(raw, ids)}
    return Sheet(name, raw, ids, nodes, _plugs(nodes, wires), wires)


def dicts(value: object) -> list[dict[str, Any]]:
    """The objects in a list, whatever else is."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def inside(value: object, *path: str) -> Any:
    """What stands at a path of names, or nothing."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def part(value: object, *path: str) -> dict[str, Any]:
    """The object that stands at a path of names, or an empty one."""
    found = inside(value, *path)
    return found if isinstance(found, dict) else {}


def text(value: object) -> str | None:
    """A text, or nothing."""
    return value if isinstance(value, str) else None


def same(one: object, other: object) -> bool:
    """Whether two values are equal, and of one type: 1 is not true."""
    return type(one) is type(other) and one == other


def number(value: object) -> str | None:
    """An id as text: a whole number or a text."""
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        return None
    if isinstance(value, int | float):
        return str(int(value))
    return value if isinstance(value, str) and value else None


def point(value: object, size: int = 2) -> list[Any] | None:
    """Coordinates: a list, or an object with "0" and "1"."""
    if isinstance(value, dict):
        value = [value.get(str(k)) for k in range(size)]
    if not isinstance(value, list) or len(value) < size:
        return None
    found = value[:size]
    return found if all(isinstance(v, int | float) and not isinstance(v, bool) for v in found) else None


def called(name: str, taken: dict[str, int]) -> str:
    """`name`, or the next like it that is not taken; it is now.  `taken` has the last number that a name was given."""
    found, k = name, taken.get(name, 0)
    while found in taken:
        k += 1
        found = f"{name}_{k}"
    taken[name] = k
    taken.setdefault(found, 0)
    return found


def uuid(name: str) -> str:
    """The name if it is a UUID, else one made of it: of version 8, from four 32-bit hashes of the FNV-1a kind."""
    if UUID.fullmatch(name):
        return name
    digits = ""
    for salt in range(4):
        value = 0x811C9DC5 ^ salt
        for byte in name.encode():
            value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
        digits += f"{value:08x}"
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def _nodes(raw: Raw, where: str) -> tuple[dict[str, str], dict[str, Raw]]:
    """Our id for each of the file's, and the nodes by ours."""
    rows: dict[str, Raw] = {}
    for node in raw.get("nodes", []):
        node_id = number(node.get("id")) if isinstance(node, dict) else None
        if node_id is None or not isinstance(node.get("type"), str):
            raise WorkflowError(f"{where} has a node without an 'id' and a 'type'")
        if node_id in rows:
            raise WorkflowError(f"{where} has two nodes of the id {node_id!r}")
        if node_id == INSIDE:
            raise WorkflowError(f"{where}: no node can be called {INSIDE!r}")
        rows[node_id] = node
    ids: dict[str, str] = {}
    taken = set(rows)
    for node_id, node in rows.items():
        own = inside(node, "properties", OWN, "id")
        ids[node_id] = own if isinstance(own, str) and own and own != INSIDE and own not in taken else node_id
        taken.add(ids[node_id])
    return ids, {ids[node_id]: node for node_id, node in rows.items()}


def _wires(raw: Raw, ids: Mapping[str, str]) -> Iterator[Wire]:
    extra = raw.get("extra")
    places = {number(e.get("id")): number(e.get("parentId")) for e in dicts(inside(extra, "linkExtensions"))}
    looks = inside(extra, "linkPresentation")
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    for item in raw.get("links") or () if isinstance(raw.get("links"), list) else ():
        row = item if isinstance(item, dict) else dict(zip(keys, item, strict=False)) if isinstance(item, list) else {}
        wire_id, origin, target = (number(row.get(key)) for key in ("id", "origin_id", "target_id"))
        output, place = row.get("origin_slot"), row.get("target_slot")
        if wire_id is None or origin is None or target is None or type(output) is not int or output < 0:
            continue
        look = {**row, **part(looks, wire_id)}
        view = {
            "reroute": number(row.get("parentId")) or places.get(wire_id),
            "hidden": look.get("hidden") is True or None,
            "label": look["label"] if isinstance(look.get("label"), str) else None,
        }
        drawn = {key: value for key, value in view.items() if value is not None}
        slot = place if type(place) is int else -1
        yield Wire(wire_id, ids.get(origin, origin), output, ids.get(target, target), slot, drawn)


def _plugs(nodes: Mapping[str, Raw], wires: Mapping[str, Wire]) -> dict[str, dict[str, Wire]]:
    """What is plugged in where.  The input that names a link has it; the place that a link names is a second choice."""
    found: dict[str, dict[str, Wire]] = {}
    claimed: set[str] = set()
    for node_id, node in nodes.items():
        found[node_id] = {}
        for row in dicts(node.get("inputs")):
            wire = wires.get(number(row.get("link")) or "")
            if wire is not None and wire.target == node_id and isinstance(row.get("name"), str):
                found[node_id][row["name"]] = wire
                claimed.add(wire.id)
    for wire in wires.values():
        if wire.id not in claimed and wire.target in nodes:
            rows = dicts(nodes[wire.target].get("inputs"))
            name = rows[wire.place].get("name") if 0 <= wire.place < len(rows) else None
            if isinstance(name, str):
                found[wire.target].setdefault(name, wire)
    return found
