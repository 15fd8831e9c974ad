"""A document written in ComfyUI's editor format: version 0.4, with subgraphs as its version 1 has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from .drawing import NAME_KEPT, NODE, own_id, raw_groups, raw_look, raw_note, raw_reroutes
from .filling import held_values
from .kinds import PRIMITIVE, VIRTUAL, Sockets, SocketsOf, boundary
from .lowering import is_link
from .pages import Json, Page, Wire, opened, output_of, row_of, type_of
from .placing import placed, ranked, size
from .sheets import INPUTS, OUTPUTS, OWN, dicts, inside, part, point, same, text, uuid

VERSION = 0.4
MODES = {"mute": 2, "bypass": 4}
ROW = ("name", "type", "linkIds")
KINDS = ("graph", "definitions", "canvas", "limner")  # what the file itself holds of a document


def workflow(document: Json, known: SocketsOf) -> dict[str, Any]:
    """A document as ComfyUI's editor opens it."""
    definitions = document.get("definitions", {})
    names = {name: uuid(name) for name in definitions}
    kinds = _kinds(definitions, known)
    page = opened(document, names, kinds)
    found = _drawn(page)
    comfy = part(page.canvas, "comfy")
    subgraphs = [_subgraph(name, opened(inner, names, kinds), inner) for name, inner in definitions.items()]
    floating = _floating(comfy, page)
    return {
        "revision": 0,
        **comfy,
        "last_node_id": max(page.ids.values(), default=0),
        "last_link_id": len(page.wires) + len(floating),
        "nodes": found,
        "links": [wire.row() for wire in page.wires],
        **({"floatingLinks": floating} if floating else {}),
        "groups": raw_groups(page.canvas.get("groups")),
        **({"definitions": {"subgraphs": subgraphs}} if subgraphs else {}),
        "config": comfy.get("config", {}),
        "extra": _extra(page, comfy, {k: v for k, v in document.items() if k not in KINDS}),
        "version": VERSION,
    }


def _kinds(definitions: Json, known: SocketsOf) -> SocketsOf:
    @cache
    def kind(name: str) -> Sockets | None:
        return boundary(definitions[name]) if name in definitions else known(name) or VIRTUAL.get(name)

    return kind


def _drawn(page: Page) -> list[dict[str, Any]]:
    """The nodes and notes of a graph."""
    above = {node_id: [*_above(page, node_id)] for node_id in page.graph}
    ranks = ranked(above)
    order = {node_id: k for k, node_id in enumerate(sorted(page.graph, key=lambda n: (ranks[n], page.ids[n])))}
    outgoing = _outgoing_wires(page)
    nodes = {i: _node(page, i, order[i], outgoing.get(page.ids[i], {})) for i in page.graph}
    places = {node_id: at for node_id in nodes if (at := point(page.look(node_id).get("at"))) is not None}
    for node_id, at in placed(above, places, {node_id: node["size"] for node_id, node in nodes.items()}).items():
        nodes[node_id]["pos"] = at
    notes = part(page.canvas, "notes")
    told = [raw_note(page.ids[name], name, part(notes, name)) for name in notes if name not in page.graph]
    return [*nodes.values(), *told]


def _above(page: Page, node_id: str) -> Iterator[str]:
    for value in page.graph[node_id].get("inputs", {}).values():
        if is_link(value):
            yield value[0]


def _outgoing_wires(page: Page) -> dict[int, dict[int, list[Wire]]]:
    """The links by the node and the output where they start."""
    found: dict[int, dict[int, list[Wire]]] = {}
    for wire in page.wires:
        found.setdefault(wire.origin, {}).setdefault(wire.output, []).append(wire)
    return found


def _node(page: Page, node_id: str, order: int, outgoing: Mapping[int, list[Wire]]) -> dict[str, Any]:
    entry, comfy = page.graph[node_id], page.comfy(node_id)
    kind, meta = entry["class_type"], entry.get("_meta", {})
    outputs = [*_outputs(page, node_id, outgoing)]
    held = held_values(page, node_id)
    room = size(max(len(page.sockets[node_id]), len(outputs)), len(held.get("widgets_values", ())))
    return {
        "id": page.ids[node_id],
        "type": page.names.get(kind, kind),
        "pos": [0, 0],
        "size": room,
        **raw_look(page.look(node_id)),
        "order": order,
        "mode": MODES.get(text(meta.get("mode")) or "", comfy.get("mode", 0)),
        "inputs": [*page.sockets[node_id].values()],
        "outputs": outputs,
        **({"title": meta["title"]} if isinstance(meta.get("title"), str) else {}),
        "properties": _properties(page, node_id),
        **held,
        **{k: v for k, v in comfy.items() if k not in NODE},
    }


def _outputs(page: Page, node_id: str, outgoing: Mapping[int, list[Wire]]) -> Iterator[dict[str, Any]]:
    kind, kept = page.kinds[node_id], page.comfy(node_id, "outputs")
    for slot in range(max(max(outgoing, default=-1) + 1, len(kind.outputs) if kind else 0)):
        name, wire = output_of(page, node_id, slot)
        wires = outgoing.get(slot, [])
        fed = _fed(wires[0]) if page.graph[node_id]["class_type"] == PRIMITIVE and wires else {}
        row = {"name": name, "type": wire, **fed, **part(kept, str(slot))}
        yield row | {"links": [wire.id for wire in wires] or None}


def _fed(wire: Wire) -> dict[str, Any]:
    """A primitive takes after the first widget that it is plugged into."""
    kind = {"name": wire.type, "type": wire.type}
    return kind | ({"widget": {"name": wire.socket["name"]}} if "widget" in wire.socket else {})


