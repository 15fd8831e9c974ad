"""What a front door sets up once: folders, cache and networks; and the way from a document to runs."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import environment
from .cache import Cache
from .errors import InvalidGraph, UsageError, WorkflowError
from .event import Event, Failed, Finished, Stopped
from .explain import Explained, explain, records
from .folders import Folders, default_base
from .graph import Graph, Problem, ancestors, near, problems, targets
from .litegraph.kinds import Sockets, sockets
from .messages import say
from .plan import Plan, Salt, plan, resettled
from .raw import wrapped
from .run import Run
from .schema import NAMESPACE, Context, ModelFile, Node, Registry
from .store import Store
from .workflow import Document, api, graph, lower, read

if TYPE_CHECKING:
    from .models.residency import Residency


ALL = frozenset({"*"})  # forced: every node
WORKFLOWS = Path(__file__).parent.parent / "workflows"  # those that come along


@dataclass(frozen=True, slots=True)
class Settings:
    """How a host computes, and where its files lie."""

    base: Path | None = None  # None: the platform's folder for a user's data
    device: str = "auto"  # auto, cpu, cuda or cuda:n
    dtype: str = "auto"  # auto, float32, float16 or bfloat16
    vram_budget: int | None = None  # bytes of networks on the device; None: what the device has
    disk_cache: bool = True
    output: Path | None = None  # None: the folder output of the base directory
    metadata: bool = True  # write the workflow into pictures
    folders: Folders | None = None  # None: those of the base directory
    cache_budget: int = 2 << 30  # bytes of results in memory
    cache_entries: float = math.inf  # and how many of them


class Host:
    """Documents in, runs out.  torch is loaded when the first run is made."""

    def __init__(self, registry: Registry, settings: Settings | None = None) -> None:
        """Make nothing yet, and open nothing."""
        self.registry = registry
        self.settings = settings or Settings()
        self.folders = self.settings.folders or Folders.at(self.settings.base or default_base())
        self.store = Store(self.folders.cache / "results") if self.settings.disk_cache else None
        self.cache = Cache(self.settings.cache_budget, self.store, self.settings.cache_entries)
        self._listeners: list[Callable[[object], None]] = []

    def listen(self, listener: Callable[[object], None]) -> None:
        """Have `listener` told of networks that are loaded and unloaded."""
        self._listeners.append(listener)

    @cached_property
    def networks(self) -> Residency:
        """Where networks are loaded and kept."""
        from .models.residency import Residency, resolve_device, resolve_dtype

        device = resolve_device(self.settings.device)
        dtype = resolve_dtype(self.settings.dtype, device)
        return Residency(device, dtype, self.settings.vram_budget, listener=self._heard)

    @cached_property
    def environment(self) -> environment.Environment:
        """What stored results depend on beside their graph."""
        import torch

        device, dtype = self.networks.device, self.networks.dtype
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        found = environment.described(name, str(dtype).removeprefix("torch."))
        environment.remember(self.folders.cache, self._asked, found)
        return found

    def lowered(self, document: Document) -> Graph:
        """The graph that a document stands for."""
        return graph(lower(document, self.sockets))

    def sockets(self, kind: str) -> Sockets | None:
        """What can be plugged in and out of a type of node."""
        node = self.registry.get(kind)
        return None if node is None else sockets(node)

    def read(self, path: Path) -> Document:
        """The workflow in a file, in a picture that carries one, or that comes along under this name."""
        document = read(workflow_file(path), self.sockets)
        for warning in document.warnings:
            logging.getLogger(NAMESPACE).warning("%s: %s", path, warning)
        return document

    def problems(self, nodes: Graph, only: Iterable[str] | None = None) -> list[Problem]:
        """What stops the targets from running.  What they do not need is not looked at."""
        wanted = tuple(nodes) if only is None else ancestors(nodes, only)
        return list(problems({i: nodes[i] for i in nodes if i in wanted}, self.registry, self.folders.choices))

    def planned(self, nodes: Graph, only: Sequence[str] | None = None, salt: Salt | None = None) -> Plan:
        """The plan of a graph's output nodes, or of the nodes named.  Raises `InvalidGraph`."""
        _check(only or (), nodes)
        wanted = tuple(only) if only else targets(nodes, self.registry)
        if found := self.problems(nodes, wanted or None):
            raise InvalidGraph(found)
        if not wanted:
            raise WorkflowError(say("nothing_to_do"))
        return plan(nodes, self.registry, wanted, self.folders.fingerprint, salt or (lambda _: None))

    def explained(
        self, nodes: Graph, scope: str, only: Sequence[str] | None = None, forced: frozenset[str] = frozenset()
    ) -> list[Explained]:
        """What would run, and why; loads neither torch nor networks."""
        known = environment.remembered(self.folders.cache, self._asked)
        planned = self.planned(nodes, only, environment.salted(known) if known else None)
        seen = self.store.seen(scope) if self.store else {}
        return explain(planned, self.cache, seen, _steps(forced, planned, nodes))

    def run(  # noqa: PLR0913 - what there is to say of a run
        self,
        nodes: Graph,
        scope: str = "",
        only: Sequence[str] | None = None,
        forced: frozenset[str] = frozenset(),
        document: Document | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Run:
        """A run of a graph, to be driven.  `document` and a client's `extra` are written into the pictures."""
        planned = self.planned(nodes, only, self._salt)
        steps = _steps(forced, planned, nodes)
        embedded = (document or Document(api(nodes))).as_json() if self.settings.metadata else None
        context = Context(
            networks=self.networks,
            library=self.folders,
            output=(self.settings.output or self.folders.output).absolute(),
            temp=self.folders.temp.absolute(),
            document=embedded,
            prompt=api(nodes) if self.settings.metadata else None,
            extra=extra,
        )
        return Run(planned, self.cache, context, steps, scope, adapted=wrapped)

    def drive(self, runs: Sequence[Run]) -> Iterator[tuple[int, Event]]:
        """Every event of every run, side by side; then results keyed by stand-ins get their files' hashes."""
        from .drive import drive

        finished: list[set[str]] = [set() for _ in runs]
        broken: set[int] = set()
        for k, event in drive(runs, self.networks):
            if isinstance(event, Finished):
                finished[k].add(event.node)
            elif isinstance(event, Failed | Stopped):
                broken.add(k)
            yield k, event
        for k, run in enumerate(runs):
            settled = resettled(run.plan, self.folders.content, self._salt)
            for node_id, step in settled.items():
                self.cache.rekey(run.plan.steps[node_id], step)
            if self.store:
                steps = {**run.plan.steps, **settled}
                self.store.remember(run.scope, records(steps[i] for i in steps if k not in broken or i in finished[k]))

    def files(self, planned: Plan) -> dict[str, str]:
        """The sha256 of every file that a plan's steps name, by folder and name."""
        return {
            f"{f'models/{hint.folder}' if isinstance(hint, ModelFile) else 'input'}/{name}": (
                found if found.settled else self.folders.content(found.text) or found
            ).text
            for (hint, name), found in planned.files.items()
        }

    def _heard(self, event: object) -> None:
        for listener in self._listeners:
            listener(event)

    def _salt(self, node: Node[..., object]) -> str | None:
        """For a plan, which asks when the graph is known to be good: a faulty one is refused without loading torch."""
        return environment.salted(self.environment)(node)

    @property
    def _asked(self) -> str:
        return f"{sys.prefix} {self.settings.device} {self.settings.dtype}"


def workflow_file(path: Path) -> Path:
    """`path`, or the file of the workflow that comes along under this name."""
    if os.access(path, os.F_OK):
        return path
    shipped = {file.stem: file for file in sorted(WORKFLOWS.glob("*.json"))}
    if str(path) not in shipped:
        hint = f"those that come along are: {', '.join(shipped)}{near(str(path), shipped)}"
        raise WorkflowError(f"there is no workflow {str(path)!r}; {hint}")
    return shipped[str(path)]


def _steps(forced: frozenset[str], planned: Plan, nodes: Graph) -> frozenset[str]:
    _check(forced - ALL, nodes)
    return frozenset(planned.steps) if forced & ALL else forced


def _check(names: Iterable[str], nodes: Graph) -> None:
    for name in names:
        if name not in nodes:
            raise UsageError(f"there is no node {name!r}; there are: {', '.join(nodes)}{near(name, nodes)}")
