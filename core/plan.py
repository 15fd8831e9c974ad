"""From a valid graph to the steps of one run, each with the keys its result is cached under.  Pure; not recursive."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from .graph import Graph, Link, Value, ancestors, coerced, order, renamed
from .schema import FileHint, InputFile, ModelFile, Node, Registry


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What stands for a file in a key."""

    text: str
    settled: bool = True  # False: a stand-in, until the content's hash is known


PLAIN = (str, int, float, bool, list, dict, type(None))  # JSON

Fingerprints = Callable[[FileHint, str], Fingerprint]  # of the file that an input names
Contents = Callable[[str], Fingerprint | None]  # of the file that a stand-in names; None: it has changed since
Salt = Callable[[Node[..., object]], str | None]  # what else a stored result depends on; None: not to be stored
Grown = Callable[[Graph, "dict[str, Step]"], None]  # adds to the steps given those of a graph that leads into them


@dataclass(frozen=True, slots=True)
class Step:
    """One node of a run, with everything it is given."""

    id: str
    node: Node[..., object]
    inputs: Mapping[str, Value | Link]  # defaults filled in but for foreign nodes, values of their declared types
    key: str  # names the result in this process: equal keys, equal results
    stored_key: str | None  # names it on disk; None: not to be stored, or a hash is awaited
    settled: bool  # whether every file above it is named by its content
    cached: bool  # whether its result may be kept: no node's that always runs, and none below one


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps that `targets` need, each after what it depends on."""

    steps: Mapping[str, Step]
    targets: tuple[str, ...]
    files: Mapping[tuple[FileHint, str], Fingerprint]  # of every file that a step names
    graph: Graph  # that was planned
    registry: Registry
    grown: Grown  # the steps of nodes that a node of this plan puts in its own place


def by_name(hint: FileHint, value: str) -> Fingerprint:
    """The fingerprint of a host that has no files: the name."""
    return Fingerprint(f"{hint}:{value}")


def plan(
    graph: Graph,
    registry: Registry,
    targets: Iterable[str],
    fingerprints: Fingerprints = by_name,
    salt: Salt = lambda _: None,
) -> Plan:
    """What has to be looked at to have `targets`.  Nothing else is run."""
    targets = tuple(targets)
    needed = ancestors(graph, targets)
    steps: dict[str, Step] = {}
    files = _Files(fingerprints)

    def grown(added: Graph, steps: dict[str, Step]) -> None:
        for node_id in order(added):
            node = registry[added[node_id].type]
            steps[node_id] = _keyed(node_id, node, _filled(node, renamed(added[node_id], registry)), steps, files, salt)

    grown({i: graph[i] for i in graph if i in needed}, steps)
    return Plan(steps, targets, files, graph, registry, grown)


def _filled(node: Node[..., object], given: Mapping[str, Value | Link]) -> dict[str, Value | Link]:
    """What a node is given.  A foreign one has defaults of its own for what is left out."""
    inputs: dict[str, Value | Link] = {}
    for spec in node.inputs:
        if spec.hidden or (node.pack and spec.name not in given):
            continue
        value = given.get(spec.name, spec.default)
        inputs[spec.name] = value if isinstance(value, Link) else coerced(spec, value)
    if node.open:
        inputs |= {name: value for name, value in given.items() if name not in inputs}
    return inputs


def resettled(planned: Plan, contents: Contents, salt: Salt) -> dict[str, Step]:
    """The steps whose files are now all known by their content, with the keys that this gives them."""
    steps: dict[str, Step] = {}
    files = {place: found if found.settled else contents(found.text) or found for place, found in planned.files.items()}
    for step in planned.steps.values():
        steps[step.id] = step if step.settled else _keyed(step.id, step.node, step.inputs, steps, files, salt)
    return {i: step for i, step in steps.items() if step.settled and not planned.steps[i].settled}


class _Files(dict[tuple[FileHint, str], Fingerprint]):
    """Fingerprints, each asked for once: in one plan a file is one thing."""

    __slots__ = ("_fingerprints",)

    def __init__(self, fingerprints: Fingerprints) -> None:
        self._fingerprints = fingerprints

    def __missing__(self, place: tuple[FileHint, str]) -> Fingerprint:
        self[place] = found = self._fingerprints(*place)
        return found


def _keyed(  # noqa: PLR0913 - everything that a key is made of
    node_id: str,
    node: Node[..., object],
    inputs: Mapping[str, Value | Link],
    steps: Mapping[str, Step],
    files: Mapping[tuple[FileHint, str], Fingerprint],
    salt: Salt,
) -> Step:
    """Keys are hashes of a result's whole history: this node, its settings, and the keys of its inputs.

    A node's id and its place on the canvas are not part of them, so two nodes set up alike share a result.
    A model's name is part of the first key, not of the stored one: what is made of it in memory knows its path.
    """
    settled, cached = True, node.cached
    extra = salt(node) if node.cached else None
    recipe: dict[str, object] = {}
    stored: dict[str, object] = {}
    hints = {spec.name: spec.hint for spec in node.inputs}
    for name, value in inputs.items():
        hint = hints.get(name)
        if isinstance(value, Link):
            above = steps[value.node]
            settled &= above.settled
            cached &= above.cached and not isinstance(hint, ModelFile | InputFile)  # which file is not known yet
            recipe[name] = ["from", above.key, value.output]
            stored[name] = ["from", above.stored_key, value.output]
            if above.stored_key is None:
                extra = None
        elif isinstance(hint, ModelFile | InputFile) and isinstance(value, str):
            fingerprint = files[hint, value]
            settled &= fingerprint.settled
            stored[name] = ["file", fingerprint.text]
            recipe[name] = ["file", fingerprint.text, value if isinstance(hint, ModelFile) else ""]
        elif isinstance(value, PLAIN):
            recipe[name] = stored[name] = ["value", value]
        else:  # from a foreign node that has built a graph around it
            recipe[name], cached = ["object", id(value)], False
    head: list[object] = [node.id, node.version]
    if node.by_id:
        head.append(node_id)
    if node.fingerprint is not None:
        said = node.fingerprint(**{name: None if isinstance(v, Link) else v for name, v in inputs.items()})
        head.append(said)
        cached &= said is not None
    return Step(
        id=node_id,
        node=node,
        inputs=inputs,
        key=_hash([*head, recipe]),
        stored_key=_hash([*head, extra, stored]) if extra is not None and settled else None,
        settled=settled,
        cached=cached,
    )


def _hash(recipe: object) -> str:
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return blake2b(text.encode(), digest_size=16).hexdigest()
