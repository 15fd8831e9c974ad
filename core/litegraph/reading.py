"""ComfyUI's editor format read, as the plain data of a Limner document; what has no place there is kept in `comfy`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from .drawing import canvas, given, leftovers, look, note
from .kinds import ANY, NOTES, REROUTE, SEEDS, SET, VIRTUAL, Sockets, SocketsOf, boundary, fits
from .promotion import Faces, previews, promote
from .sheets import (
    INPUTS,
    OUTPUTS,
    OWN,
    Raw,
    Sheet,
    called,
    definitions,
    dicts,
    inner_first,
    inside,
    number,
    part,
    same,
    sheet,
    text,
    uuid,
)
from .values import Named, read, write

MODES = {2: "mute", 4: "bypass"}
SOCKET = frozenset({"name", "type", "link", "links", "slot_index", "widget", "localized_name"})
WHOLE = ("name", "type", "widget")  # of a socket: what only an editor's own nodes differ in
ROW = frozenset({"name", "type", "label", "linkIds", "localized_name"})  # what is understood of a definition's input


@dataclass(slots=True)
class Reading:
    """A file on its way to a document."""

    known: SocketsOf
    names: Mapping[str, str]  # ours for each definition of the file
    sheets: dict[str, Sheet] = field(default_factory=dict)  # the definitions that have been read, by our names
    faces: Faces = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)  # types with values that have no names

    def kind(self, entry: Mapping[str, Any]) -> Sockets | None:
        """The sockets of a node."""
        name = entry["class_type"]
        if name in self.sheets:
            return boundary({"inputs": self.sheets[name].rows, "outputs": self.sheets[name].outputs})
        return self.known(name) or VIRTUAL.get(name)


def document(data: Raw, known: SocketsOf, source: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A workflow of ComfyUI's editor as a Limner document, and what a person should be told of it.

    Raises `WorkflowError` where it is damaged.
    """
    raws = definitions(data, source)
    reading = Reading(cache(known), _own_names(raws))
    for name in inner_first(raws):
        where = f"{source}: the subgraph {text(raws[name].get('name')) or name!r}"
        found = sheet(reading.names[name], raws[name], where)
        _boundary(found)
        _fill(found, reading)
        reading.sheets[found.id] = found
    root = sheet("", data, source)
    _fill(root, reading)
    if reading.unread:
        kinds = ", ".join(sorted(reading.unread))
        reading.warnings.append(f"these node types are not known here, so their values have no names yet: {kinds}")
    own = inside(data, "extra", OWN)
    made = {
        "limner": 1,
        "graph": root.graph,
        "definitions": {name: _definition(reading.sheets[name]) for name in reading.names.values()},
        "canvas": root.canvas,
    }
    return {**(own if isinstance(own, dict) else {}), **made}, tuple(reading.warnings)


def settled(
    graph: Mapping[str, Any], rows: list[Any], known: SocketsOf
) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """A graph and its definition's inputs with names for the values that had none, where their type is known now."""
    found: dict[str, Any] = {}
    rows = [dict(row) for row in rows]
    warnings: list[str] = []
    for node_id, entry in graph.items():
        meta = entry.get("_meta", {})
        sockets = known(entry["class_type"]) if "values" in meta else None
        if sockets is None:
            found[node_id] = entry
            continue
        named = read({"widgets_values": meta["values"]}, sockets)
        if named.problem:
            warnings.append(f"{entry['class_type']} {node_id!r} {named.problem}")
        inputs = {**named.values, **entry.get("inputs", {})}
        rest = {k: v for k, v in meta.items() if k not in ("values", "sockets")} | _control(named, sockets)
        found[node_id] = {**entry, "inputs": inputs, "_meta": rest}
        for name, value in named.values.items():
            match inputs[name]:
                case ["$inputs", int() as slot] if 0 <= slot < len(rows) and "default" not in rows[slot]:
                    rows[slot] |= {"default": value, "widget": True}
    return found, rows, warnings


def _own_names(raws: Mapping[str, Raw]) -> dict[str, str]:
    """What we call the definitions: as the file does, or as we did when we wrote it."""
    taken = dict.fromkeys(raws, 0)
    found = {}
    for name, raw in raws.items():
        own = inside(raw, "extra", OWN, "id")
        found[name] = called(own, taken) if isinstance(own, str) and own else name
    return found


def _boundary(found: Sheet) -> None:
    """The definition's inputs and outputs; their names become distinct."""
    found.rows += _rows(found, "inputs", found.taken)
    found.outputs += [row | {"from": None} for row in _rows(found, "outputs", {})]


