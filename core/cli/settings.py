"""What the command line changes in a workflow before it runs: `--params`, `--set`, `--set-file` and `--seed`."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..files import reason
from ..graph import BadValue, Graph, Link, coerced, near
from ..schema import SEED_LIMIT, Choice, Input, Registry, Seed

SPAN = re.compile(r"(-?\d+)\.\.(-?\d+)")
MOST_RUNS = 10_000
SIZE = re.compile(r"(?i)\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*")


@dataclass(frozen=True, slots=True)
class Change:
    """An input, and the values it is to take, one run each."""

    node: str
    input: str
    values: tuple[Any, ...]


def variants(nodes: Graph, registry: Registry, options: argparse.Namespace) -> list[tuple[dict[str, Any], Graph]]:
    """The graphs to run, each with what was set in it: the product of all values that were given."""
    changes = {(c.node, c.input): c for c in _changes(nodes, registry, options)}  # later ones win
    found: list[tuple[dict[str, Any], Graph]] = []
    for values in itertools.product(*(c.values for c in changes.values())):
        if len(found) == MOST_RUNS:
            raise UsageError(f"these settings make more than {MOST_RUNS} runs")
        made = dict(zip(changes, values, strict=True))
        found.append(({f"{n}.{i}": v for (n, i), v in made.items()}, _changed(nodes, made)))
    return found


def size(text: str | None) -> int | None:
    """Bytes from "6GB" or "800MB"."""
    if text is None:
        return None
    match = SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a size such as 6GB or 800MB")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " "))


def _changes(nodes: Graph, registry: Registry, options: argparse.Namespace) -> Iterator[Change]:
    if options.params is not None:
        for key, value in _params(options.params).items():
            node_id, spec = _place(key, nodes, registry)
            values = value if isinstance(value, list) else [value]
            yield Change(node_id, spec.name, tuple(_coerced(key, spec, v) for v in values))
    if options.seed is not None:
        for node_id, instance in nodes.items():
            for spec in registry[instance.type].inputs if instance.type in registry else ():
                if isinstance(spec.hint, Seed) and not isinstance(instance.inputs.get(spec.name), Link):
                    yield Change(node_id, spec.name, _several("--seed", spec, options.seed))
    for text in options.set:
        key, value = _halves(text, "--set")
        node_id, spec = _place(key, nodes, registry)
        yield Change(node_id, spec.name, _several(key, spec, value))
    for text in options.set_file:
        key, name = _halves(text, "--set-file")
        node_id, spec = _place(key, nodes, registry)
        yield Change(node_id, spec.name, (_coerced(key, spec, _text(Path(name)).removesuffix("\n")),))


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


def _place(key: str, nodes: Graph, registry: Registry) -> tuple[str, Input]:
    """The node and input that KEY means: by id, or by a title or type that only one node has."""
    name, dot, wanted = key.rpartition(".")
    if not dot:
        raise UsageError(f"{key!r} must be ID.input, as {next(iter(nodes), 'sample')}.seed")
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
    return found[0], spec


def _changed(nodes: Graph, values: Mapping[tuple[str, str], Any]) -> Graph:
    found = dict(nodes)
    for (node_id, name), value in values.items():
        found[node_id] = replace(found[node_id], inputs={**found[node_id].inputs, name: value})
    return found


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


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason(error)}") from None
    except UnicodeError:
        raise UsageError(f"{path} is not text in UTF-8") from None
