"""Packs, loaded: each imported by its path, its classes made nodes.  One that fails is reported and left out.

Nothing is ever installed, and nothing is fetched: a pack whose libraries are missing says so.
"""

from __future__ import annotations

import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.metadata import EntryPoint
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..comfy import node_class
from ..errors import LimnerError
from ..host import Host
from ..schema import Node, Registry
from . import found, v1
from .finder import Finder, Occupied, missing
from .house import House
from .prompt_server import Send

if TYPE_CHECKING:
    from aiohttp.web import AbstractRouteDef

LOG = logging.getLogger("limner.packs")


class Unusable(LimnerError):
    """A pack that has nothing that Limner could use."""

    code = "unusable_pack"


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one pack."""

    name: str
    path: str  # of its folder or file; of an installed one, what its entry point names
    digest: str = ""  # sha256 of its files
    nodes: tuple[str, ...] = ()
    seconds: float = 0.0  # that importing it took
    error: str = ""  # why it was left out, in a sentence
    traceback: str = ""
    warnings: tuple[str, ...] = ()  # nodes of it that were left out, each with its reason


@dataclass(frozen=True, slots=True)
class _Source:
    """A pack that is to be loaded."""

    name: str
    path: str
    digest: str
    load: Callable[[], Any]
    folder: Path | None = None  # whose files it may name


@dataclass(frozen=True)
class Packs:
    """All packs of a program, and the nodes of all."""

    registry: dict[str, Node[..., object]]  # those that the program had, and the packs'
    nodes: dict[str, Node[..., object]] = field(default_factory=dict)  # the packs' alone
    reports: tuple[Report, ...] = ()
    scripts: Mapping[str, Path] = field(default_factory=dict)  # the folder that each wants served to browsers
    folders: Mapping[str, Path] = field(default_factory=dict)  # where each lies
    kinds: dict[str, type] = field(default_factory=dict)  # the class that each of the packs' nodes was made of
    house: House | None = None
    finder: Finder | None = None

    @property
    def routes(self) -> Sequence[AbstractRouteDef]:
        """The routes that packs have added."""
        return () if self.house is None else list(self.house.server.routes)

    def handled(self, posted: dict[str, Any]) -> dict[str, Any]:
        """What the packs make of the body of a POST /prompt."""
        return posted if self.house is None else self.house.server.trigger_on_prompt(posted)

    def attach(self, send: Send) -> None:
        """Take the way to the clients' sockets; it may be used from any thread."""
        if self.house is not None:
            self.house.server.connect(send)

    def refresh(self) -> None:
        """Ask every class again what it takes, for files may have come and gone."""
        for node_id, kind in self.kinds.items():
            node = self.nodes[node_id]
            again = _again(node, kind)
            if again.inputs != node.inputs:
                self.nodes[node_id] = self.registry[node_id] = again

    def close(self) -> None:
        """Take the modules back that packs import from their host."""
        if self.finder is not None:
            self.finder.remove()


def load(folders: Iterable[Path], registry: Registry, host: Host | None = None) -> Packs:
    """Load every pack in `folders`, and those that installed packages bring along, beside the nodes of `registry`.

    Their classes see the folders and networks of `host`, whose registry becomes that of all nodes.
    """
    folders = tuple(folders)
    host = host or Host(registry)
    packs = Packs(dict(registry))
    host.registry = packs.registry
    sources = [*_sources(folders)]
    reports = [_absent(folder) for folder in folders if not folder.is_dir()]
    if not sources:
        return replace(packs, reports=tuple(reports))
    house = House(host)
    house.classes.update({node_id: node_class(node, house, str) for node_id, node in registry.items()})
    house.titles.update({node_id: node.title for node_id, node in registry.items()})
    finder = Finder(house)
    try:
        finder.install()
    except Occupied as error:
        refused = (Report(s.name, s.path, s.digest, error=str(error)) for s in sources)
        return replace(packs, reports=tuple(_told(report) for report in (*reports, *refused)))
    scripts: dict[str, Path] = {}
    for source in sources:
        report, module = _opened(source, packs, house)
        reports.append(_told(report))
        if module is not None and (web := _web(source, module)) is not None:
            scripts[source.name] = web
            house.web[source.name] = str(web)
        finder.refresh()
    lie = {source.name: source.folder for source in sources if source.folder is not None}
    return replace(packs, reports=tuple(reports), scripts=scripts, folders=lie, house=house, finder=finder)


