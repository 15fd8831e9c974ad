"""A workflow as data: node instances, and links between their sockets.  Nothing here is recursive."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

from .messages import say
from .schema import (
    ANY_WIRE,
    NAMESPACE,
    REQUIRED,
    Choice,
    FileHint,
    Input,
    InputFile,
    ModelFile,
    Node,
    Range,
    Registry,
    Seed,
)

LONGEST = 80  # characters of a wrong value that a message quotes

Value = Any  # a JSON value
Choices = Callable[[FileHint], Sequence[str]]  # the files that a drop-down offers now


@dataclass(frozen=True, slots=True)
class Link:
    """The output of another node, used as an input."""

    node: str
    output: int


@dataclass(frozen=True, slots=True)
class Instance:
    """A node as a graph places it: what it is, and what is set or plugged in."""

    type: str  # a node's id
    inputs: Mapping[str, Value | Link]
    title: str = ""  # what its owner calls it


Graph = Mapping[str, Instance]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a graph, and exactly where: the editor draws it there."""

    node: str
    input: str | None
    code: str  # of the sentence in the message catalogue
    values: tuple[tuple[str, str], ...] = ()

    @property
    def message(self) -> str:
        """The sentence."""
        return say(self.code, **dict(self.values))

    def __str__(self) -> str:
        where = f"{self.node}.{self.input}" if self.input else self.node
        return f"{where}: {self.message}"


class BadValue(ValueError):
    """A value that a widget cannot take: carries the problem's code and values."""

    def __init__(self, code: str, **values: object) -> None:
        self.code = code
        self.values = tuple((k, str(v)) for k, v in values.items())
        super().__init__(say(code, **dict(self.values)))


def problems(
    graph: Graph, registry: Registry, choices: Choices | None = None, within: Graph | None = None
) -> Iterator[Problem]:
    """Everything that stops `graph` from running, not just the first thing.  Takes linear time.

    Links may lead to any node of `within`, which is `graph` itself unless something is added to it.
    """
    held = _Held(within if within is not None else graph, registry, choices)
    for node_id, instance in graph.items():
        if (node := registry.get(instance.type)) is None:
            yield _unknown_type(node_id, instance.type, registry)
        else:
            yield from _node_problems(held, node_id, node, renamed(instance, registry))
    for node_id in loops(graph):
        yield _problem(node_id, None, "loop")


@dataclass(frozen=True, slots=True)
class _Held:
    """What a node is held against."""

    graph: Graph
    registry: Registry
    choices: Choices | None


def _node_problems(held: _Held, node_id: str, node: Node[..., object], given: Mapping[str, Any]) -> Iterator[Problem]:
    unchecked = node.unchecked() if node.unchecked else frozenset[str]()
    for spec in node.inputs:
        if not spec.hidden and not ({spec.name, "*"} & unchecked and spec.name in given):
            yield from _input_problems(held, node_id, spec, given.get(spec.name, spec.default))
    if node.namespace == NAMESPACE:  # files made for ComfyUI often say more than a node takes
        known = {spec.name for spec in node.inputs}
        for name in given:
            if name not in known:
                yield _problem(node_id, name, "unknown_input", type=node.id, near=near(name, known))
    if node.checks:
        yield from _refused(held, node_id, node, given)


def _refused(held: _Held, node_id: str, node: Node[..., object], given: Mapping[str, Any]) -> Iterator[Problem]:
    """What a foreign node itself has to say against its inputs."""
    constants = {
        spec.name: given[spec.name] for spec in node.inputs if not isinstance(given.get(spec.name), Link | None)
    }
    links = {name: _wire_of(held, value) for name, value in given.items() if isinstance(value, Link)}
    unchecked = node.unchecked() if node.unchecked else frozenset[str]()
    typed: dict[str, Any] = {}
    for name, value in constants.items():
        spec = node.input(name)
        try:
            typed[name] = coerced(spec, value) if spec else value
        except BadValue:
            if not {name, "*"} & unchecked:
                return  # it has been said
            typed[name] = value
    for name, reason in (node.checks(typed, links) if node.checks else {}).items():
        yield _problem(node_id, name, "refused", reason=reason)


def _wire_of(held: _Held, link: Link) -> str:
    above = held.registry.get(held.graph[link.node].type) if link.node in held.graph else None
    return above.outputs[link.output].wire if above and 0 <= link.output < len(above.outputs) else ANY_WIRE


def renamed(instance: Instance, registry: Registry) -> Mapping[str, Value | Link]:
    """The inputs of `instance` under the names that its node gives them today."""
    old = dict(registry[instance.type].renamed)
    return {old.get(name, name): value for name, value in instance.inputs.items()} if old else instance.inputs


def coerced(spec: Input, value: Value, choices: Choices | None = None) -> Value:
    """`value` as the type that `spec` declares, or a `BadValue` that says why not."""
    if not spec.is_widget or (value is None and spec.default is None):
        return value
    value = _typed(spec, value)
    match spec.hint:
        case Range(low, high) if not low <= value <= high:
            raise BadValue("out_of_range", low=low, high=high, found=value)
        case Seed(limit) if not 0 <= value <= limit:
            raise BadValue("out_of_range", low=0, high=limit, found=value)
        case Choice() as options if value not in options:
            words = [str(option) for option in options]
            raise BadValue(
                "not_a_choice", found=_brief(str(value)), options=", ".join(words), near=near(str(value), words)
            )
        case ModelFile() | InputFile() as hint if choices is not None and value not in (offered := choices(hint)):
            raise BadValue(
                "no_such_file",
                found=_brief(value),
                folder=_folder(hint),
                options=", ".join(offered) or "nothing",
                near=near(value, offered),
            )
    return value


