"""The message catalogue: every sentence that Limner says to people about a graph, by its code."""

from __future__ import annotations

from collections.abc import Mapping

ENGLISH: Mapping[str, str] = {
    "unknown_node": "there is no node type {found!r}{near}",
    "unknown_input": "{type} has no such input{near}",
    "missing_value": "needs a value ({wire})",
    "not_plugged_in": "needs a {wire} plugged in",
    "value_for_socket": "takes a {wire} from another node, not the value {found}",
    "no_such_node": "is plugged into the node {found!r}, which is not in the graph",
    "no_such_output": "is plugged into output {found} of {above!r}, which has {count}",
    "wrong_wire": "takes {wire}, not {found}",
    "wrong_type": "takes {wire}, not {found}",
    "out_of_range": "must be from {low} to {high}, not {found}",
    "not_a_choice": "is {found!r}, but must be one of: {options}{near}",
    "no_such_file": "there is no {found!r} in {folder}, which has: {options}{near}",
    "refused": "{reason}",
    "loop": "is part of a loop",
    "nothing_to_do": "the workflow has no node that saves or shows anything: add one, or name one with --only",
}


def say(code: str, **values: str) -> str:
    """The sentence of `code`, with its blanks filled in."""
    return ENGLISH[code].format(**values)