def _sources(folders: Iterable[Path]) -> Iterator[_Source]:
    """Every pack once, each by a name of its own."""
    taken: set[str] = set()
    seen: set[Path] = set()
    for path in found.packs(folder.absolute() for folder in folders):
        if path.resolve() not in seen:
            seen.add(path.resolve())
            name = _free(path.stem if path.is_file() else path.name, taken)
            yield _Source(name, str(path), found.digest(path), lambda path=path: imported(path), path)  # type: ignore[misc]
    for point in found.installed():
        name = _free(point.name, taken)
        yield _Source(name, point.value, _installed_digest(point), point.load)


def _free(name: str, taken: set[str]) -> str:
    number = next(k for k in range(1, len(taken) + 2) if (name if k == 1 else f"{name}-{k}") not in taken)
    name = name if number == 1 else f"{name}-{number}"
    taken.add(name)
    return name


def _installed_digest(point: EntryPoint) -> str:
    version = f"{point.dist.name} {point.dist.version}" if point.dist is not None else ""
    return sha256(f"{point.value}\0{version}".encode()).hexdigest()


def imported(path: Path) -> ModuleType:
    """The module at `path`, a folder or a file, under a name that nobody else has; imports of its own files work."""
    name = f"limner_pack_{re.sub(r'[^0-9A-Za-z]+', '_', path.stem)}_{sha256(str(path).encode()).hexdigest()[:8]}"
    file = path / "__init__.py" if path.is_dir() else path
    spec = spec_from_file_location(name, file, submodule_search_locations=[str(path)] if path.is_dir() else None)
    if spec is None or spec.loader is None:
        raise Unusable(f"{file} is no Python module")
    module = module_from_spec(spec)
    _forget(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        _forget(name)
        raise
    return module


def _forget(name: str) -> None:
    """Have a pack's modules be read again when they are imported again."""
    for loaded in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
        del sys.modules[loaded]


def _opened(source: _Source, packs: Packs, house: House) -> tuple[Report, Any]:
    """Import a pack and take its nodes in."""
    began = time.perf_counter()
    report = Report(source.name, source.path, source.digest)
    before = dict(house.classes)
    try:
        module = source.load()
        added = _added(house.classes, before)
        offered = added if added and not hasattr(module, "NODE_CLASS_MAPPINGS") else {**_offered(module), **added}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a pack may raise anything, SystemExit too, and none may keep the server down
        seconds = time.perf_counter() - began
        trace = "" if isinstance(error, Unusable) else _traceback(error, source)  # ours says all in its sentence
        return replace(report, error=_sentence(error), traceback=trace, seconds=seconds), None
    titles = getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {}
    warnings: list[str] = []
    taken = [i for i, kind in offered.items() if _taken(i, kind, titles.get(i, ""), source, packs, house, warnings)]
    seconds = time.perf_counter() - began
    return replace(report, nodes=tuple(taken), seconds=seconds, warnings=tuple(warnings)), module


def _added(classes: dict[str, type], before: Mapping[str, type]) -> dict[str, Any]:
    """What a pack has put into the host's table of classes by its own hand; the table is as before."""
    added = {node_id: kind for node_id, kind in classes.items() if node_id not in before}
    classes.clear()
    classes.update(before)
    return added


def _offered(module: Any) -> Mapping[str, Any]:
    """Ids and classes of a pack's module; of an entry point, also a table of nodes of our own kind."""
    if isinstance(module, Mapping):
        return module
    if isinstance(module, Node):
        return {module.id: module}
    if isinstance(module, tuple | list):
        return {node.id: node for node in module}
    classes = getattr(module, "NODE_CLASS_MAPPINGS", None)
    if isinstance(classes, Mapping):
        return classes
    if hasattr(module, "NODES"):
        return _offered(module.NODES)
    if hasattr(module, "comfy_entrypoint"):
        raise Unusable("is written for ComfyUI's V3 protocol, which Limner does not speak: it takes classes (V1)")
    if hasattr(module, "WEB_DIRECTORY"):
        return {}
    raise Unusable("defines no NODE_CLASS_MAPPINGS")


def _taken(  # noqa: PLR0913 - one class, and where it goes
    node_id: Any, kind: Any, title: Any, source: _Source, packs: Packs, house: House, warnings: list[str]
) -> bool:
    """Take one class in as a node, or say why not."""
    node_id = str(node_id)
    if (first := packs.registry.get(node_id)) is not None:
        owner = f"the pack {first.pack}" if first.pack else "Limner"
        warnings.append(f"{node_id} is left out: {owner} has a node of this id")
        return False
    try:
        if isinstance(kind, Node):
            node: Node[..., object] = kind  # of our own kind, and run as our own are
            house.classes[node_id] = node_class(node, house, str)
        else:
            node = v1.node(node_id, kind, pack=source.name, version=source.digest, label=str(title or ""))
            house.classes[node_id] = packs.kinds[node_id] = kind
    except v1.NotANode as error:
        warnings.append(f"{node_id} is left out: {error}")
        return False
    except BaseException as error:  # what a class says of itself may fail in any way
        if not v1.theirs(error):
            raise
        LOG.warning("%s of the pack %s is left out", node_id, source.name, exc_info=True)
        warnings.append(f"{node_id} is left out: {_sentence(error)}")
        return False
    packs.nodes[node_id] = packs.registry[node_id] = node
    house.titles[node_id] = node.title
    return True


def _again(node: Node[..., object], kind: type) -> Node[..., object]:
    """The node that its class is now; as it was where that cannot say."""
    try:
        return v1.node(node.id, kind, pack=node.pack, version=str(node.version), label=node.label)
    except BaseException as error:  # it could when it was loaded; that stands
        if not v1.theirs(error):
            raise
        return node


def _web(source: _Source, module: Any) -> Path | None:
    """The folder of scripts that a pack names, if it lies in the pack."""
    named = getattr(module, "WEB_DIRECTORY", None)
    file = getattr(module, "__file__", None)
    if not named or file is None:
        return None
    root = Path(file).parent
    folder = (root / str(named)).resolve()
    if folder.is_dir() and folder.is_relative_to(root.resolve()):
        return folder
    LOG.warning("the pack %s names %r as its WEB_DIRECTORY, which is no folder in it", source.name, named)
    return None


def _absent(folder: Path) -> Report:
    return _told(Report(folder.name, str(folder), error=f"there is no folder {folder}"))


def _sentence(error: BaseException) -> str:
    if isinstance(error, ImportError):
        return missing(error)
    return str(error) if isinstance(error, LimnerError) else f"{type(error).__name__}: {error}"


def _traceback(error: BaseException, source: _Source) -> str:
    """Where a pack failed: from its own first line on, where it came that far."""
    own = error.__traceback__
    while own is not None and not own.tb_frame.f_code.co_filename.startswith(source.path):
        own = own.tb_next
    return "".join(traceback.format_exception(type(error), error, own or error.__traceback__))


def _told(report: Report) -> Report:
    """Write a report into the log."""
    if report.error:
        LOG.error("the pack %s is left out: %s%s", report.name, report.error, f"\n{report.traceback}".rstrip())
    else:
        nodes = "1 node" if len(report.nodes) == 1 else f"{len(report.nodes)} nodes"
        LOG.info("pack %s (%s): %s in %.2f s, %s", report.name, report.digest[:12], nodes, report.seconds, report.path)
    for warning in report.warnings:
        LOG.warning("pack %s: %s", report.name, warning)
    return report
