"""What the command line changes in a workflow before it runs: `--params`, `--set`, `--set-file` and `--seed`."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..files import reason, write
from ..graph import BadValue, Graph, Link, coerced, near
from ..schema import SEED_LIMIT, Choice, Input, InputFile, Registry, Seed
from ..workflow import Api, Document, api, is_link

if TYPE_CHECKING:
    from ..host import Host

SPAN = re.compile(r"(-?\d+)\.\.(-?\d+)")
MOST_RUNS = 10_000
SIZE = re.compile(r"(?i)\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*")

Place = tuple[str, str]  # a node and its input


@dataclass(frozen=True, slots=True)
class Change:
    """Inputs that take the same value, and the values that they are to take, one run each."""

    places: tuple[Place, ...]
    values: tuple[Any, ...]


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
    changes = _settled(list(_changes(nodes, host, options)))
    if math.prod(len(change.values) for change in changes) > MOST_RUNS:
        raise UsageError(f"these settings make more than {MOST_RUNS} runs")
    found: list[Variant] = []
    for values in itertools.product(*(change.values for change in changes)):
        made = {place: value for change, value in zip(changes, values, strict=True) for place in change.places}
        told = drawn | {f"{node_id}.{name}": value for (node_id, name), value in made.items()}
        written = _written(document, made, nodes)
        found.append(Variant(told, written, host.lowered(written)))
    return found


def size(text: str | None) -> int | None:
    """Bytes from "6GB" or "800MB"."""
    if text is None:
        return None
    match = SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a size such as 6GB or 800MB")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " "))


def _changes(nodes: Graph, host: Host, options: argparse.Namespace) -> Iterator[Change]:
    registry = host.registry
    if options.params is not None:
        for key, value in _params(options.params).items():
            place, spec = _place(key, nodes, registry)
            values = value if isinstance(value, list) else [value]
            if not values:
                raise UsageError(f"{options.params}: the list of values for {key} is empty")
            yield Change((place,), tuple(_coerced(key, spec, v) for v in values))
    if options.seed is not None:
        places = {
            (node_id, spec.name): spec
            for node_id, instance in nodes.items()
            for spec in _seeds(instance.type, registry)
            if not isinstance(instance.inputs.get(spec.name), Link)
        }
        if not places:
            raise UsageError("--seed: the workflow has no seed that can be set")
        yield Change(tuple(places), _several("--seed", next(iter(places.values())), options.seed))
    for text in options.set:
        key, value = _halves(text, "--set")
        place, spec = _place(key, nodes, registry)
        yield Change((place,), _several(key, spec, value))
    for text in options.set_file:
        key, name = _halves(text, "--set-file")
        place, spec = _place(key, nodes, registry)
        found = _copied(Path(name), host) if isinstance(spec.hint, InputFile) else _text(Path(name)).removesuffix("\n")
        yield Change((place,), (_coerced(key, spec, found),))


def _settled(changes: list[Change]) -> list[Change]:
    """The same, where each place is changed once: later ones win."""
    taken: set[Place] = set()
    found: list[Change] = []
    for change in reversed(changes):
        places = tuple(place for place in change.places if place not in taken)
        taken.update(places)
        if places:
            found.append(replace(change, places=places))
    return found[::-1]


def _seeds(kind: str, registry: Registry) -> Iterator[Input]:
    node = registry.get(kind)
    return (spec for spec in (node.inputs if node else ()) if isinstance(spec.hint, Seed))


def _drawn(document: Document, registry: Registry) -> tuple[Document, dict[str, int]]:
    """The document with a seed drawn for each node that wants one before a run, and these seeds.

    Such a node is not `randomize` any more: a picture that carries the document is to be made again as it was.
    """
    seeds: dict[str, int] = {}

    def settled(graph: Api, within: str) -> Api:
        return {i: _with_seeds(f"{within}{i}", entry, registry, seeds) for i, entry in graph.items()}

    definitions = {k: {**d, "graph": settled(d["graph"], f"{k}:")} for k, d in document.definitions.items()}
    return replace(document, graph=settled(document.graph, ""), definitions=definitions), seeds


def _with_seeds(node_id: str, entry: Mapping[str, Any], registry: Registry, seeds: dict[str, int]) -> Mapping[str, Any]:
    meta, inputs = entry.get("_meta", {}), entry.get("inputs", {})
    if meta.get("control") != "randomize":
        return entry
    free = [spec.name for spec in _seeds(entry["class_type"], registry) if not is_link(inputs.get(spec.name))]
    drawn = {name: secrets.randbelow(SEED_LIMIT + 1) for name in free}
    seeds |= {f"{node_id}.{name}": seed for name, seed in drawn.items()}
    return {**entry, "inputs": {**inputs, **drawn}, "_meta": {k: v for k, v in meta.items() if k != "control"}}


def _several(key: str, spec: Input, text: str) -> tuple[Any, ...]:
    """The values in "1..8", "5,7.5" or "euler,heun"; a text is one value, whatever stands in it."""
    if isinstance(spec.hint, Seed) and text == "random":
        return (secrets.randbelow(SEED_LIMIT + 1),)
    if spec.type is str and not isinstance(spec.hint, Choice):
        return (_coerced(key, spec, text),)
    parts: list[Any] = []
    for part in text.split(","):
        span = SPAN.fullmatch(part.strip())
        if span is not None and spec.type is int:
            first, last = int(span[1]), int(span[2])
            if abs(last - first) >= MOST_RUNS:
                raise UsageError(f"{key}: {part} is more than {MOST_RUNS} values")
            parts += range(first, last + 1) if first <= last else range(first, last - 1, -1)
        else:
            parts.append(part.strip())
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
    if name in nodes:
        found = [name]
    else:
        found = [i for i, n in nodes.items() if name in (n.title, n.type, n.type.rpartition(".")[2])]
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


def _params(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(_text(path))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} must hold an object of settings, as {{'sample.seed': 1}}")
    return data


def _halves(text: str, flag: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{flag} takes KEY=VALUE, not {text!r}")
    return key.strip(), value


def _copied(path: Path, host: Host) -> str:
    """The name of a copy in the folder `input`, where nodes look for pictures: of its content, so made once."""
    content = _bytes(path)
    name = f"{path.stem}-{sha256(content).hexdigest()[:8]}{path.suffix}"
    write(host.folders.inputs / name, content)
    return name


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason(error)}") from None


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode()
    except UnicodeError:
        raise UsageError(f"{path} is not text in UTF-8") from None
