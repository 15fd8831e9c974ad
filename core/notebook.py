"""Graphs built, run and looked at from Python: every node is a method, every output a socket to plug in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import pictures, workflow
from .errors import UsageError
from .event import Event, Failed, Finished, Stopped
from .explain import Explained
from .files import replacing, write
from .graph import Instance, Link, Problem, near
from .host import ALL, Host, Settings
from .schema import Node
from .values import Image

if TYPE_CHECKING:
    from torch import Tensor


class Graph:
    """A workflow under construction.  `graph.EncodeText(clip, "a cat")` places a node.

    A node of one output gives its `Socket`, a node of several a tuple of them.  A socket's `run()` gives its value.
    """

    def __init__(self, base: Path | str | None = None, *, host: Host | None = None, **settings: Any) -> None:
        """Start with nothing.  `base` and `settings` (device, dtype, vram_budget ...) are those of `host.Settings`."""
        self._host = host or _host(Settings(base=None if base is None else Path(base), **settings))
        self._nodes: dict[str, Instance] = {}

    @classmethod
    def open(cls, path: Path | str, base: Path | str | None = None, **options: Any) -> Graph:
        """The graph in a workflow file, in a picture that carries one, or that comes along under this name."""
        graph = cls(base, **options)
        graph._nodes = dict(graph._host.lowered(graph._host.read(Path(path))))
        return graph

    def __getattr__(self, name: str) -> Any:
        """A function that places a node of type `name`."""
        if name.startswith("_"):  # what a copy asks for before it has anything
            raise AttributeError(name)
        node = next((n for n in self._host.registry.values() if n.name == name), None)
        if node is None:
            names = [n.name for n in self._host.registry.values()]
            raise AttributeError(f"there is no node type {name!r}{near(name, names)}")

        @wraps(node.function)  # its signature and its help
        def place(*values: Any, **inputs: Any) -> Socket | tuple[Socket, ...]:
            names = [spec.name for spec in node.inputs[: len(values)]]
            if len(names) < len(values) or not inputs.keys().isdisjoint(names):
                raise TypeError(f"{node.name} takes {', '.join(spec.name for spec in node.inputs)}, each once")
            return self._placed(node, dict(zip(names, values, strict=True)) | inputs)

        return place

    def __getitem__(self, node_id: str) -> Socket | tuple[Socket, ...]:
        """The output of a node that is there already, or all of them."""
        outputs = self._host.registry[self._instance(node_id).type].outputs
        sockets = tuple(Socket(self, Link(node_id, k), output.wire) for k, output in enumerate(outputs))
        return sockets[0] if len(sockets) == 1 else sockets

    def set(self, node_id: str, **inputs: Any) -> None:
        """Change what is set or plugged into a node."""
        before = self._instance(node_id)
        given = _given(self._host.registry[before.type], inputs)
        self._nodes[node_id] = replace(before, inputs={**before.inputs, **given})

    def run(self, *only: str, forced: bool = False) -> list[Path]:
        """Run what delivers something, or the nodes named; the paths of what was saved.  Raises what a node raised."""
        events = self._events(only, forced)
        return [Path(path) for event in events if isinstance(event, Finished) for path in event.files]

    def problems(self) -> list[Problem]:
        """Everything that stops the graph from running."""
        return self._host.problems(self._nodes)

    def explain(self, *only: str) -> list[Explained]:
        """Which nodes would run, and why."""
        return self._host.explained(self._nodes, "", only or tuple(self._nodes))

    def save(self, path: Path | str) -> None:
        """Write the graph as a workflow file."""
        write(Path(path), workflow.dumps(workflow.Document(workflow.api(self._nodes))))

    def __dir__(self) -> list[str]:
        """The node types too, so that a notebook can complete them."""
        return [*super().__dir__(), *(node.name for node in self._host.registry.values())]

    def __repr__(self) -> str:
        lines = (
            f"  {i}: {n.type}({', '.join(f'{k}={_shown(v)}' for k, v in n.inputs.items())})"
            for i, n in self._nodes.items()
        )
        return "\n".join(["Graph", *lines])

    def _placed(self, node: Node[..., object], inputs: dict[str, Any]) -> Socket | tuple[Socket, ...]:
        stem = node.name[0].lower() + node.name[1:]
        names = (stem if k == 1 else f"{stem}{k}" for k in range(1, len(self._nodes) + 2))
        node_id = next(name for name in names if name not in self._nodes)
        self._nodes[node_id] = Instance(node.id, _given(node, inputs))
        return self[node_id]

    def _instance(self, node_id: str) -> Instance:
        if node_id not in self._nodes:
            raise KeyError(f"there is no node {node_id!r}; there are: {', '.join(self._nodes)}")
        return self._nodes[node_id]

    def _events(self, only: tuple[str, ...], forced: bool) -> Iterator[Event]:  # noqa: FBT001 - named by who calls
        run = self._host.run(self._nodes, "", only or None, ALL if forced else frozenset())
        for _, event in self._host.drive([run]):
            if isinstance(event, Failed):
                event.error.add_note(f"in the node {event.node!r} ({self._nodes[event.node].type})")
                raise event.error
            if isinstance(event, Stopped):
                raise KeyboardInterrupt
            yield event


class Socket:
    """An output of a node: plug it into another, or `run()` it."""

    def __init__(self, graph: Graph, link: Link, wire: str) -> None:
        self._graph, self.link, self.wire = graph, link, wire

    def run(self, *, forced: bool = False) -> Any:
        """Run what it needs; its value.  Pictures come as `Pictures`, which notebooks show."""
        outputs: tuple[object, ...] | None = None
        for event in self._graph._events((self.link.node,), forced):
            if isinstance(event, Finished) and event.node == self.link.node:
                outputs = event.outputs
        if outputs is None:
            raise UsageError(f"{self.link.node} did not run")
        value = outputs[self.link.output]
        return Pictures(value.pixels) if isinstance(value, Image) else value

    def __repr__(self) -> str:
        return f"{self.wire} of {self.link.node}"


class Pictures:
    """A batch of pictures, which a notebook shows side by side."""

    def __init__(self, pixels: Tensor) -> None:
        """Hold (B, H, W, 3) in [0, 1]."""
        self.pixels = pixels

    def save(self, path: Path | str) -> None:
        """Write them as one PNG, side by side."""
        with replacing(Path(path)) as temporary:
            pictures.write(temporary, self._row())

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, k: int | slice) -> Pictures:
        """Picture k by itself, or some of them."""
        found = self.pixels[k]
        return Pictures(found if isinstance(k, slice) else found[None])

    def __repr__(self) -> str:
        count, height, width, _ = self.pixels.shape
        return f"{count} picture{'s' if count > 1 else ''}, {width} x {height}"

    def _repr_png_(self) -> bytes:
        return pictures.png(self._row())

    def _row(self) -> Tensor:
        import torch

        return torch.cat(list(self.pixels), dim=1)  # (H, B W, 3)


@lru_cache(maxsize=1)
def _host(settings: Settings) -> Host:
    """One host for the graphs that are made one after the other, so that the next finds networks where they are."""
    from ..nodes import ALL as NODES

    return Host(NODES, settings)


def _given(node: Node[..., object], inputs: dict[str, Any]) -> dict[str, Any]:
    """What a graph notes of what is set and plugged into a node."""
    for name, value in inputs.items():
        if node.input(name) is None:
            names = [spec.name for spec in node.inputs]
            raise TypeError(f"{node.name} has no input {name!r}; it has: {', '.join(names)}{near(name, names)}")
        if isinstance(value, tuple):
            raise TypeError(f"{node.name}.{name}: the node plugged in has several outputs; name one of them")
    return {name: value.link if isinstance(value, Socket) else value for name, value in inputs.items()}


def _shown(value: Any) -> str:
    return value.node if isinstance(value, Link) else repr(value)
