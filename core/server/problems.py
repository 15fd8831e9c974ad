"""What is wrong with a graph, as JSON: the node, the input, what was found there and what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..graph import Problem

EXPECTED: Mapping[str, str] = {
    "unknown_node": "a type of node that is installed here",
    "unknown_input": "an input that {type} has",
    "missing_value": "{wire}",
    "not_plugged_in": "a link from an output of type {wire}",
    "value_for_socket": "a link from an output of type {wire}",
    "no_such_node": "a node of this graph",
    "no_such_output": "an output below {count}",
    "wrong_wire": "{wire}",
    "wrong_type": "{wire}",
    "out_of_range": "{low} to {high}",
    "not_a_choice": "one of: {options}",
    "no_such_file": "one of: {options}",
    "refused": "what the node accepts",
    "loop": "no way back to the node itself",
    "nothing_to_do": "a node that saves or shows something",
}
SENTENCES: Mapping[str, str] = {  # where the usual one speaks of the command line
    "nothing_to_do": "the workflow has no node that saves or shows anything: add one, or name one in `targets`",
}
NOTHING = {"missing_value", "not_plugged_in", "loop", "nothing_to_do", "refused"}  # there is nothing that was found


def told(problem: Problem) -> dict[str, Any]:
    """One problem."""
    values = dict(problem.values)
    return {
        "node": problem.node,
        "input": problem.input,
        "code": problem.code,
        "message": SENTENCES.get(problem.code, problem.message),
        "found": None if problem.code in NOTHING else values.get("found", problem.input),
        "expected": EXPECTED[problem.code].format(**values) if problem.code in EXPECTED else None,
    }


def sentence(problem: Problem) -> str:
    """One problem, for people: where it is, and what."""
    return SENTENCES.get(problem.code) or str(problem)


def all_told(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """All of them."""
    return [told(problem) for problem in problems]
