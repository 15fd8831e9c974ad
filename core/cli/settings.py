"""What the command line changes in a workflow before it runs: `--params`, `--set`, `--set-file` and `--seed`."""

from __future__ import annotations

import argparse
import itertools
import math
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import strict_json
from ..errors import UsageError
from ..files import reason, write
from ..graph import BadValue, Graph, Link, coerced, near
from ..schema import SEED_LIMIT, Choice, Input, InputFile, Registry, Seed
from ..workflow import Document, api

if TYPE_CHECKING:
    from ..host import Host

SPAN = re.compile(r"(-?\d+)\.\.(-?\d+)")
MOST_RUNS = 10_000

Place = tuple[str, str]  # a node and its input
Change = tuple[tuple[Place, ...], tuple[Any, ...]]  # inputs that take the same value, and the values, one run each


@dataclass(frozen=True, slots=True)
class Variant:
    """A graph to run."""

    made: Mapping[str, Any]  # what was set or drawn, by "node.input"
    document: Document  # with all that in it, for the pictures to carry
    graph: Graph


def variants(document: Document, host: Host, options: argparse.Namespace) -> list[Variant]:
    """What the options make of a workflow: the product of all values given, with the seeds drawn that are to be."""
    document, drawn = _drawn(document, host.registry)
    nodes = host.lowered(document)
    changes = list(_changes(nodes, host, options))
    last = {place: k for k, (places, _) in enumerate(changes) for place in places}  # the later ones win
    used = sorted({*last.values()})
    if math.prod(len(changes[k][1]) for k in used) > MOST_RUNS:
        raise UsageError(f"these settings make more than {MOST_RUNS} runs")
    found: list[Variant] = []
    for values in itertools.product(*(changes[k][1] for k in used)):
        taken = dict(zip(used, values, strict=True))
        made = {place: taken[k] for place, k in last.items()}
        told = drawn | {".".join(place): value for place, value in made.items()}
        written = _written(document, made, nodes)
        found.append(Variant(told, written, host.lowered(written)))
    return found


def _changes(nodes: Graph, host: Host, options: argparse.Namespace) -> Iterator[Change]:
    """What is asked for, the later ones of which win."""
    for key, value in _params(options.params).items():
        place, spec = _place(key, nodes, host.registry)
        values = value if isinstance(value, list) else [value]
        if not values:
            raise UsageError(f"{options.params}: the list of values for {key} is empty")
        yield (place,), tuple(_coerced(key, spec, v) for v in values)
    if options.seed is not None:
        free = {(i, spec.name): spec for i, n in nodes.items() for spec in _seeds(n.type, n.inputs, host.registry)}
        if not free:
            raise UsageError("--seed: the workflow has no seed that can be set")
        yield tuple(free), _several("--seed", next(iter(free.values())), options.seed)
    for key, value in _pairs(options.set, "--set"):
        place, spec = _place(key, nodes, host.registry)
        yield (place,), _several(key, spec, value)
    for key, name in _pairs(options.set_file, "--set-file"):
        place, spec = _place(key, nodes, host.registry)
        found = _copied(Path(name), host) if isinstance(spec.hint, InputFile) else _text(Path(name)).removesuffix("\n")
        yield (place,), (_coerced(key, spec, found),)


def _seeds(kind: str, inputs: Mapping[str, Any], registry: Registry) -> list[Input]:
    """The seeds of a node that nothing is plugged into."""
    specs = registry[kind].inputs if kind in registry else ()
    plugged = {name for name, value in inputs.items() if isinstance(value, Link | list)}  # a list is a link in a file
    return [spec for spec in specs if isinstance(spec.hint, Seed) and spec.name not in plugged]


def _drawn(document: Document, registry: Registry) -> tuple[Document, dict[str, int]]:
    """The document with a seed drawn for each node that wants one before a run, and these seeds.

    Such a node is not `randomize` any more: a picture that carries the document is to be made again as it was.
    """
    document = deepcopy(document)
    drawn: dict[str, int] = {}
    graphs: dict[str, Any] = {"": document.graph} | {f"{k}:": d["graph"] for k, d in document.definitions.items()}
    for within, graph in graphs.items():
        for node_id, entry in graph.items():
            if entry.get("_meta", {}).get("control") == "randomize":
                del entry["_meta"]["control"]
                inputs = entry.setdefault("inputs", {})
                for spec in _seeds(entry["class_type"], inputs, registry):
                    drawn[f"{within}{node_id}.{spec.name}"] = inputs[spec.name] = secrets.randbelow(SEED_LIMIT + 1)
    return document, drawn


