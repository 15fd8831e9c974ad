"""How nodes, notes, groups and links are drawn: the canvas of a document, and the same as ComfyUI writes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .sheets import OUTPUTS, OWN, Raw, Sheet, dicts, inside, number, part, point, text

COLORS = {"color": "color", "background": "bgcolor"}
FLAGS = ("collapsed", "pinned")
SENT = "$outputs"  # what we call the node at which links to a definition's outputs end
VIEW = frozenset({"at", "size", *COLORS, *FLAGS})
NODE = frozenset(
    {"id", "type", "pos", "size", "flags", "order", "mode", "title", *COLORS.values(), "inputs", "outputs"}
    | {"properties", "widgets_values", "widgets_values_named"}
)  # what is understood of a node
FILE = frozenset(
    {"nodes", "links", "groups", "definitions", "reroutes", "extra", "version", "last_node_id", "last_link_id", "state"}
)
DEFINITION = FILE | {"id", "name", "description", "category", "inputs", "outputs", "inputNode", "outputNode"}
EXTRA = frozenset({"ds", "reroutes", "linkExtensions", "linkPresentation", "ue_links", OWN})
MOST_POINTS = 100  # of a link
REROUTE = ("id", "parentId", "pos", "linkIds")
NAME_KEPT = "Node name for S&R"  # a property that every node has


def given(**parts: Any) -> dict[str, Any]:
    """The parts that there are: neither nothing nor empty."""
    return {name: value for name, value in parts.items() if value is not None and value not in ({}, [], "")}


def canvas(found: Sheet, nodes: Mapping[str, Any], notes: Mapping[str, Any]) -> dict[str, Any]:
    """The canvas of a graph, of which nodes and notes are done."""
    extra = found.raw.get("extra")
    view = {"scale": inside(extra, "ds", "scale"), "offset": point(inside(extra, "ds", "offset"))}
    return given(
        nodes={node_id: look for node_id, look in nodes.items() if look},
        notes=notes,
        groups=[_group(raw) for raw in dicts(found.raw.get("groups"))],
        reroutes=_reroutes(found.raw),
        links=_links(found),
        view=given(**view),
        inputs=_box(inside(found.raw, "inputNode", "bounding")) if found.id else None,
        outputs=_box(inside(found.raw, "outputNode", "bounding")) if found.id else None,
        comfy=_file(found),
    )


def look(raw: Raw) -> dict[str, Any]:
    """Where a node stands, and how it looks."""
    flags = raw.get("flags")
    colors = {ours: text(raw.get(theirs)) for ours, theirs in COLORS.items()}
    folded = {name: inside(flags, name) is True or None for name in FLAGS}
    return given(at=point(raw.get("pos")), size=point(raw.get("size")), **colors, **folded)


def note(raw: Raw, *, markdown: bool) -> dict[str, Any]:
    """A note: text on the canvas."""
    held = raw.get("widgets_values")
    words = held[0] if isinstance(held, list) and held else inside(held, "text")
    told = words if isinstance(words, str) else inside(raw, "properties", "text")
    mode = raw.get("mode")
    comfy = leftovers(raw) | given(
        properties=_properties(raw, "text"), mode=mode if type(mode) is int and mode else None
    )
    said = given(title=text(raw.get("title")), markdown=markdown or None, comfy=comfy)
    return look(raw) | {"text": told if isinstance(told, str) else ""} | said


def leftovers(raw: Raw) -> dict[str, Any]:
    """What ComfyUI says of a node, or a pack adds to it, and Limner has no word for."""
    flags, mode = raw.get("flags"), raw.get("mode")
    return given(
        properties=_properties(raw),
        flags={k: v for k, v in flags.items() if k not in FLAGS} if isinstance(flags, dict) else None,
        mode=mode if type(mode) is int and mode in (1, 3) else None,
    ) | {k: v for k, v in raw.items() if k not in NODE}


def raw_look(look: Mapping[str, Any]) -> dict[str, Any]:
    """A node's look as ComfyUI writes it, without the parts that are not given."""
    flags = {**part(look, "comfy", "flags"), **{name: True for name in FLAGS if look.get(name) is True}}
    colors = {theirs: look[ours] for ours, theirs in COLORS.items() if isinstance(look.get(ours), str)}
    return given(pos=point(look.get("at")), size=point(look.get("size"))) | {"flags": flags} | colors


def raw_groups(groups: object) -> list[dict[str, Any]]:
    """The groups as ComfyUI writes them."""
    found = []
    for k, group in enumerate(dicts(groups), 1):
        at, size = point(group.get("at")) or [0, 0], point(group.get("size")) or [200, 200]
        named = {"id": k, "title": group.get("title", ""), "bounding": [*at, *size]}
        colored = {"color": group["color"]} if "color" in group else {}
        found.append({"flags": {}, **named, **_without(part(group, "comfy"), "title", "bounding"), **colored})
    return found


