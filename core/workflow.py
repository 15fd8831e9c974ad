"""The workflow file: read from JSON and pictures, lowered to the strict form that runs, written to be diffed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from . import strict_json
from .errors import WorkflowError
from .graph import Graph, Instance, Link
from .litegraph import lowering, reading, writing
from .litegraph.kinds import SocketsOf
from .litegraph.lowering import Api, is_link, natural

VERSION = 1
LARGEST = 64 << 20  # bytes of JSON
PICTURES = ((0, b"\x89PNG\r\n\x1a\n"), (8, b"WEBP"), (0, b"\xff\xd8\xff"))  # where a file begins so, it is one
EMBEDDED = ("limner", "workflow", "prompt")  # what a picture may carry: the first that can be read is taken


@dataclass(frozen=True, slots=True)
class Document:
    """A workflow as a file holds it.  What is not understood is kept."""

    graph: Api
    definitions: Mapping[str, Any] = field(default_factory=dict)
    canvas: Mapping[str, Any] = field(default_factory=dict)
    requires: Mapping[str, Any] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = field(default=(), compare=False)  # what a person should be told of how it was read

    def as_json(self) -> dict[str, Any]:
        """The document as plain data."""
        parts = {"definitions": self.definitions, "canvas": self.canvas, "requires": self.requires}
        return {"limner": VERSION, "graph": self.graph} | {k: v for k, v in parts.items() if v} | dict(self.rest)


def nothing_known(_: str) -> None:
    """The sockets of node types, where there is nobody to ask."""


def read(path: Path, known: SocketsOf = nothing_known) -> Document:
    """The workflow in a JSON file, or in a PNG, WebP or JPEG that carries one.  `known` as for `parse`."""
    from .files import reason

    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)  # of a device that never ends, too
    except OSError as error:
        raise WorkflowError(f"cannot read {path}: {reason(error)}") from error
    if any(content.startswith(mark, place) for place, mark in PICTURES):
        from .pictures import texts

        return carried(texts(path), str(path), known)
    return parse(content, str(path), known)


def carried(texts: Mapping[str, str], path: str, known: SocketsOf = nothing_known) -> Document:
    """The workflow among the texts that a picture carries."""
    found = [texts[name] for name in EMBEDDED if name in texts]
    if not found:
        raise WorkflowError(f"{path} is a picture without a workflow in it")
    return _first([partial(parse, _plain(text), f"the workflow in {path}", known) for text in found])


def parse(text: str | bytes, source: str = "the workflow", known: SocketsOf = nothing_known) -> Document:
    """A document from JSON text: ours, or ComfyUI's API or editor format.

    The editor format holds values by place: `known` says what a type of node has where.  Raises `WorkflowError` that
    names `source`, and says what was found.
    """
    try:
        data = strict_json.loads(text, LARGEST)
    except ValueError as error:
        raise WorkflowError(f"{source} {error}") from None
    if not isinstance(data, dict):
        raise WorkflowError(f"{source} holds {_kind(data)}, not a workflow")
    return _document(data, source, known)


def lower(document: Document, sockets: SocketsOf = nothing_known) -> dict[str, dict[str, Any]]:
    """The strict API format: no modes, no definitions.  Inner nodes are called `instance:inner`.

    A muted node goes, and what was plugged into it; a bypassed one passes each output on to the input that fits it.
    """
    return lowering.lower(document.graph, document.definitions, sockets)


def graph(api: Api) -> Graph:
    """The graph of a lowered document."""
    return {
        i: Instance(e["class_type"], {k: _value(v) for k, v in e["inputs"].items()}, _title(e)) for i, e in api.items()
    }


def api(nodes: Graph) -> dict[str, dict[str, Any]]:
    """The lowered document of a graph."""
    return {i: _entry(instance) for i, instance in nodes.items()}


def forms(document: Document, known: SocketsOf = nothing_known) -> dict[str, dict[str, Any]]:
    """A workflow as data in each form that a picture can carry: Limner's, ComfyUI's API's and that of its editor."""
    return {
        "limner": document.as_json(),
        "prompt": lower(document, known),
        "workflow": writing.workflow(document.as_json(), known),
    }


