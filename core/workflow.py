"""The workflow file: read from JSON and pictures, lowered to the strict form that runs, written to be diffed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import WorkflowError
from .graph import Graph, Instance, Link
from .schema import ANY_WIRE

VERSION = 1
INSIDE = "$inputs"  # the node that a definition's graph takes its inputs from
DEEPEST = 100  # nesting of JSON
LARGEST = 64 << 20  # bytes of JSON
MOST_NODES = 100_000  # of a lowered workflow: definitions that hold each other twice double at every level
MUTE, BYPASS = "mute", "bypass"

Api = Mapping[str, Mapping[str, Any]]  # ComfyUI's API format: id -> class_type, inputs, _meta


@dataclass(frozen=True, slots=True)
class Sockets:
    """What can be plugged in and out of a type of node, in order: (name, wire) and wires."""

    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]


SocketsOf = Callable[[str], Sockets | None]  # of a class_type; None where it is not known


@dataclass(frozen=True, slots=True)
class Document:
    """A workflow as a file holds it.  What is not understood is kept."""

    graph: Api
    definitions: Mapping[str, Any] = field(default_factory=dict)
    canvas: Mapping[str, Any] = field(default_factory=dict)
    requires: Mapping[str, Any] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The document as plain data."""
        parts = {"definitions": self.definitions, "canvas": self.canvas, "requires": self.requires}
        return {"limner": VERSION, "graph": self.graph} | {k: v for k, v in parts.items() if v} | dict(self.rest)


def read(path: Path) -> Document:
    """The workflow in a JSON file, or in a PNG or WebP that carries one."""
    from .files import reason

    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)  # of a device that never ends, too
    except OSError as error:
        raise WorkflowError(f"cannot read {path}: {reason(error)}") from error
    if content[:8] == b"\x89PNG\r\n\x1a\n" or content[8:12] == b"WEBP":
        from .pictures import texts

        found = texts(path)
        embedded = found.get("limner") or found.get("prompt")
        if embedded is None:
            raise WorkflowError(f"{path} is a picture without a workflow in it")
        return parse(embedded, f"the workflow in {path}")
    return parse(content, str(path))


def parse(text: str | bytes, source: str = "the workflow") -> Document:
    """A document from JSON text.  Raises `WorkflowError` that names `source`, and says what was found."""
    data = _json(text, source)
    if not isinstance(data, dict):
        raise WorkflowError(f"{source} holds {_kind(data)}, not a workflow")
    if "limner" in data:
        return _own(data, source)
    if isinstance(data.get("nodes"), list) and "links" in data:
        raise WorkflowError(f"{source} is in ComfyUI's editor format: export it with «Export (API)» and give that file")
    if isinstance(prompt := data.get("prompt"), dict) and "class_type" not in prompt:
        data = prompt
    return Document(_nodes(data, source))


def lower(document: Document, sockets: SocketsOf = lambda _: None) -> dict[str, dict[str, Any]]:
    """The strict API format: no modes, no definitions.  Inner nodes are called `instance:inner`.

    A muted node goes, and what was plugged into it; a bypassed one passes each output on to the input that fits it.
    """
    nodes: dict[str, dict[str, Any]] = {}
    aliases: dict[tuple[str, int], Any] = {}  # an output that stands for something else: a link, a value or nothing
    waiting: list[tuple[str, Api, frozenset[str]]] = [("", document.graph, frozenset())]
    while waiting:
        prefix, graph, within = waiting.pop()
        for name, entry in graph.items():
            node_id = prefix + name
            if node_id in nodes or (node_id, -1) in aliases:
                raise WorkflowError(f"two nodes are called {node_id!r}")
            kind = entry["class_type"]
            inputs = {k: _moved(v, prefix) for k, v in entry.get("inputs", {}).items()}
            mode = entry.get("_meta", {}).get("mode")
            definition = document.definitions.get(kind)
            known = _boundary(definition) if definition else sockets(kind)
            if mode in (MUTE, BYPASS):
                aliases |= _skipped(node_id, inputs, known if mode == BYPASS else None)
            elif definition:
                if kind in within:
                    raise WorkflowError(f"the definition {definition.get('name', kind)!r} contains itself")
                if len(within) == DEEPEST:
                    raise WorkflowError(f"definitions stand in each other more than {DEEPEST} deep")
                aliases |= _opened(node_id, inputs, definition)
                waiting.append((f"{node_id}:", definition["graph"], within | {kind}))
            else:
                nodes[node_id] = {**entry, "inputs": inputs}
            if len(nodes) + len(waiting) > MOST_NODES:
                raise WorkflowError(f"the workflow has more than {MOST_NODES} nodes, counting those in definitions")
    return {i: _wired(nodes[i], nodes, aliases) for i in sorted(nodes, key=_natural)}