def order(graph: Graph) -> tuple[str, ...]:
    """Node ids, each after everything it depends on.  Raises `graphlib.CycleError` where there is a loop."""
    return tuple(i for i in TopologicalSorter(_dependencies(graph)).static_order() if i in graph)


def loops(graph: Graph) -> Iterator[str]:
    """Every node of every loop, loop by loop: strongly connected components (Tarjan 1972), with a stack of our own."""
    above = _dependencies(graph)
    path: list[str] = []  # nodes of which it is not known yet whether they are in a loop
    back: dict[str, float] = {}  # the first place on the path that a node leads back to; inf: it has left the path
    for root in graph:
        stack: list[tuple[str, int, Iterator[str]]] = []
        new = root if root not in back else None
        while new is not None or stack:
            if new is not None:
                stack.append((new, len(path), iter(above[new])))
                back[new] = len(path)
                path.append(new)
            node_id, place, rest = stack[-1]
            new = next((i for i in rest if i in graph and i not in back), None)
            if new is None:
                stack.pop()
                back[node_id] = min([place, *(back.get(i, math.inf) for i in above[node_id])])
                if back[node_id] == place:
                    part = path[place:]
                    del path[place:]
                    back |= dict.fromkeys(part, math.inf)
                    if len(part) > 1 or node_id in above[node_id]:
                        yield from part


def upstream(instance: Instance) -> list[str]:
    """The nodes that `instance` takes something from."""
    return [value.node for value in instance.inputs.values() if isinstance(value, Link)]


def ancestors(graph: Graph, targets: Iterable[str]) -> set[str]:
    """`targets` and everything they need."""
    seen: set[str] = set()
    waiting = list(targets)
    while waiting:
        node_id = waiting.pop()
        if node_id not in seen and node_id in graph:
            seen.add(node_id)
            waiting += upstream(graph[node_id])
    return seen


def targets(graph: Graph, registry: Registry) -> tuple[str, ...]:
    """The nodes that deliver something: what a run is for."""
    return tuple(i for i, n in graph.items() if (node := registry.get(n.type)) is not None and node.delivers)


def near(word: str, known: Iterable[str]) -> str:
    """A hint at what was perhaps meant, as the end of a sentence; empty where nothing is alike."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {match[0]!r}?" if match else ""


def _dependencies(graph: Graph) -> dict[str, list[str]]:
    return {i: upstream(n) for i, n in graph.items()}


def _input_problems(held: _Held, node_id: str, spec: Input, given: Value | Link) -> Iterator[Problem]:
    if given is REQUIRED:
        yield _problem(node_id, spec.name, "missing_value" if spec.is_widget else "not_plugged_in", wire=spec.wire)
    elif isinstance(given, Link):
        yield from _link_problems(held, node_id, spec, given)
    elif not spec.is_widget:
        if given is not spec.default and spec.options is None:  # foreign types may be written down
            yield _problem(node_id, spec.name, "value_for_socket", wire=spec.wire, found=_brief(repr(given)))
    else:
        try:
            coerced(spec, given, held.choices)
        except BadValue as bad:
            yield Problem(node_id, spec.name, bad.code, bad.values)


def _link_problems(held: _Held, node_id: str, spec: Input, link: Link) -> Iterator[Problem]:
    if link.node not in held.graph:
        yield _problem(node_id, spec.name, "no_such_node", found=link.node)
    elif (node := held.registry.get(held.graph[link.node].type)) is not None:
        if not 0 <= link.output < len(node.outputs):
            yield _problem(
                node_id, spec.name, "no_such_output", above=link.node, found=link.output, count=len(node.outputs)
            )
        elif not fits(wire := node.outputs[link.output].wire, spec.wire):
            yield _problem(node_id, spec.name, "wrong_wire", wire=spec.wire, found=wire)


def fits(wire: str, socket: str) -> bool:
    """Whether an output of type `wire` may be plugged into `socket`; a whole number is a number as well.

    Types are unions where they have commas.  A foreign one may be a string that answers `!=` in its own way.
    """
    if not wire != socket or ANY_WIRE in (wire, socket) or (wire, socket) == ("INT", "FLOAT"):  # noqa: SIM202
        return True
    return ("," in wire or "," in socket) and bool(_parts(wire) & _parts(socket))


def _parts(wire: str) -> set[str]:
    return {part.strip() for part in wire.split(",")}


def _typed(spec: Input, value: Value) -> Value:
    if isinstance(spec.hint, Choice) and value in spec.hint:
        return value  # foreign choices may be numbers
    try:
        if spec.type is bool:
            return _boolean(value)
        if spec.type is str and isinstance(value, str | int | float):
            return str(value)
        if spec.type is int:
            return _whole(value)
        if spec.type is float and not isinstance(value, bool) and math.isfinite(number := float(value)):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise BadValue("wrong_type", wire=spec.wire, found=_brief(repr(value)))


def _boolean(value: Value) -> bool:
    words = {"true": True, "false": False}
    if isinstance(value, str):
        value = words.get(value.lower(), value)
    if value not in (0, 1):
        raise TypeError
    return bool(value)


def _whole(value: Value) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise TypeError
    return int(value)


def _brief(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _folder(hint: FileHint) -> str:
    return f"models/{hint.folder}" if isinstance(hint, ModelFile) else "input"


def _unknown_type(node_id: str, kind: str, registry: Registry) -> Problem:
    return _problem(node_id, None, "unknown_node", found=kind, near=near(kind, registry))


def _problem(node: str, name: str | None, code: str, **values: object) -> Problem:
    return Problem(node, name, code, tuple((k, str(v)) for k, v in values.items()))
