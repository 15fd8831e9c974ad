"""What is wrong with a posted graph, as ComfyUI's clients are told: what can run all the same, and who is at fault."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ..catalogue import v1_input
from ..graph import Choices, Graph, Instance, Link, Problem, ancestors, loops, upstream
from ..schema import Registry
from ..workflow import graph

if TYPE_CHECKING:
    from ..host import Host

MOST_TOLD = 100  # outputs that an error names as its victims, and nodes of a loop
WORK = 1_000_000  # nodes looked at to find the outputs that errors spoil
LONGEST_LIST = 20  # choices that an error repeats

KINDS: Mapping[str, tuple[str, str]] = {  # a problem's code: ComfyUI's type of error, and a sentence
    "missing_value": ("required_input_missing", "Required input is missing"),
    "not_plugged_in": ("required_input_missing", "Required input is missing"),
    "value_for_socket": ("bad_linked_input", "Only a link can be given here"),
    "no_such_node": ("bad_linked_input", "The link leads to a node that is not there"),
    "no_such_output": ("bad_linked_input", "The link leads to an output that is not there"),
    "wrong_wire": ("return_type_mismatch", "The linked output is of another type"),
    "wrong_type": ("invalid_input_type", "The value is of another type"),
    "too_small": ("value_smaller_than_min", "The value is too small"),
    "too_big": ("value_bigger_than_max", "The value is too large"),
    "not_a_choice": ("value_not_in_list", "Value not in list"),
    "no_such_file": ("value_not_in_list", "Value not in list"),
    "loop": ("dependency_cycle", "The node depends on itself"),
    "unknown_input": ("unknown_input", "The node has no such input"),
}
REFUSED = ("custom_validation_failed", "The node refuses its input")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which outputs of a graph can run, and what stops the others."""

    good: tuple[str, ...]
    errors: Mapping[str, Any]  # by node, as a reply has them


def judged(host: Host, prompt: Mapping[str, Any], outputs: Sequence[str]) -> Verdict:
    """The verdict on the part of a graph that `outputs` need.  Takes linear time, and no stack."""
    nodes = graph(prompt)
    faults: defaultdict[str, list[Problem]] = defaultdict(list)
    for problem in host.problems(nodes, outputs):
        faults[problem.node].append(problem)
    if not faults:
        return Verdict(tuple(outputs), {})
    spoilt = _below(nodes, faults)
    victims = _victims(nodes, faults, [output for output in outputs if output in spoilt])
    told = Teller(host.registry, cache(host.folders.choices), nodes, _rounds(nodes))
    errors = {
        i: {
            "errors": [told.error(problem) for problem in found],
            "dependent_outputs": victims[i],
            "class_type": nodes[i].type,
        }
        for i, found in faults.items()
    }
    return Verdict(tuple(output for output in outputs if output not in spoilt), errors)


@dataclass(frozen=True, slots=True)
class Teller:
    """Puts problems into the form of ComfyUI's node errors."""

    registry: Registry
    choices: Choices
    nodes: Graph
    rounds: Mapping[str, str]  # the loop that a node is in, written out

    def error(self, problem: Problem) -> dict[str, Any]:
        """One problem.  Its details are our own sentence, which says what was found and what is wanted."""
        kind, sentence = KINDS.get(_code(problem), REFUSED)
        details = problem.message
        if kind == "required_input_missing":
            details = problem.input or ""
        elif problem.node in self.rounds and kind == "dependency_cycle":
            details = self.rounds[problem.node]
        elif problem.input:
            details = f"{problem.input} - {details}"
        return {"type": kind, "message": sentence, "details": details, "extra_info": self._extra(problem, kind)}

    def _extra(self, problem: Problem, kind: str) -> dict[str, Any]:
        if problem.input is None:
            return {}
        extra: dict[str, Any] = {"input_name": problem.input}
        if kind == "required_input_missing":
            return extra
        instance = self.nodes[problem.node]
        given = instance.inputs.get(problem.input)
        values = dict(problem.values)
        extra["input_config"] = self._config(instance, problem.input)
        if isinstance(given, Link):
            extra |= {"received_value": [given.node, given.output], "linked_node": [given.node, given.output]}
        elif given is not None:
            extra["received_value"] = given
        if kind == "return_type_mismatch":
            extra["received_type"] = values.get("found", "")
        elif kind == "invalid_input_type":
            extra["exception_message"] = problem.message
        return extra

    def _config(self, instance: Instance, name: str) -> list[Any] | None:
        """What the input takes; long lists are not repeated."""
        node = self.registry.get(instance.type)
        spec = node.input(name) if node else None
        if spec is None:
            return None
        config = v1_input(spec, self.choices)
        return None if isinstance(config[0], list) and len(config[0]) > LONGEST_LIST else config


def _code(problem: Problem) -> str:
    """The problem's code, with the two ways of being out of range told apart."""
    if problem.code != "out_of_range":
        return problem.code
    values = dict(problem.values)
    return "too_small" if float(values["found"]) < float(values["low"]) else "too_big"


def _below(nodes: Graph, faults: Iterable[str]) -> set[str]:
    """Everything that depends on a node that is at fault, with those themselves."""
    below: defaultdict[str, list[str]] = defaultdict(list)
    for node_id, instance in nodes.items():
        for above in upstream(instance):
            below[above].append(node_id)
    waiting = list(faults)
    found: set[str] = set()
    while waiting:
        node_id = waiting.pop()
        if node_id not in found:
            found.add(node_id)
            waiting += below[node_id]
    return found


def _victims(nodes: Graph, faults: Mapping[str, object], outputs: Sequence[str]) -> dict[str, list[str]]:
    """The outputs that each node at fault spoils; of very many in a large graph only the first are looked at."""
    found: dict[str, list[str]] = {i: [] for i in faults}
    most = max(1, min(MOST_TOLD, WORK // len(nodes)))
    for output in outputs[:most]:
        for node_id in ancestors(nodes, [output]) & faults.keys():
            found[node_id].append(output)
    for output in outputs[most:]:
        if output in found:
            found[output].append(output)
    return found


def _rounds(nodes: Graph) -> dict[str, str]:
    """For each node of a loop, one way round: "a -> b -> a"."""
    looped = set(loops(nodes))
    found: dict[str, str] = {}
    for start in looped:
        path: dict[str, None] = {}
        node_id = start
        while node_id not in path and node_id not in found:
            path[node_id] = None
            node_id = next(i for i in upstream(nodes[node_id]) if i in looped)
        if node_id in path:
            steps = [*path][[*path].index(node_id) :][::-1]
            text = " -> ".join([*steps[:MOST_TOLD], *(["..."] if len(steps) > MOST_TOLD else []), steps[0]])
        else:
            text = found[node_id]
        found |= dict.fromkeys(path, text)
    return found
