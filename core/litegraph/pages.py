"""A graph on its way into ComfyUI's editor format: its nodes and links with the numbers that they get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .drawing import SENT, numbers
from .kinds import ANY, REROUTE, VIRTUAL, Sockets, SocketsOf, declared
from .lowering import is_link
from .sheets import INPUTS, OUTPUTS, dicts, part

MOST_OUTPUTS = 1000  # of a node that nobody has described

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wire:
    """A link, with the numbers that it gets."""

    id: int
    origin: int
    output: int
    target: int
    place: int
    type: str
    view: Json
    socket: Json  # where it ends

    def row(self) -> list[Any]:
        """As version 0.4 has it."""
        return [self.id, self.origin, self.output, self.target, self.place, self.type]


@dataclass(slots=True)
class Page:
    """A graph while it is written: the whole file, or a definition."""

    graph: Json
    canvas: Json
    kinds: Mapping[str, Sockets | None]  # of its nodes
    names: Mapping[str, str]  # the file's for each definition
    rows: list[dict[str, Any]]  # the definition's inputs
    outputs: list[dict[str, Any]]  # and outputs
    ids: Mapping[str, int]
    points: Mapping[str, int]  # the numbers of the points that links run through
    sockets: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # each node's inputs, as they are drawn
    wires: list[Wire] = field(default_factory=list)

    def look(self, node_id: str) -> Json:
        """How a node is drawn."""
        return part(self.canvas, "nodes", node_id)

    def comfy(self, node_id: str, *path: str) -> dict[str, Any]:
        """What is kept of a node for ComfyUI alone."""
        return part(self.look(node_id), "comfy", *path)


def opened(held: Json, names: Mapping[str, str], kinds: SocketsOf) -> Page:
    """A graph with numbers for its nodes, and its links."""
    canvas = part(held, "canvas")
    notes, points = (part(canvas, key) for key in ("notes", "reroutes"))
    ids = numbers([*held["graph"], *(name for name in notes if name not in held["graph"])])
    graph = dict(sorted(held["graph"].items(), key=lambda item: ids[item[0]]))
    page = Page(
        graph=graph,
        canvas=canvas,
        kinds={node_id: kinds(entry["class_type"]) or declared(entry) for node_id, entry in graph.items()},
        names=names,
        rows=dicts(held.get("inputs")),
        outputs=dicts(held.get("outputs")),
        ids=ids,
        points=numbers(points),
    )
    page.sockets = {node_id: dict(_sockets(page, node_id)) for node_id in page.graph}
    page.wires = [*_wires(page)]
    return page


def _sockets(page: Page, node_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The inputs of a node that are drawn as sockets: all that are no widgets, and widgets that are plugged in."""
    inputs, kind = page.graph[node_id].get("inputs", {}), page.kinds[node_id]
    kept = page.comfy(node_id, "inputs")
    widgets = {widget.name: widget.wire for widget in kind.widgets} if kind else {}
    rows = dict(kind.rows) if kind else {}
    for name in [*inputs, *kept]:
        if name not in rows and (name in kept or is_link(inputs[name])):
            rows[name] = type_of(row_of(page, inputs.get(name)) or {})
    for name, wire in rows.items():
        if name in widgets and name not in kept and not is_link(inputs.get(name)):
            continue
        typed = name in widgets and page.graph[node_id]["class_type"] not in VIRTUAL
        socket = {"type": widgets.get(name, wire), **({"widget": {"name": name}} if typed else {})}
        yield name, {"name": _called(page, node_id, name), **socket, **part(kept, name), "link": None}


def row_of(page: Page, value: Any) -> Json | None:
    """The definition's input that is plugged in, if it is one."""
    match value:
        case ["$inputs", int() as slot] if 0 <= slot < len(page.rows):
            return page.rows[slot]
    return None


def _called(page: Page, node_id: str, name: str) -> str:
    return "" if page.graph[node_id]["class_type"] == REROUTE else name


def _wires(page: Page) -> Iterator[Wire]:
    """The links of a graph; each is noted at the input where it ends.

    What gives anything has the type of what it is plugged into first.
    """
    types: dict[tuple[int, int], str] = {}
    for count, ((origin, slot, wire), target, place, view, row) in enumerate(_ends(page), 1):
        kind = types.setdefault((origin, slot), type_of(row)) if wire == ANY else wire
        if target != int(OUTPUTS):
            row["link"] = count
        yield Wire(count, origin, slot, target, place, kind, view, row)


def _ends(page: Page) -> Iterator[tuple[tuple[int, int, str], int, int, Json, dict[str, Any]]]:
    """Each link: where it starts, the node and the place where it ends, how it is drawn, and the input there."""
    looks = part(page.canvas, "links")
    for node_id, entry in page.graph.items():
        for place, (name, row) in enumerate(page.sockets[node_id].items()):
            source = _source(page, entry.get("inputs", {}).get(name))
            if source is not None:
                yield source, page.ids[node_id], place, _look(looks, node_id, name), row
    for place, row in enumerate(page.outputs):
        source = _source(page, row.get("from"))
        if source is not None:
            yield source, int(OUTPUTS), place, _look(looks, SENT, str(row.get("name", ""))), row


def _look(looks: Json, node_id: str, name: str) -> dict[str, Any]:
    """How a link is drawn, as far as that makes sense."""
    kinds = {"reroute": str, "hidden": bool, "label": str}
    return {key: value for key, value in part(looks, node_id, name).items() if type(value) is kinds.get(key)}


def _source(page: Page, value: Any) -> tuple[int, int, str] | None:
    """Where a link starts: a node, its output and the type of that."""
    row = row_of(page, value)
    if row is not None:
        return int(INPUTS), value[1], type_of(row)
    if not is_link(value) or value[0] not in page.graph or not 0 <= value[1] < MOST_OUTPUTS:
        return None
    node_id, slot = value
    return page.ids[node_id], slot, output_of(page, node_id, slot)[1]


def output_of(page: Page, node_id: str, slot: int) -> tuple[str, str]:
    """The name and type of an output."""
    kind = page.kinds[node_id]
    name, wire = kind.output(slot) if kind else (ANY, ANY)
    kept = page.comfy(node_id, "outputs", str(slot))
    return kept.get("name", name), kept["type"] if isinstance(kept.get("type"), str) else wire


def type_of(row: Json) -> str:
    """The wire of a definition's input or output."""
    wire = row.get("type", ANY)
    return wire if isinstance(wire, str) else ANY
