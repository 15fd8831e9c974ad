"""The JSON Schema of a workflow file, made from the nodes: editors complete and check with it.  Draft 2020-12.

It says what a file that can run looks like, as far as that can be seen without following links: `problems` does that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from .litegraph.lowering import BYPASS, MUTE
from .schema import ANY_WIRE, NAMESPACE, Choice, Input, InputFile, ModelFile, Node, Range, Registry, Seed
from .workflow import VERSION

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}
LINK: Schema = {
    "title": "The output of another node",
    "type": "array",
    "prefixItems": [{"type": "string"}, {"type": "integer", "minimum": 0}],
    "minItems": 2,
    "maxItems": 2,
}
ITEMS: Schema = {
    "title": "A list that is a value",
    "type": "object",
    "properties": {"__value__": {"type": "array"}},
    "required": ["__value__"],
}
META: Schema = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "mode": {"enum": [MUTE, BYPASS]}, "control": {"type": "object"}},
}
DEFINITION: Schema = {
    "title": "A subgraph: a node whose class_type is its id stands for its graph",
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "graph": {"$ref": "#/$defs/open_graph"},
        "inputs": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        },
        "outputs": {
            "type": "array",
            "items": {"type": "object", "properties": {"from": {"$ref": "#/$defs/link"}}, "required": ["from"]},
        },
    },
    "required": ["graph"],
}


def workflow_schema(registry: Registry) -> Schema:
    """The schema of a Limner document, and of ComfyUI's API format, with every type of node that there is."""
    return {
        "$schema": DIALECT,
        "title": "A workflow of Limner",
        "if": {"required": ["limner"]},
        "then": {"$ref": "#/$defs/document"},
        "else": {"$ref": "#/$defs/graph"},
        "$defs": {
            "link": LINK,
            "items": ITEMS,
            "document": _document(),
            "definition": DEFINITION,
            "graph": _graph("node"),
            "open_graph": _graph("open_node"),
            "node": {"allOf": [{"$ref": "#/$defs/open_node"}, {"properties": {"class_type": {"enum": [*registry]}}}]},
            "open_node": _any_node(registry),
            **{f"type:{node.id}": _inputs(node) for node in registry.values()},
        },
    }


def _document() -> Schema:
    """A file of our own; in one with definitions, a node may be of a type that only the file knows."""
    return {
        "type": "object",
        "properties": {
            "limner": {"const": VERSION},
            "about": {"type": "string", "description": "What the workflow is for, in a sentence"},
            "graph": True,
            "definitions": {"type": "object", "additionalProperties": {"$ref": "#/$defs/definition"}},
            "canvas": {"type": "object", "description": "Where things stand: never changes what runs"},
            "requires": {"type": "object", "description": "Models by sha256 and packs by version"},
        },
        "required": ["limner", "graph"],
        "if": {"properties": {"definitions": {"minProperties": 1}}, "required": ["definitions"]},
        "then": {"properties": {"graph": {"$ref": "#/$defs/open_graph"}}},
        "else": {"properties": {"graph": {"$ref": "#/$defs/graph"}}},
    }


def _graph(kind: str) -> Schema:
    return {"type": "object", "additionalProperties": {"$ref": f"#/$defs/{kind}"}}


def _any_node(registry: Registry) -> Schema:
    """A node; where its type is known and it takes part, with the inputs of that type."""
    return {
        "type": "object",
        "properties": {
            "class_type": {"type": "string"},
            "inputs": {"type": "object", "default": {}},
            "_meta": {**META},
        },
        "required": ["class_type"],
        "if": {"properties": {"_meta": {"required": ["mode"]}}, "required": ["_meta"]},
        "else": {
            "allOf": [
                {
                    "if": {"properties": {"class_type": {"const": node.id}}},
                    "then": {"properties": {"inputs": {"$ref": _place(node)}}}
                    | ({"required": ["inputs"]} if any(_wanted(node)) else {}),
                }
                for node in registry.values()
            ]
        },
    }


def _inputs(node: Node[..., object]) -> Schema:
    free = node.unchecked() if node.unchecked else frozenset[str]()
    properties = {spec.name: _input(spec, free=bool({"*", spec.name} & free)) for spec in _shown(node)}
    now = {old: new for old, new in node.renamed if new in properties}
    aged = {old: {"$ref": f"{_place(node)}/properties/{_pointer(n)}"} for old, n in now.items()}
    earlier = {name: [old for old, new in now.items() if new == name] for name in properties}
    wanted = [name for name in _wanted(node) if not {"*", name} & free]
    found: Schema = {
        "title": node.title,
        "description": node.doc,
        "type": "object",
        "properties": properties | {old: {**schema, "deprecated": True} for old, schema in aged.items()},
        "required": [name for name in wanted if not earlier[name]],
        "additionalProperties": node.namespace != NAMESPACE,  # files made for ComfyUI often say more than a node takes
    }
    either = [{"anyOf": [{"required": [n]} for n in (name, *earlier[name])]} for name in wanted if earlier[name]]
    return found | ({"allOf": either} if either else {})


def _shown(node: Node[..., object]) -> Iterator[Input]:
    return (spec for spec in node.inputs if not spec.hidden)


def _wanted(node: Node[..., object]) -> Iterator[str]:
    return (spec.name for spec in _shown(node) if not spec.optional)


def _input(spec: Input, *, free: bool) -> Schema:
    """A link, or what a person may type in."""
    kinds: list[Schema] = [{"$ref": "#/$defs/link"}]
    if spec.is_widget and not free:
        kinds.append(_value(spec))
    if not spec.is_widget and (spec.wire == ANY_WIRE or spec.options is not None):  # foreign types may be written down
        kinds = [{}]
    if spec.default is None:
        kinds.append({"type": "null"})
    found: Schema = {} if free else kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if spec.doc:
        found = {**found, "description": spec.doc}
    if isinstance(spec.default, bool | int | str) or (isinstance(spec.default, float) and math.isfinite(spec.default)):
        found = {**found, "default": spec.default}
    return found


def _value(spec: Input) -> Schema:
    found: Schema = {"type": TYPES[spec.type]}
    match spec.hint:
        case Range(low, high):
            found |= {k: v for k, v in (("minimum", low), ("maximum", high)) if math.isfinite(v)}
        case Seed(limit):
            found |= {"minimum": 0, "maximum": limit}
        case Choice() as options:
            found = {"enum": list(options)}
        case ModelFile(folder):
            found |= {"description": f"a name in models/{folder}"}
        case InputFile():
            found |= {"description": "the name of a picture in input"}
    return found


def _place(node: Node[..., object]) -> str:
    return f"#/$defs/{_pointer(f'type:{node.id}')}"


def _pointer(name: str) -> str:
    """`name` as a part of a JSON pointer in a URI's fragment."""
    return quote(name.replace("~", "~0").replace("/", "~1"))