def graph(api: Api) -> Graph:
    """The graph of a lowered document."""
    return {
        i: Instance(e["class_type"], {k: _value(v) for k, v in e["inputs"].items()}, _title(e)) for i, e in api.items()
    }


def api(nodes: Graph) -> dict[str, dict[str, Any]]:
    """The lowered document of a graph."""
    return {i: _entry(instance) for i, instance in nodes.items()}


def dumps(document: Document) -> str:
    """The file's text: sorted, a node a block, short values on one line."""
    return _block(document.as_json(), 0) + "\n"


def is_link(value: object) -> bool:
    """Whether a JSON value means another node's output: `["id", index]`."""
    match value:
        case [str(), int() as index]:
            return not isinstance(index, bool)
    return False


def _json(text: str | bytes, source: str) -> Any:
    if len(text) > LARGEST:
        raise WorkflowError(f"{source} is larger than {LARGEST >> 20} MB")
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8-sig")
        data = json.loads(decoded, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
        json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair is not text
        if _deeper(data, DEEPEST):
            raise RecursionError
    except RecursionError:
        raise WorkflowError(f"{source} is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise WorkflowError(f"{source} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except UnicodeError:
        raise WorkflowError(f"{source} is not text in UTF-8") from None
    except ValueError as error:
        raise WorkflowError(f"{source} is no valid JSON: {error}") from None
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name!r} stands twice in one object")
    return found


def _deeper(data: object, most: int) -> bool:
    """Whether more than `most` lists and objects stand in each other."""
    level = [data]
    for _ in range(most):
        parts = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
        level = [inner for part in parts for inner in part if isinstance(inner, dict | list)]
    return bool(level)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON has")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large a number")
    return number


def _own(data: dict[str, Any], source: str) -> Document:
    version = data["limner"]
    if type(version) is not int or version != VERSION:
        raise WorkflowError(f"{source} has version {version!r} of the format; this Limner reads version {VERSION}")
    for name in ("graph", "definitions", "canvas", "requires"):
        if not isinstance(data.get(name, {}), dict):
            raise WorkflowError(f"{source}: {name!r} must be an object, not {_kind(data[name])}")
    if "graph" not in data:
        raise WorkflowError(f"{source} has no 'graph'")
    known = {"limner", "graph", "definitions", "canvas", "requires"}
    definitions = data.get("definitions", {})
    for key, definition in definitions.items():
        _check_definition(definition, f"{source}: the definition {key!r}")
    return Document(
        graph=_nodes(data["graph"], source),
        definitions=definitions,
        canvas=data.get("canvas", {}),
        requires=data.get("requires", {}),
        rest={k: v for k, v in data.items() if k not in known},
    )


def _check_definition(definition: Any, source: str) -> None:
    if not isinstance(definition, dict) or not isinstance(definition.get("graph"), dict):
        raise WorkflowError(f"{source} has no 'graph'")
    _nodes(definition["graph"], source)
    for part, key in (("inputs", "name"), ("outputs", "from")):
        rows = definition.get(part, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) and key in row for row in rows):
            raise WorkflowError(f"{source}: {part!r} must be a list of objects with {key!r}")
    if not all(isinstance(row["name"], str) for row in definition.get("inputs", [])):
        raise WorkflowError(f"{source}: the names of 'inputs' must be texts")


def _nodes(data: Mapping[str, Any], source: str) -> Api:
    for node_id, entry in data.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("class_type"), str):
            raise WorkflowError(f"{source}: {node_id!r} is no node: it must be an object with a 'class_type'")
        if not isinstance(entry.get("inputs", {}), dict) or not isinstance(entry.get("_meta", {}), dict):
            raise WorkflowError(f"{source}: the 'inputs' of {node_id!r} must be an object")
    return data


def _kind(data: object) -> str:
    names = {list: "a list", str: "a text", bool: "a truth value", type(None): "nothing", dict: "an object"}
    return names.get(type(data), "a number")


def _moved(value: Any, prefix: str) -> Any:
    return [prefix + value[0], value[1]] if is_link(value) else value


def _boundary(definition: Mapping[str, Any]) -> Sockets:
    return Sockets(
        tuple((row["name"], row.get("type", ANY_WIRE)) for row in definition.get("inputs", [])),
        tuple(row.get("type", ANY_WIRE) for row in definition.get("outputs", [])),
    )