def _properties(page: Page, node_id: str) -> dict[str, Any]:
    kind = page.graph[node_id]["class_type"]
    named = {} if kind in page.names or kind in VIRTUAL else {NAME_KEPT: kind}
    return {**named, **page.comfy(node_id, "properties"), **own_id(page.ids[node_id], node_id)}


def _subgraph(name: str, page: Page, held: Json) -> dict[str, Any]:
    nodes = _drawn(page)
    comfy = part(page.canvas, "comfy")
    points = part(page.canvas, "reroutes")
    own: dict[str, Any] = {"id": name} if page.names[name] != name else {}
    own |= {"defaults": defaults} if (defaults := _defaults(page)) else {}
    groups = raw_groups(page.canvas.get("groups"))
    return {
        "version": 1,
        "revision": 0,
        "config": {},
        **comfy,
        "id": page.names[name],
        "state": {
            "lastGroupId": len(groups),
            "lastNodeId": max(page.ids.values(), default=0),
            "lastLinkId": len(page.wires),
            "lastRerouteId": max(page.points.values(), default=0),
        },
        "name": held.get("name", name),
        **{key: held[key] for key in ("description", "category") if key in held},
        "inputNode": {"id": int(INPUTS), "bounding": _bounding(page, "inputs", nodes)},
        "outputNode": {"id": int(OUTPUTS), "bounding": _bounding(page, "outputs", nodes)},
        "inputs": [*_boundary(page, name, "inputs")],
        "outputs": [*_boundary(page, name, "outputs")],
        "widgets": comfy.get("widgets", []),
        "nodes": nodes,
        "groups": groups,
        "links": [_object(page, wire) for wire in page.wires],
        **({"reroutes": _points(page)} if points else {}),
        "extra": {**part(comfy, "extra"), **({OWN: own} if own else {})},
    }


def _defaults(page: Page) -> dict[str, Any]:
    """The defaults of a definition's inputs that the first widget which they feed does not hold."""
    held: dict[str, Any] = {}
    for node_id, entry in page.graph.items():
        behind = part(page.look(node_id), "behind")
        for name, value in entry.get("inputs", {}).items():
            row = row_of(page, value)
            if row is not None and "default" in row and "widget" in page.sockets[node_id].get(name, ()):
                held.setdefault(row["name"], behind.get(name, row["default"]))
    defaults = {row["name"]: row["default"] for row in page.rows if "default" in row}
    return {name: value for name, value in defaults.items() if name not in held or not same(held[name], value)}


def _boundary(page: Page, name: str, side: str) -> Iterator[dict[str, Any]]:
    """The inputs or outputs of a definition, each with the links that start or end there."""
    rows, end = (page.rows, int(INPUTS)) if side == "inputs" else (page.outputs, int(OUTPUTS))
    links: dict[int, list[int]] = {}
    for wire in page.wires:
        if end in (wire.origin, wire.target):
            links.setdefault(wire.output if wire.origin == end else wire.place, []).append(wire.id)
    for place, row in enumerate(rows):
        called = row["name"] if isinstance(row.get("name"), str) else type_of(row)
        more = {k: v for k, v in part(row, "comfy").items() if k not in ROW}
        label = {"label": row["label"]} if "label" in row else {}
        made = {
            "id": uuid(f"{name} {side} {called}"),
            "name": called,
            "type": type_of(row),
            "linkIds": links.get(place, []),
        }
        yield made | more | label


def _bounding(page: Page, side: str, nodes: list[dict[str, Any]]) -> list[Any]:
    """Where a definition's inputs or outputs stand: left or right of all that is inside."""
    at, room = point(inside(page.canvas, side, "at")), point(inside(page.canvas, side, "size"))
    rows = page.rows if side == "inputs" else page.outputs
    lefts = [node["pos"][0] for node in nodes] or [0]
    right = max((node["pos"][0] + node["size"][0] for node in nodes), default=0)
    beside = min(lefts) - 200 if side == "inputs" else right + 80
    return [
        *(at or [beside, min((node["pos"][1] for node in nodes), default=0)]),
        *(room or [120, 40 + 20 * len(rows)]),
    ]


def _object(page: Page, wire: Wire) -> dict[str, Any]:
    """A link as version 1 has it."""
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    looks = {key: wire.view[key] for key in ("hidden", "label") if key in wire.view}
    parent = page.points.get(wire.view.get("reroute", ""))
    return dict(zip(keys, wire.row(), strict=True)) | ({"parentId": parent} if parent else {}) | looks


def _points(page: Page) -> list[dict[str, Any]]:
    through = [(wire.id, wire.view["reroute"]) for wire in page.wires if isinstance(wire.view.get("reroute"), str)]
    return raw_reroutes(part(page.canvas, "reroutes"), page.points, through)


def _extra(page: Page, comfy: Json, own: Json) -> dict[str, Any]:
    """What version 0.4 has no other place for."""
    view = part(page.canvas, "view")
    looks = {
        str(wire.id): look
        for wire in page.wires
        if (look := {key: wire.view[key] for key in ("hidden", "label") if key in wire.view})
    }
    ends = [
        {"id": wire.id, "parentId": page.points[name]}
        for wire in page.wires
        if (name := wire.view.get("reroute", "")) in page.points
    ]
    parts = {"ds": view, "reroutes": _points(page), "linkExtensions": ends, "linkPresentation": looks, OWN: own}
    return {**part(comfy, "extra"), **{name: found for name, found in parts.items() if found}}


def _floating(comfy: Json, page: Page) -> list[dict[str, Any]]:
    """Links with a loose end, as the file had them, numbered behind the others."""
    return [{**row, "id": len(page.wires) + k} for k, row in enumerate(dicts(comfy.get("floatingLinks")), 1)]