def _several(key: str, spec: Input, text: str) -> tuple[Any, ...]:
    """The values in "1..8", "5,7.5" or "euler,heun"; a text is one value, whatever stands in it."""
    if isinstance(spec.hint, Seed) and text == "random":
        return (secrets.randbelow(SEED_LIMIT + 1),)
    if spec.type is str and not isinstance(spec.hint, Choice):
        return (_coerced(key, spec, text),)
    parts: list[Any] = []
    for part in map(str.strip, text.split(",")):
        span = SPAN.fullmatch(part) if spec.type is int else None
        if span is None:
            parts.append(part)
            continue
        first, last = int(span[1]), int(span[2])
        if abs(last - first) >= MOST_RUNS:
            raise UsageError(f"{key}: {part} is more than {MOST_RUNS} values")
        parts += range(first, last + 1) if first <= last else range(first, last - 1, -1)
    return tuple(_coerced(key, spec, part) for part in parts)


def _coerced(key: str, spec: Input, value: Any) -> Any:
    if not spec.is_widget:
        raise UsageError(f"{key} takes {spec.wire} from another node, and cannot be set")
    try:
        return coerced(spec, value)
    except BadValue as bad:
        raise UsageError(f"{key}: {bad}") from None


def _place(key: str, nodes: Graph, registry: Registry) -> tuple[Place, Input]:
    """The node and input that KEY means: by id, or by a title or type that only one node has."""
    name, dot, wanted = key.rpartition(".")
    if not dot:
        having = (i for i, n in nodes.items() if n.type in registry and registry[n.type].input(key))
        raise UsageError(f"{key!r} must be ID.input, as {next(having, 'sample')}.{key}")
    named = (i for i, n in nodes.items() if name in (n.title, n.type, n.type.rpartition(".")[2]))
    found = [name] if name in nodes else list(named)
    if not found:
        raise UsageError(f"there is no node {name!r}; there are: {', '.join(nodes)}{near(name, nodes)}")
    if len(found) > 1:
        raise UsageError(f"{name!r} is what several nodes are called: say {' or '.join(found)}")
    node = registry.get(nodes[found[0]].type)
    if node is None:
        raise UsageError(f"{key}: there is no node type {nodes[found[0]].type!r}")
    spec = node.input(wanted)
    if spec is None:
        names = [i.name for i in node.inputs if i.is_widget]
        raise UsageError(f"{found[0]} has no input {wanted!r}; it has: {', '.join(names)}{near(wanted, names)}")
    if isinstance(link := nodes[found[0]].inputs.get(spec.name), Link):
        raise UsageError(f"{key} is plugged into {link.node}: set it there")
    return (found[0], spec.name), spec


def _written(document: Document, values: Mapping[Place, Any], nodes: Graph) -> Document:
    """The document with `values` in it.  An instance of a definition has no place for them: it is opened."""
    if not all(node_id in document.graph for node_id, _ in values):
        document = Document(api(nodes), requires=document.requires)
    graph = dict(document.graph)
    for (node_id, name), value in values.items():
        graph[node_id] = {**graph[node_id], "inputs": {**graph[node_id].get("inputs", {}), name: value}}
    return replace(document, graph=graph)


def _params(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        data = strict_json.loads(_bytes(path))
    except ValueError as error:
        raise UsageError(f"{path} {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} must hold an object of settings, as {{'sample.seed': 1}}")
    return data


def _pairs(texts: Iterable[str], word: str) -> Iterator[tuple[str, str]]:
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{word} takes KEY=VALUE, not {text!r}")
        yield key.strip(), value


def _copied(path: Path, host: Host) -> str:
    """The name of a copy in the folder `input`, where nodes look for pictures: of its content, so made once."""
    content = _bytes(path)
    name = f"{path.stem}-{sha256(content).hexdigest()[:8]}{path.suffix}"
    write(host.folders.inputs / name, content)
    return name


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode()
    except UnicodeError:
        raise UsageError(f"{path} is not text in UTF-8") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason(error)}") from None