def _rows(found: Sheet, side: str, taken: dict[str, int]) -> Iterator[dict[str, Any]]:
    rows = dicts(found.raw.get(side))
    defaults = part(found.raw, "extra", OWN, "defaults") if side == "inputs" else {}
    names = [text(raw.get("name")) or "" for raw in rows]
    taken.update(dict.fromkeys(names, 0))
    seen = set[str]()
    for wanted, raw in zip(names, rows, strict=True):
        name = called(wanted, taken) if wanted in seen else wanted
        seen.add(name)
        more = {k: v for k, v in raw.items() if k not in ROW and v is not None}
        if more.get("id") == uuid(f"{found.id} {side} {name}"):
            del more["id"]  # we made it
        own = {"default": defaults[name], "widget": True} if name in defaults else {}
        yield {"name": name, "type": _type(raw)} | given(label=text(raw.get("label")), comfy=more) | own


def _fill(found: Sheet, reading: Reading) -> None:
    """Read the nodes of a graph, and how it is drawn."""
    named: dict[str, Named] = {}
    nodes: dict[str, Any] = {}
    notes: dict[str, Any] = {}
    for node_id, raw in found.nodes.items():
        if raw["type"] in NOTES:
            notes[node_id] = note(raw, markdown=NOTES[raw["type"]])
        else:
            named[node_id], comfy = _node(found, node_id, raw, reading)
            nodes[node_id] = look(raw) | given(comfy=comfy)
    _broadcast(found)
    for wire in found.wires.values():
        if wire.target == OUTPUTS and 0 <= wire.place < len(found.outputs):
            found.outputs[wire.place]["from"] = found.link(wire)
    for node_id, held in named.items():
        nodes[node_id] |= given(behind=_behind(found, node_id, held))
    found.canvas = canvas(found, nodes, notes)


def _node(found: Sheet, node_id: str, raw: Raw, reading: Reading) -> tuple[Named, dict[str, Any]]:
    """Put a node into the graph; what its widgets hold, and what is only for ComfyUI."""
    kind = reading.names.get(raw["type"], raw["type"])
    inner = reading.sheets.get(kind)
    entry: dict[str, Any] = {"class_type": kind, "inputs": {}}
    shown = promote(raw, (found.id, node_id), inner, reading.faces, reading.kind) if inner else {}
    sockets = reading.kind(entry)
    named = Named(shown) if shown and not isinstance(raw.get("widgets_values_named"), dict) else read(raw, sockets)
    for name, value in named.values.items():
        entry["inputs"][name] = value
    for name, wire in found.plugs[node_id].items():
        link = found.link(wire)
        if link is not None:
            entry["inputs"][_own(kind, name)] = link
            if wire.origin == INPUTS and _has_widget(raw, name):
                found.rows[wire.output]["widget"] = True
    meta = given(
        title=text(raw.get("title")),
        mode=MODES.get(raw.get("mode", 0)) if type(raw.get("mode", 0)) is int else None,
        **_control(named, sockets),
        sockets=None if sockets else _sockets(raw),
        values=raw.get("widgets_values") if named.unread and sockets is None else None,
    )
    found.graph[node_id] = entry | given(_meta=meta)
    if named.problem:
        reading.warnings.append(f"{kind} {node_id!r} {named.problem}")
    if named.unread and sockets is None:
        reading.unread.add(kind)
    return named, _comfy(raw, entry, sockets, named, promoted=bool(shown))


def _own(kind: str, name: str) -> str:
    """What we call an input: those of an editor's own nodes are called after what is plugged in, or not at all."""
    return "value" if kind in (REROUTE, SET) else name


def _has_widget(raw: Raw, name: str) -> bool:
    return any(row["name"] == name and isinstance(row.get("widget"), dict) for row in _named_rows(raw))


def _control(named: Named, sockets: Sockets | None) -> dict[str, Any]:
    """A word where there is one widget that it can mean, else a word for each."""
    if not named.controls:
        return {}
    said = dict(named.controls)
    meant = {widget.name for widget in sockets.widgets if widget.control} if sockets else SEEDS & said.keys()
    return {"control": said if len(said) > 1 or meant != said.keys() else next(iter(said.values()))}


def _sockets(raw: Raw) -> dict[str, Any] | None:
    """What a node of a type that is not known says of itself, for lowering, and for an editor to draw."""
    inputs, outputs = (
        [[row["name"] if isinstance(row.get("name"), str) else "", _type(row)] for row in dicts(raw.get(part))]
        for part in ("inputs", "outputs")
    )
    return {"inputs": inputs, "outputs": outputs} if inputs or outputs else None