def dumps(document: Document) -> str:
    """The file's text: sorted, a node a block, short values on one line."""
    return text(document.as_json())


def text(data: Mapping[str, Any]) -> str:
    """A workflow's data as a file.  That of ComfyUI's editor is not sorted: it counts on the order of its values."""
    if isinstance(data.get("nodes"), list):
        return "{\n" + ",\n".join(f"  {json.dumps(key)}: {_rows(value)}" for key, value in data.items()) + "\n}\n"
    return _block(data, 0) + "\n"


def _document(data: dict[str, Any], source: str, known: SocketsOf) -> Document:
    if "limner" in data:
        return _settled(_own(data, source), known)
    if isinstance(data.get("nodes"), list):
        made, warnings = reading.document(data, known, source)
        return replace(_own(made, source), warnings=warnings)
    inner = [part for part in _wrapped(data) if isinstance(part, dict) and "class_type" not in part]
    if inner:
        return _first([partial(_document, part, source, known) for part in inner])
    return Document(_nodes(data, source))


def _wrapped(data: Mapping[str, Any]) -> Iterator[Any]:
    """What a queue, a history and a request keep workflows in: the editor's format first, for it says more."""
    prompt = data.get("prompt")
    extra = data.get("extra_data")
    if isinstance(prompt, list) and len(prompt) > 3:  # of a history: a number, an id, the graph, the rest
        prompt, extra = prompt[2:4]
    info = extra.get("extra_pnginfo") if isinstance(extra, dict) else None
    for held in (info, data):
        part = held.get("workflow") if isinstance(held, dict) else None
        if isinstance(part, dict) and isinstance(part.get("nodes"), list):
            yield part
    yield prompt


def _first(ways: list[Callable[[], Document]]) -> Document:
    """What the first way gives that leads to any nodes; what is wrong with the first if none does."""
    errors = []
    for way in ways:
        try:
            found = way()
        except WorkflowError as error:
            errors.append(error)
        else:
            if found.graph or way is ways[-1]:
                return found
    raise errors[0]


def _plain(text: str) -> str:
    """The text without the numbers that JSON has not: ComfyUI writes NaN into pictures."""
    if "NaN" not in text and "Infinity" not in text:
        return text
    try:
        return json.dumps(json.loads(text, parse_constant=lambda _: None))
    except (ValueError, RecursionError):
        return text


def _settled(document: Document, known: SocketsOf) -> Document:
    """The document with names for values that had none, because their nodes were not known where it was made."""
    root, _, warnings = reading.settled(document.graph, [], known)
    definitions = {}
    for name, definition in document.definitions.items():
        inner, rows, more = reading.settled(definition["graph"], definition.get("inputs", []), known)
        definitions[name] = {**definition, "graph": inner} | ({"inputs": rows} if rows else {})
        warnings += more
    return replace(document, graph=root, definitions=definitions, warnings=tuple(warnings))


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


def _block(value: Any, depth: int) -> str:
    """JSON with sorted keys; objects of the first two levels take a line for each key, deeper ones where long."""
    flat = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if not isinstance(value, dict) or not value or (depth > 1 and len(flat) + 2 * depth <= 110):
        return flat
    return "{\n" + ",\n".join(_lines(value, depth)) + "\n" + "  " * depth + "}"


def _rows(value: Any) -> str:
    """JSON as it stands, with a line for each item of a list."""
    if not isinstance(value, list) or not value:
        return json.dumps(value, ensure_ascii=False)
    return "[\n" + ",\n".join(f"    {json.dumps(item, ensure_ascii=False)}" for item in value) + "\n  ]"


def _lines(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    for key in sorted(value, key=lambda k: (k != "limner", natural(k)) if depth == 0 else (False, natural(k))):
        yield f"{'  ' * (depth + 1)}{json.dumps(key, ensure_ascii=False)}: {_block(value[key], depth + 1)}"