def raw_note(node_id: int, name: str, note: Mapping[str, Any]) -> dict[str, Any]:
    """A note as ComfyUI writes it."""
    comfy = part(note, "comfy")
    properties = part(comfy, "properties") | own_id(node_id, name)
    words = note.get("text", "")
    kind = {"id": node_id, "type": "MarkdownNote" if note.get("markdown") else "Note"}
    title = {"title": note["title"]} if isinstance(note.get("title"), str) else {}
    rest = {"order": 0, "mode": comfy.get("mode", 0), "inputs": [], "outputs": [], **title, "widgets_values": [words]}
    look = {"pos": [0, 0], "size": [240, 120], **raw_look(note)}
    return {**_without(comfy, *NODE), **kind, **look, **rest, "properties": properties}


def own_id(number: int, name: str) -> dict[str, Any]:
    """What a node's properties say of what we call it."""
    return {} if str(number) == name else {OWN: {"id": name}}


def raw_reroutes(
    points: Mapping[str, Any], ids: Mapping[str, int], links: Iterable[tuple[int, str]]
) -> list[dict[str, Any]]:
    """The points that links run through, as ComfyUI writes them.  `links` are ids, each with its last point."""
    through: dict[str, list[int]] = {name: [] for name in points}
    for link_id, name in links:
        for passed in _chain(name, points):
            through[passed].append(link_id)
    return [
        {"id": ids[name]}
        | ({"parentId": ids[parent]} if (parent := text(inside(held, "parent")) or "") in ids else {})
        | {"pos": point(inside(held, "at")) or [0, 0], "linkIds": through[name]}
        | _without(part(held, "comfy"), *REROUTE)
        for name, held in points.items()
    ]


def numbers(names: Iterable[str]) -> dict[str, int]:
    """A number for each name: its own where it is one, else the next that is free."""
    found = {name: int(name) for name in names if name.isascii() and name.isdecimal() and len(name) < 10}
    found = {name: k for name, k in found.items() if str(k) == name}
    free = max(found.values(), default=0)
    for name in names:
        if name not in found:
            free += 1
            found[name] = free
    return found


def _properties(raw: Raw, *more: str) -> dict[str, Any]:
    held = raw.get("properties")
    known = {OWN, "proxyWidgets", *more}
    rest = {k: v for k, v in held.items() if k not in known} if isinstance(held, dict) else {}
    return rest if rest.get(NAME_KEPT) != raw["type"] else _without(rest, NAME_KEPT)


def _group(raw: Raw) -> dict[str, Any]:
    box = _box(raw.get("bounding")) or {}
    comfy = {k: v for k, v in raw.items() if k not in ("title", "bounding", "color")}
    return {"title": text(raw.get("title")) or "", **box} | given(color=text(raw.get("color")), comfy=comfy)


def _box(bounding: object) -> dict[str, Any] | None:
    corners = point(bounding, 4)
    return {"at": corners[:2], "size": corners[2:]} if corners else None


def _reroutes(raw: Raw) -> dict[str, Any]:
    rows = dicts(raw.get("reroutes")) or dicts(inside(raw, "extra", "reroutes"))
    return {
        name: {"at": point(row.get("pos")) or [0, 0]}
        | given(parent=number(row.get("parentId")), comfy=_without(row, *REROUTE))
        for row in rows
        if (name := number(row.get("id"))) is not None
    }


def _links(found: Sheet) -> dict[str, Any]:
    """How links are drawn, by the input that they end at."""
    drawn: dict[str, Any] = {}
    for node_id, plugs in found.plugs.items():
        for name, wire in plugs.items():
            if wire.view:
                drawn.setdefault(node_id, {})[name] = dict(wire.view)
    for wire in found.wires.values():
        if wire.view and wire.target == OUTPUTS and 0 <= wire.place < len(found.outputs):
            drawn.setdefault(SENT, {})[found.outputs[wire.place]["name"]] = dict(wire.view)
    return drawn


def _file(found: Sheet) -> dict[str, Any]:
    """What ComfyUI says of the file, or of the definition, and Limner has no word for."""
    known = DEFINITION if found.id else FILE
    extra = found.raw.get("extra")
    rest = {k: v for k, v in extra.items() if k not in EXTRA} if isinstance(extra, dict) else {}
    more = {k: v for k, v in found.raw.items() if k not in known and v not in ({}, [], None)}
    return ({k: v for k, v in more.items() if k != "revision"} if more.get("revision") == 0 else more) | given(
        extra=rest
    )


def _chain(name: str, points: Mapping[str, Any]) -> Iterator[str]:
    """A point and those before it."""
    seen: set[str] = set()
    while name in points and name not in seen and len(seen) < MOST_POINTS:
        seen.add(name)
        yield name
        parent = inside(points[name], "parent")
        name = parent if isinstance(parent, str) else ""


def _without(held: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in held.items() if name not in names}
