"""`comfy_execution.graph_utils`: how a node builds the graph that is to run in its place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from ...call import CALLING
from ...litegraph.lowering import is_link

__all__ = ["ExecutionBlocker", "GraphBuilder", "Node", "add_graph_prefix", "is_link"]

GRAPHS: ContextVar[Iterator[int]] = ContextVar("graphs")  # numbers the graphs that one call of a node builds

Link = list[Any]  # [node's id, output's index]


class ExecutionBlocker:
    """In place of a value: what depends on it does not run; with a message, that is an error that people see."""

    def __init__(self, message: str | None = None) -> None:
        self.message = message


class Node:
    """A node of a graph that is being built."""

    def __init__(self, id: str, class_type: str, inputs: dict[str, Any]) -> None:  # noqa: A002 - its name there
        self.id = id
        self.class_type = class_type
        self.inputs = inputs
        self.override_display_id: str | None = None

    def out(self, index: int) -> Link:
        """A link to one of its outputs."""
        return [self.id, index]

    def set_input(self, key: str, value: Any) -> None:
        """Set or plug in an input; None takes it away."""
        if value is None:
            self.inputs.pop(key, None)
        else:
            self.inputs[key] = value

    def get_input(self, key: str) -> Any:
        """What is set or plugged in."""
        return self.inputs.get(key)

    def set_override_display_id(self, override_display_id: str) -> None:
        """Have editors show what it does at another node."""
        self.override_display_id = override_display_id

    def serialize(self) -> dict[str, Any]:
        """The node in the API format."""
        shown = {} if self.override_display_id is None else {"override_display_id": self.override_display_id}
        return {"class_type": self.class_type, "inputs": dict(self.inputs)} | shown


class GraphBuilder:
    """A graph that is being built.  Ids are the same from run to run, and no other node's."""

    def __init__(self, prefix: str | None = None) -> None:
        self.prefix = self.alloc_prefix() if prefix is None else prefix
        self.nodes: dict[str, Node] = {}
        self._numbers = itertools.count(1)

    @classmethod
    def alloc_prefix(
        cls, root: str | None = None, call_index: int | None = None, graph_index: int | None = None
    ) -> str:
        """What the ids of the next graph of this call begin with."""
        calling = CALLING.get(None)
        if root is None:
            root = calling.node if calling else ""
        if call_index is None:
            call_index = calling.index if calling else 0
        if graph_index is None:
            graph_index = next(GRAPHS.get(itertools.count()))
        return f"{root}.{call_index}.{graph_index}."

    def node(self, class_type: str, id: str | None = None, **kwargs: Any) -> Node:  # noqa: A002 - its name there
        """Add a node, or have the one that was added under this id."""
        name = self.prefix + str(next(self._numbers) if id is None else id)
        if name not in self.nodes:
            self.nodes[name] = Node(name, class_type, {k: v for k, v in kwargs.items() if v is not None})
        return self.nodes[name]

    def lookup_node(self, id: str) -> Node | None:  # noqa: A002 - its name there
        """The node that was added under this id."""
        return self.nodes.get(self.prefix + id)

    def finalize(self) -> dict[str, Any]:
        """The graph in the API format."""
        return {node_id: node.serialize() for node_id, node in self.nodes.items()}

    def replace_node_output(self, node_id: str, index: int, new_value: Any) -> None:
        """Give those that take this output another value; None unplugs them."""
        old = [self.prefix + node_id, index]
        for node in self.nodes.values():
            for key in [key for key, value in node.inputs.items() if is_link(value) and list(value) == old]:
                node.set_input(key, new_value)

    def remove_node(self, id: str) -> None:  # noqa: A002 - its name there
        """Take a node away."""
        del self.nodes[self.prefix + id]


def add_graph_prefix(
    graph: Mapping[str, Any], outputs: tuple[Any, ...], prefix: str
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """A graph and links into it, with every id of the graph's under a prefix."""

    def moved(value: Any) -> Any:
        return [prefix + value[0], value[1]] if is_link(value) and value[0] in graph else value

    nodes = {
        prefix + node_id: {**entry, "inputs": {k: moved(v) for k, v in entry.get("inputs", {}).items()}}
        for node_id, entry in graph.items()
    }
    return nodes, tuple(moved(value) for value in outputs)