def _skipped(node_id: str, inputs: Mapping[str, Any], sockets: Sockets | None) -> dict[tuple[str, int], Any]:
    """What stands for the outputs of a muted (no sockets given) or bypassed node; -1 for those not named."""
    found: dict[tuple[str, int], Any] = {(node_id, -1): None}
    for slot, wire in enumerate(sockets.outputs if sockets else ()):
        found[node_id, slot] = _passed_on(slot, wire, inputs, sockets.inputs if sockets else ())
    return found


def _passed_on(slot: int, wire: str, inputs: Mapping[str, Any], rows: Sequence[tuple[str, str]]) -> Any:
    linked = [(name, kind) for name, kind in rows if is_link(inputs.get(name))]
    same_place = [
        n for n, kind in rows[slot : slot + 1] if (n, kind) in linked and (kind == wire or ANY_WIRE in (kind, wire))
    ]
    exact = [name for name, kind in linked if kind == wire]
    loose = [name for name, kind in linked if ANY_WIRE in (kind, wire)]
    return next((inputs[name] for name in (*same_place, *exact, *loose)), None)


def _opened(node_id: str, inputs: Mapping[str, Any], definition: Mapping[str, Any]) -> dict[tuple[str, int], Any]:
    """What an instance's outputs, and its inputs as seen from within, stand for."""
    outer = {
        (f"{node_id}:{INSIDE}", k): inputs.get(row["name"], row.get("default"))
        for k, row in enumerate(definition.get("inputs", []))
    }
    rows = enumerate(definition.get("outputs", []))
    return outer | {(node_id, k): _moved(row["from"], f"{node_id}:") for k, row in rows}


def _wired(
    entry: Mapping[str, Any], nodes: Mapping[str, Any], aliases: Mapping[tuple[str, int], Any]
) -> dict[str, Any]:
    inputs = {k: _resolved(v, nodes, aliases) for k, v in entry["inputs"].items()}
    meta = {k: v for k, v in entry.get("_meta", {}).items() if k not in ("mode", "control")}
    lowered = {"class_type": entry["class_type"], "inputs": {k: v for k, v in inputs.items() if v is not None}}
    return lowered | ({"_meta": meta} if meta else {})


def _resolved(value: Any, nodes: Mapping[str, Any], aliases: Mapping[tuple[str, int], Any]) -> Any:
    """Follow aliases to a node that runs, a value, or None where there is nothing behind it."""
    seen: set[tuple[str, int]] = set()
    while is_link(value) and value[0] not in nodes:
        place = (value[0], value[1])
        if place in seen:
            return None
        seen.add(place)
        if place not in aliases and (value[0], -1) not in aliases:
            return value  # a link to nowhere: `problems` says so
        value = aliases.get(place)
    return value


def _value(value: Any) -> Any:
    if is_link(value):
        return Link(value[0], value[1])
    if isinstance(value, dict) and "__value__" in value:
        return value["__value__"]
    return value


def _entry(instance: Instance) -> dict[str, Any]:
    inputs = {
        k: [v.node, v.output] if isinstance(v, Link) else {"__value__": v} if isinstance(v, list) else v
        for k, v in instance.inputs.items()
    }
    meta = {"_meta": {"title": instance.title}} if instance.title else {}
    return {"class_type": instance.type, "inputs": inputs} | meta


def _title(entry: Mapping[str, Any]) -> str:
    return str(entry.get("_meta", {}).get("title", ""))


def _natural(node_id: str) -> tuple[list[tuple[int, int | str]], str]:
    """Ids in the order that people count in: 2 before 10, and 1 before 01 whichever came first."""
    parts = node_id.split(":")
    return [(0, int(p)) if p.isdecimal() and p.isascii() and len(p) < 20 else (1, p) for p in parts], node_id


def _block(value: Any, depth: int) -> str:
    """JSON with sorted keys; objects of the first two levels take a line for each key, deeper ones where long."""
    flat = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if not isinstance(value, dict) or not value or (depth > 1 and len(flat) + 2 * depth <= 110):
        return flat
    return "{\n" + ",\n".join(_lines(value, depth)) + "\n" + "  " * depth + "}"


def _lines(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    for key in sorted(value, key=lambda k: (k != "limner", _natural(k)) if depth == 0 else (False, _natural(k))):
        yield f"{'  ' * (depth + 1)}{json.dumps(key, ensure_ascii=False)}: {_block(value[key], depth + 1)}"
