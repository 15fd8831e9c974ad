"""The nodes described: as JSON for programs and for ComfyUI's clients, as Markdown for people."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .files import write
from .graph import Choices
from .schema import NAMESPACE, REQUIRED, Choice, Input, InputFile, ModelFile, Multiline, Node, Range, Registry, Seed

MADE = "Made from the nodes themselves by `make docs`: do not edit.\n"
HEAD = f"# The nodes\n\n{MADE}"
COMFYUI = f"# ComfyUI's nodes\n\nThey run here under their own ids. {MADE}"


def as_json(registry: Registry) -> dict[str, Any]:
    """Every node by its id."""
    return {node.id: described(node) for node in registry.values()}


def described(node: Node[..., object]) -> dict[str, Any]:
    """One node as plain data."""
    return {
        "id": node.id,
        "title": node.title,
        "category": node.category,
        "version": node.version,
        "help": node.doc,
        "output_node": node.delivers,
        "cached": node.cached,
        "inputs": [_input(spec) for spec in node.inputs],
        "outputs": [{"name": o.name, "wire": o.wire} for o in node.outputs],
    }


def v1(node: Node[..., object], choices: Choices) -> dict[str, Any]:
    """One node as `/object_info` has it: ComfyUI's V1 convention.  `choices` gives the files that there are now."""
    inputs = v1_inputs(node, choices)
    described: dict[str, Any] = {
        "input": inputs,
        "input_order": {kind: list(group) for kind, group in inputs.items()},
        "output": [o.wire for o in node.outputs],
        "output_is_list": [o.many for o in node.outputs],
        "output_name": [o.name for o in node.outputs],
        "name": node.id,
        "display_name": node.title,
        "description": node.doc.strip(),
        "python_module": _module(node),
        "category": node.category,
        "output_node": node.delivers,
    }
    if any(o.doc for o in node.outputs):
        described["output_tooltips"] = [o.doc for o in node.outputs]
    marks = {"deprecated": node.deprecated, "experimental": node.experimental}
    return described | {mark: True for mark, holds in marks.items() if holds}


def v1_inputs(node: Node[..., object], choices: Choices, wire: Callable[[str], str] = str) -> dict[str, dict[str, Any]]:
    """What its INPUT_TYPES would return.  `wire` gives the names that wires go by there."""
    groups: dict[str, dict[str, Any]] = {}
    for spec in node.inputs:
        if spec.hidden:
            groups.setdefault("hidden", {})[spec.name] = spec.hidden
        else:
            needed = spec.default is REQUIRED or (not node.pack and spec.default is not None)
            groups.setdefault("required" if needed else "optional", {})[spec.name] = v1_input(spec, choices, wire)
    return {kind: groups[kind] for kind in ("required", "optional", "hidden") if kind in groups}


def v1_input(spec: Input, choices: Choices, wire: Callable[[str], str] = str) -> list[Any]:
    """One input: its type or its choices, and what editors are told of it."""
    options: dict[str, Any] = {"tooltip": spec.doc} if spec.doc else {}
    if spec.default is not REQUIRED and spec.default is not None:
        options["default"] = spec.default
    if spec.lazy:
        options["lazy"] = True
    kind: Any = wire(spec.wire)
    match spec.hint:
        case Range(low, high, step):
            bounds = {"min": low, "max": high, "step": step}
            known = {k: v for k, v in bounds.items() if v is not None and math.isfinite(v)}
            options |= {k: float(v) for k, v in known.items()} if spec.type is float else known
        case Seed(limit):
            options |= {"min": 0, "max": limit, "control_after_generate": True}
        case Multiline():
            options["multiline"] = True
        case Choice() as offered if "options" not in (spec.options or ()):  # else they are told there
            kind = list(offered)
        case ModelFile() as hint:
            kind = list(choices(hint))
        case InputFile() as hint:
            kind = list(choices(hint))
            options["image_upload"] = True
    return [kind, options | dict(spec.options or {})]


def markdown(registry: Registry, head: str = HEAD) -> str:
    """A page of all nodes, by category."""
    by_category: defaultdict[str, list[Node[..., object]]] = defaultdict(list)
    for node in registry.values():
        by_category[node.category].append(node)
    parts = [head]
    for category, nodes in by_category.items():
        parts += [f"## {category.capitalize()}\n", *(section(node, "### ") for node in nodes)]
    return "\n".join(parts)


def section(node: Node[..., object], head: str = "") -> str:
    """What there is to know of one node."""
    lines = [f"{head}{node.title}", "", f"`{node.id}`. {node.doc}", ""]
    if node.inputs:
        lines += ["| input | takes | default | |", "|---|---|---|---|"]
        lines += [f"| {i.name} | {_takes(i)} | {_default(i)} | {i.doc} |" for i in node.inputs] + [""]
    if node.outputs:
        lines += ["Gives " + ", ".join(f"{o.name} ({o.wire})" for o in node.outputs) + ".", ""]
    return "\n".join(lines)


def main(folder: str) -> None:
    """Write the pages that are made from the nodes."""
    from ..nodes import NODES
    from ..nodes.comfy import COMFY

    write(Path(folder, "nodes.md"), markdown(NODES))
    write(Path(folder, "comfyui-nodes.md"), markdown(COMFY, COMFYUI))


def _module(node: Node[..., object]) -> str:
    """Where editors of ComfyUI's kind think that a node comes from: they show packs beside the title."""
    if node.pack:
        return f"custom_nodes.{node.pack}"
    return f"custom_nodes.{NAMESPACE}" if node.namespace == NAMESPACE else "nodes"


def _input(spec: Input) -> dict[str, Any]:
    found: dict[str, Any] = {"name": spec.name, "wire": spec.wire, "widget": spec.is_widget, "help": spec.doc}
    if spec.default is not REQUIRED:
        found["default"] = spec.default
    match spec.hint:
        case Range(low, high, step):
            found |= {"min": low, "max": high} | ({"step": step} if step else {})
        case Choice() as options:
            found["options"] = list(options)
        case Multiline():
            found["multiline"] = True
        case Seed():
            found["seed"] = True
        case ModelFile(folder):
            found["models"] = folder
        case InputFile():
            found["files"] = "input"
    return found


def _takes(spec: Input) -> str:
    match spec.hint:
        case Range(low, high):
            return f"{spec.wire}, {low:g} to {high:g}"
        case Choice() as options:
            return ", ".join(map(str, options))
        case ModelFile(folder):
            return f"a name in models/{folder}"
        case InputFile():
            return "a name in input"
    return spec.wire


def _default(spec: Input) -> str:
    if spec.default is REQUIRED:
        return "required"
    if spec.default is None:
        return "nothing"
    return f"`{spec.default!r}`" if isinstance(spec.default, str) else str(spec.default)


if __name__ == "__main__":
    main(sys.argv[1])
