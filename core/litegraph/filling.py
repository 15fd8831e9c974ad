"""What the widgets of a node hold, in ComfyUI's editor format: by place and by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .kinds import ANY, SEEDS, Sockets, Widget
from .lowering import is_link
from .pages import Json, Page, row_of
from .sheets import inside, part
from .values import FIXED, bare, is_control, patched, read, write

VALUES = ("widgets_values", "widgets_values_named")


def held_values(page: Page, node_id: str) -> dict[str, Any]:
    """What the widgets of a node hold, by place and by name."""
    entry, kind, comfy = page.graph[node_id], page.kinds[node_id], page.comfy(node_id)
    meta = entry.get("_meta", {})
    values = {**_below(page, node_id), **part(page.look(node_id), "behind")}
    values |= {name: value for name, value in entry.get("inputs", {}).items() if not is_link(value)}
    known = kind if kind and (kind.widgets or not inside(meta, "sockets")) else None
    controls = _controls(meta.get("control"), known)
    fresh = _fresh(page, node_id, values, known, controls)
    held = {"widgets_values": meta.get("values"), **{key: comfy[key] for key in VALUES if key in comfy}}
    if not isinstance(held["widgets_values"], list | dict) or not _covered(held, known, values):
        return fresh
    again = patched({**held, "inputs": [*page.sockets[node_id].values()]}, known, values, controls)
    if known is not None and again == fresh.get("widgets_values"):
        return fresh
    named = part(held, "widgets_values_named")
    more = {"widgets_values_named": _renewed(named, values, controls)} if named else {}
    return {"widgets_values": again, **more}


def _fresh(
    page: Page, node_id: str, values: Json, known: Sockets | None, controls: Mapping[str, str]
) -> dict[str, Any]:
    """A node's values as its type has them, whatever the file had that they come from."""
    if page.graph[node_id]["class_type"] in page.names:
        return _instance(page.kinds[node_id], values) if values else {}  # else all is as inside
    listed, named = write(known or _unknown(values), values, controls)
    return {"widgets_values": listed, "widgets_values_named": named} if listed else {}


def _instance(kind: Sockets | None, values: Json) -> dict[str, Any]:
    """What an instance holds; nothing stands for what is as inside, and not known."""
    widgets = kind.widgets if kind else ()
    found = {widget.name: bare(values.get(widget.name, widget.default)) for widget in widgets}
    named = {name: value for name, value in found.items() if value is not None}
    return {"widgets_values": [*found.values()], "widgets_values_named": named}


def _covered(held: Json, known: Sockets | None, values: Json) -> bool:
    """Whether a list of values that came from a file still has a place for each value that there is."""
    if known is None or isinstance(held["widgets_values"], dict):
        return True
    places = read({"widgets_values": held["widgets_values"]}, known).places
    return {place.widget.name for place in places} >= {name for name in values if name in dict(known.inputs)}


def _renewed(named: Json, values: Json, controls: Json) -> dict[str, Any]:
    found, last = {}, ""
    for name, value in named.items():
        found[name] = controls.get(last, FIXED) if is_control(name) else bare(values.get(name, value))
        last = name
    return found


def _below(page: Page, node_id: str) -> dict[str, Any]:
    """What widgets hold that a definition's input is plugged into: its default."""
    found = {}
    for name, value in page.graph[node_id].get("inputs", {}).items():
        row = row_of(page, value)
        if row is not None and "default" in row:
            found[name] = row["default"]
    return found


def _unknown(values: Json) -> Sockets:
    """A type of node that nobody has described: its widgets are what has values, in the order in which they stand."""
    widgets = tuple(Widget(name, ANY, control=name in SEEDS) for name in values)
    return Sockets(tuple((name, ANY) for name in values), (), widgets)


def _controls(word: Any, known: Sockets | None) -> dict[str, str]:
    if isinstance(word, dict):
        return {name: said for name, said in word.items() if isinstance(said, str)}
    names = [widget.name for widget in known.widgets if widget.control] if known else SEEDS
    return dict.fromkeys(names, word) if isinstance(word, str) else {}
