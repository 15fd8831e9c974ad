"""The commands that look and run nothing: params, validate, explain, nodes, models, cache and convert."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from .. import catalogue, pictures, workflow
from ..errors import UsageError
from ..files import write
from ..folders import MODEL_FOLDERS, SHIPPED
from ..graph import Link, near
from ..host import Host, Settings, workflow_file
from ..schema import REQUIRED, Choice, Input, InputFile, ModelFile, Range, Seed
from .settings import variants
from .show import settings as told

PICTURE = "picture"
FORMS = {".api.json": "prompt", ".ui.json": "workflow", ".json": "limner", ".png": PICTURE}  # the longest name first


def host(options: argparse.Namespace) -> Host:
    """The host that the options describe, those of them that are its settings."""
    from ...nodes import ALL

    names = {field.name for field in fields(Settings)}
    return Host(ALL, Settings(**{name: value for name, value in vars(options).items() if name in names}))


def answer(options: argparse.Namespace, data: object, text: str) -> None:
    """Say it: as data to a program, as text to a person."""
    print(json.dumps(data) if options.json else text)  # noqa: T201 - standard output is what a command answers


def explain(options: argparse.Namespace) -> None:
    """`limner explain`: HIT, MISS, RUN or SKIP and the reason, for each node."""
    here = host(options)
    scope = str(workflow_file(options.file).absolute())
    for variant in variants(here.read(options.file), here, options):
        rows = here.explained(variant.graph, scope, options.only, frozenset(options.force))
        table = _table((row.node, row.type, row.verdict, row.reason, row.key) for row in rows)
        text = f"{told(variant.made)}\n{table}" if variant.made else table
        answer(options, {"set": variant.made, "nodes": [asdict(row) for row in rows]}, text)
    if here.store and not (here.folders.cache / "environment.json").exists():
        print("what is stored on disk is not known before a first run on this device", file=sys.stderr)  # noqa: T201


def params(options: argparse.Namespace) -> None:
    """`limner params`: every value that can be set."""
    here = host(options)
    rows = [
        {"key": f"{i}.{spec.name}", "title": n.title, "type": spec.wire, "value": value, "range": _range(spec, here)}
        for i, n in here.lowered(here.read(options.file)).items()
        if n.type in here.registry
        for spec in here.registry[n.type].inputs
        if spec.is_widget and not isinstance(value := n.inputs.get(spec.name, spec.default), Link)
        if value is not REQUIRED
    ]
    cells = ((r["key"], r["type"], json.dumps(r["value"], ensure_ascii=False), r["range"]) for r in rows)
    answer(options, rows, _table(cells))


def validate(options: argparse.Namespace) -> int:
    """`limner validate`: everything that is wrong, on standard output; exit code 3 if there is anything."""
    here = host(options)
    found = here.problems(here.lowered(here.read(options.file)))
    data = [{**asdict(p), "values": dict(p.values), "message": p.message} for p in found]
    answer(options, data, "\n".join(map(str, found)) or f"{options.file} can run")
    return 3 if found else 0


def nodes(options: argparse.Namespace) -> None:
    """`limner nodes`: the catalogue, or one node of it."""
    registry = host(options).registry
    known = {node.name: node for node in registry.values()} | dict(registry)
    if options.node is None:
        rows = ((n.id, n.category, n.doc.splitlines()[0]) for n in registry.values())
        answer(options, catalogue.as_json(registry), _table(rows))
    elif options.node in known:
        node = known[options.node]
        answer(options, catalogue.described(node), catalogue.section(node))
    else:
        raise UsageError(f"there is no node {options.node!r}{near(options.node, known)}")


def models(options: argparse.Namespace) -> None:
    """`limner models`: what can be named, by folder."""
    folders = host(options).folders
    found = {folder: list(folders.choices(ModelFile(folder))) for folder in MODEL_FOLDERS}
    rows = ((f, name, _origin(folders.model(f, name))) for f, names in found.items() for name in names)
    answer(options, found, f"{_table(rows)}\nput your own into {folders.base / 'models'}/<folder>")


def cache(options: argparse.Namespace) -> None:
    """`limner cache`: how full it is, or clear it."""
    if (store := host(options).store) is None:
        return
    results, room, budget = store.info().values()
    if options.what == "clear":
        store.clear()
        print(f"cleared {results} results, {room / 1e6:.1f} MB")  # noqa: T201
    else:
        print(f"{results} results, {room / 1e6:.1f} of {budget / 1e6:.0f} MB, in {store.folder}")  # noqa: T201


def convert(options: argparse.Namespace) -> None:
    """`limner convert`: from whatever can be read to Limner's format, to ComfyUI's, or all of them into a picture."""
    here = host(options)
    forms = workflow.forms(here.read(options.file), here.sockets)
    form = next((form for suffix, form in FORMS.items() if options.to.name.endswith(suffix)), None)
    if form is None:
        raise UsageError(f"{options.to} must end in one of: {', '.join(FORMS)}")
    if form == PICTURE:
        texts = {name: json.dumps(data) for name, data in forms.items()}
        write(options.to, pictures.carrying(workflow_file(options.file), texts))
    else:
        write(options.to, workflow.text(forms[form]))
    print(options.to)  # noqa: T201


def _range(spec: Input, here: Host) -> str:
    match spec.hint:
        case Range(low, high):
            return f"{low:g}..{high:g}"
        case Seed(limit):
            return f"0..{limit}"
        case Choice() as options:
            return ", ".join(map(str, options))
        case ModelFile() | InputFile() as hint:
            return ", ".join(here.folders.choices(hint))
    return ""


def _origin(path: Path) -> str:
    return "comes with Limner" if path.is_relative_to(SHIPPED) else str(path)


def _table(rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their longest entry; the last as wide as it likes."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
