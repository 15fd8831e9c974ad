"""The commands that look and run nothing: params, validate, explain, nodes, models, cache and convert."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from .. import catalogue, workflow
from ..errors import UsageError
from ..files import write
from ..folders import MODEL_FOLDERS, SHIPPED
from ..graph import Link, near
from ..host import Host, Settings, workflow_file
from ..schema import REQUIRED, SEED_LIMIT, Choice, InputFile, ModelFile, Range, Seed
from .settings import variants
from .show import settings as told


def host(options: argparse.Namespace, **settings: Any) -> Host:
    """The host that the options describe."""
    from ...nodes import NODES

    base = getattr(options, "base_directory", None)
    return Host(NODES, Settings(base=base, **settings))


def say(text: str = "") -> None:
    """A line of the answer."""
    print(text)  # noqa: T201 - standard output is what a command answers


def explain(options: argparse.Namespace) -> int:
    """`limner explain`: HIT, MISS, RUN or SKIP and the reason, for each node."""
    here = host(options, device=options.device, dtype=options.dtype, disk_cache=not options.no_cache)
    file = workflow_file(options.file)
    for variant in variants(workflow.read(file), here, options):
        rows = here.explained(variant.graph, str(file.absolute()), options.only, frozenset(options.force or ()))
        if options.json:
            say(json.dumps({"set": variant.made, "nodes": [asdict(row) for row in rows]}))
            continue
        if variant.made:
            say(told(variant.made))
        _table((row.node, row.type, row.verdict, row.reason, row.key) for row in rows)
    if here.store and not (here.folders.cache / "environment.json").exists():
        print("what is stored on disk is not known before a first run on this device", file=sys.stderr)  # noqa: T201
    return 0


def params(options: argparse.Namespace) -> int:
    """`limner params`: every value that can be set."""
    here = host(options)
    nodes = here.lowered(workflow.read(workflow_file(options.file)))
    rows = [
        {
            "key": f"{i}.{spec.name}",
            "title": n.title,
            "type": spec.wire,
            "value": value,
            "range": _range(spec.hint, here),
        }
        for i, n in nodes.items()
        if (node := here.registry.get(n.type)) is not None
        for spec in node.inputs
        if spec.is_widget and not isinstance(value := n.inputs.get(spec.name, spec.default), Link)
        if value is not REQUIRED
    ]
    if options.json:
        say(json.dumps(rows))
    else:
        _table((r["key"], r["type"], json.dumps(r["value"], ensure_ascii=False), r["range"]) for r in rows)
    return 0


def validate(options: argparse.Namespace) -> int:
    """`limner validate`: everything that is wrong, on standard output; exit code 3 if there is anything."""
    here = host(options)
    found = here.problems(here.lowered(workflow.read(workflow_file(options.file))))
    if options.json:
        say(json.dumps([{**asdict(p), "values": dict(p.values), "message": p.message} for p in found]))
    elif found:
        for problem in found:
            say(str(problem))
    else:
        say(f"{options.file} can run")
    return 3 if found else 0


def nodes(options: argparse.Namespace) -> int:
    """`limner nodes`: the catalogue, or one node of it."""
    registry = host(options).registry
    if options.node is None:
        if options.json:
            say(json.dumps(catalogue.as_json(registry)))
        else:
            _table((n.id, n.category, n.doc.splitlines()[0]) for n in registry.values())
        return 0
    node = registry.get(options.node) or next((n for n in registry.values() if n.name == options.node), None)
    if node is None:
        names = [n.name for n in registry.values()]
        raise UsageError(f"there is no node {options.node!r}{near(options.node, [*registry, *names])}")
    say(json.dumps(catalogue.described(node)) if options.json else catalogue.section(node))
    return 0


def models(options: argparse.Namespace) -> int:
    """`limner models`: what can be named, by folder."""
    folders = host(options).folders
    found = {folder: list(folders.choices(ModelFile(folder))) for folder in MODEL_FOLDERS}
    if options.json:
        say(json.dumps(found))
    else:
        rows = [(f, name, _origin(folders.model(f, name))) for f, names in found.items() for name in names]
        _table(rows)
        say(f"put your own into {folders.base / 'models'}/<folder>")
    return 0


def cache(options: argparse.Namespace) -> int:
    """`limner cache`: how full it is, or clear it."""
    here = host(options)
    store = here.store
    if store is not None:
        before = store.info()
        if options.what == "clear":
            store.clear()
            say(f"cleared {before['results']} results, {before['bytes'] / 1e6:.1f} MB")
        else:
            room = f"{before['bytes'] / 1e6:.1f} of {before['budget'] / 1e6:.0f} MB"
            say(f"{before['results']} results, {room}, in {store.folder}")
    return 0


def convert(options: argparse.Namespace) -> int:
    """`limner convert`: from whatever can be read to Limner's format, or to ComfyUI's API format."""
    here = host(options)
    document = workflow.read(workflow_file(options.file))
    if options.to.suffix != ".json":
        raise UsageError(f"{options.to} must end in .json, or in .api.json for ComfyUI's API format")
    if options.to.name.endswith(".api.json"):
        write(options.to, json.dumps(workflow.lower(document, here.sockets), indent=2, ensure_ascii=False) + "\n")
    else:
        write(options.to, workflow.dumps(document))
    say(str(options.to))
    return 0


def _range(hint: object, here: Host) -> str:
    match hint:
        case Range(low, high):
            return f"{low:g}..{high:g}"
        case Seed():
            return f"0..{SEED_LIMIT}"
        case Choice() as options:
            return ", ".join(options)
        case ModelFile() | InputFile():
            return ", ".join(here.folders.choices(hint))
    return ""


def _origin(path: Any) -> str:
    return "comes with Limner" if path.is_relative_to(SHIPPED) else str(path)


def _table(rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their longest entry; the last as wide as it likes."""
    lines = [tuple(str(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