def _behind(found: Sheet, node_id: str, named: Named) -> dict[str, Any]:
    """What widgets hold that something is plugged into; that of a definition's input is its default."""
    held: dict[str, Any] = {}
    for name, value in named.values.items():
        match found.graph[node_id]["inputs"][name]:
            case ["$inputs", int() as slot]:
                row = found.rows[slot]
                if not same(row.setdefault("default", value), value):
                    held[name] = value
                row["widget"] = True
            case [str(), int()]:
                held[name] = value
    return held


def _broadcast(found: Sheet) -> None:
    """Links that «Use Everywhere» makes without drawing them, as it has written them down."""
    for row in dicts(inside(found.raw, "extra", "ue_links")):
        origin, target = (found.ids.get(number(row.get(key)) or "", "") for key in ("upstream", "downstream"))
        output, place = row.get("upstream_slot"), row.get("downstream_slot")
        if origin not in found.graph or target not in found.graph or type(output) is not int or type(place) is not int:
            continue
        inputs, outputs = dicts(found.nodes[target].get("inputs")), dicts(found.nodes[origin].get("outputs"))
        if (
            0 <= place < len(inputs)
            and 0 <= output < len(outputs)
            and fits(_type(outputs[output]), _type(inputs[place]))
        ):
            name = inputs[place].get("name")
            if isinstance(name, str):
                found.graph[target]["inputs"].setdefault(name, [origin, output])


def _definition(found: Sheet) -> dict[str, Any]:
    raw = found.raw
    return {
        "name": text(raw.get("name")) or found.id,
        **given(description=text(raw.get("description")), category=text(raw.get("category"))),
        "inputs": found.rows,
        "outputs": found.outputs,
        "graph": found.graph,
        **given(canvas=found.canvas),
    }


def _comfy(
    raw: Raw, entry: Mapping[str, Any], sockets: Sockets | None, named: Named, *, promoted: bool
) -> dict[str, Any]:
    """What is only for ComfyUI, so that a file goes back as it came."""
    rest = leftovers(raw)
    if shown := previews(raw):
        rest.setdefault("properties", {})["previewExposures"] = shown
    kind = entry["class_type"]
    inputs = {_own(kind, row["name"]): _decorated(row, _told(kind, sockets, row)) for row in _named_rows(raw)}
    outputs = {str(k): _decorated(row, _unusual(kind, row)) for k, row in enumerate(dicts(raw.get("outputs")))}
    sides = {"inputs": inputs, "outputs": outputs}
    found = {side: {name: more for name, more in rows.items() if more} for side, rows in sides.items()}
    return rest | given(**found) | ({} if promoted else _unlike(raw, sockets, named))


def _told(kind: str, sockets: Sockets | None, row: Raw) -> Collection[str]:
    """What to keep of an input that its node's type does not say."""
    if kind in VIRTUAL:
        return _unusual(kind, row)
    if sockets is None:
        return ("widget",)
    return () if row["name"] in dict(sockets.inputs) else ("type", "widget")


def _unusual(kind: str, row: Raw) -> Collection[str]:
    """What to keep of a socket of an editor's own node: its types are what is plugged in."""
    usual = {"type": ANY, "name": "" if kind == REROUTE else None}
    return [key for key in WHOLE if row.get(key) != usual.get(key)] if kind in VIRTUAL else ()


def _decorated(row: Raw, told: Collection[str]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if v is not None and (k not in SOCKET or k in told)}


def _named_rows(raw: Raw) -> list[dict[str, Any]]:
    return [row for row in dicts(raw.get("inputs")) if isinstance(row.get("name"), str)]


def _unlike(raw: Raw, sockets: Sockets | None, named: Named) -> dict[str, Any]:
    """The values in ComfyUI's forms, where ours do not give them back as they were."""
    held = {key: raw[key] for key in ("widgets_values", "widgets_values_named") if raw.get(key) not in (None, [], {})}
    if sockets is None:
        return {} if named.unread else held  # else the node itself has them
    made = dict(
        zip(("widgets_values", "widgets_values_named"), write(sockets, named.values, named.controls), strict=True)
    )
    return {key: value for key, value in held.items() if made[key] != value}


def _type(row: Mapping[str, Any]) -> str:
    """A wire's name.  Old files have numbers for any, and lists of choices."""
    kind = row.get("type")
    return kind if isinstance(kind, str) else "COMBO" if isinstance(kind, list) else ANY
