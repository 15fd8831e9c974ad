"""Widgets of inner nodes that an instance shows: as inputs of its definition, which is all that they are to us."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .kinds import ANY, CONTROL, Sockets
from .sheets import INSIDE, Raw, Sheet, called, dicts, inside
from .values import kept, read

PREVIEW = "$$"  # what stands before the name of something that is shown and not set
Faces = dict[
    tuple[str, str], dict[str, str]
]  # (definition or "", instance) -> widget it shows -> its definition's input


def promote(
    host: Raw, place: tuple[str, str], inner: Sheet, faces: Faces, kind: Callable[[Mapping[str, Any]], Sockets | None]
) -> dict[str, Any]:
    """Make inputs of `inner` of the widgets that an instance of it lists; the values that the instance has for them.

    `place` is the instance's graph and id; `kind` knows the sockets of an inner node.
    """
    listed = [*_listed(host)]
    held = host.get("widgets_values")
    held = held if isinstance(held, list) and len(held) == len(listed) else [None] * len(listed)
    faces[place] = {}
    found: dict[str, Any] = {}
    for (node_id, widget), value in zip(listed, held, strict=True):
        if widget == CONTROL or widget.startswith(PREVIEW):
            continue
        name = _input(inner, node_id, widget, faces, kind)
        if name is not None:
            faces[place].setdefault(widget, name)
            if value is not None:
                found[name] = kept(value)
    return found


def previews(host: Raw) -> list[dict[str, Any]]:
    """The pictures of inner nodes that an instance shows, as newer editors list them."""
    shown = inside(host, "properties", "previewExposures")
    new = [
        {"name": widget, "sourceNodeId": node_id, "sourcePreviewName": widget}
        for node_id, widget in _listed(host)
        if widget.startswith(PREVIEW)
    ]
    return [*dicts(shown), *new]


def _listed(host: Raw) -> Iterator[tuple[str, str]]:
    rows = inside(host, "properties", "proxyWidgets")
    for row in rows if isinstance(rows, list) else ():
        match row:
            case [str() as node_id, str() as widget, *_]:
                yield node_id, widget
            case [int() as node_id, str() as widget, *_]:
                yield str(node_id), widget


def _input(
    inner: Sheet, node_id: str, widget: str, faces: Faces, kind: Callable[[Mapping[str, Any]], Sockets | None]
) -> str | None:
    """The name of the definition's input that sets a widget inside; made if there is none."""
    if node_id == "-1":
        return widget if widget in inner.taken else None
    node_id = inner.ids.get(node_id, node_id)
    entry = inner.graph.get(node_id)
    if entry is None:
        return None
    name = faces.get((inner.id, node_id), {}).get(widget, widget)
    before = entry["inputs"].get(name)
    match before:
        case [str() as origin, int() as slot] if origin == INSIDE:
            inner.rows[slot]["widget"] = True
            return str(inner.rows[slot]["name"])
        case [str(), int()]:
            return None  # another node sets it
    known = kind(entry)
    if known is not None and name.partition(".")[0] not in dict(known.inputs):
        return None
    wire = _wire(inner, known, node_id, name)
    default = before if before is not None else _default(known, name)
    if known is None:
        drawn = _draw(inner, node_id, name, wire)
        default = _unnamed(entry, drawn, name, wire) if default is None else default
    row = {"name": called(widget, inner.taken), "type": wire, "widget": True}
    inner.rows.append(row | ({} if default is None else {"default": default}))
    entry["inputs"][name] = [INSIDE, len(inner.rows) - 1]
    return str(row["name"])


def _unnamed(entry: dict[str, Any], drawn: dict[str, Any], name: str, wire: str) -> Any:
    """The value of a widget of a node whose type is not known, if it is the only one that the node has."""
    meta = entry.get("_meta", {})
    row = {"name": name, "type": wire, "widget": {"name": name}}
    found = read({"widgets_values": meta.get("values"), "inputs": [row]}, None)
    if name in found.values:
        drawn["widgets_values"] = meta.pop("values")
    return found.values.get(name)


def _draw(inner: Sheet, node_id: str, name: str, wire: str) -> dict[str, Any]:
    """Note that a node has a widget of this name, as its type would if it were known; what is kept of the node."""
    sides = inner.graph[node_id].setdefault("_meta", {}).setdefault("sockets", {"inputs": [], "outputs": []})
    if name not in inner.shown(node_id):
        sides["inputs"].append([name, wire])
    comfy: dict[str, Any] = inner.canvas.setdefault("nodes", {}).setdefault(node_id, {}).setdefault("comfy", {})
    comfy.setdefault("inputs", {}).setdefault(name, {})["widget"] = {"name": name}
    return comfy


def _wire(inner: Sheet, known: Sockets | None, node_id: str, name: str) -> str:
    wire = dict(known.inputs).get(name) if known else None
    drawn = inner.shown(node_id).get(name)
    return wire or (drawn if isinstance(drawn, str) else ANY)


def _default(sockets: Sockets | None, name: str) -> Any:
    return next((widget.default for widget in sockets.widgets if widget.name == name), None) if sockets else None
