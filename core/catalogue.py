"""The nodes described: as JSON for programs, as Markdown for people."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from .files import write
from .schema import REQUIRED, Choice, Input, InputFile, ModelFile, Multiline, Node, Range, Registry, Seed

HEAD = """# The nodes

Made from the nodes themselves by `make docs`: do not edit.
"""


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


def markdown(registry: Registry) -> str:
    """All of `docs/nodes.md`."""
    by_category: defaultdict[str, list[Node[..., object]]] = defaultdict(list)
    for node in registry.values():
        by_category[node.category].append(node)
    parts = [HEAD]
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


def main(path: str) -> None:
    """Write `docs/nodes.md`."""
    from ..nodes import NODES

    write(Path(path), markdown(NODES))


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
            return ", ".join(options)
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
