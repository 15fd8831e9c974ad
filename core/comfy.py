"""Our nodes as ComfyUI sees them: classes of its V1 convention."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .catalogue import v1_inputs
from .digests import Digests
from .errors import LimnerError
from .folders import BACKGROUND, Folders
from .host import Host
from .raw import unwrapped, wrapped
from .schema import NAMESPACE, Context, InputFile, ModelFile, Need, Node, Registry
from .values import Blocked, Files, Progress, Returned

if TYPE_CHECKING:
    from .models.residency import Residency

HIDDEN = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}  # what is written into pictures
SHARED = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "IMAGE", "MASK", "LATENT", "CONDITIONING", "SIGMAS", "*"}


class Home(Protocol):
    """Where our nodes find files and networks."""

    @property
    def folders(self) -> Folders:
        """Where files lie."""

    @property
    def networks(self) -> Residency:
        """Where networks are loaded and kept."""


def node_classes(registry: Registry) -> dict[str, type]:
    """NODE_CLASS_MAPPINGS: every node under its own id.  Networks are loaded once for all of them."""
    host = Host(registry)
    return {node_id: node_class(node, host) for node_id, node in registry.items()}


def node_class(node: Node[..., object], home: Home, wire: Callable[[str], str] | None = None) -> type:
    """A class that runs `node`.  `wire` gives the names that wires go by there; model-like ones get a prefix."""
    wire = wire or _wire

    def run(_: Any, **inputs: Any) -> Any:
        given = {name: _given(inputs[name], spec.wire) for name in inputs if (spec := node.input(name)) is not None}
        lazy = {spec.name: given.pop(spec.name, None) for spec in node.inputs if spec.lazy}
        given |= dict.fromkeys(lazy)
        if node.wants_context:
            given["context"] = _context(home, inputs)
        result = node(**given)
        if isinstance(result, Generator):
            result = _ended(result, lazy, home)
        return _delivered(node, result)

    members: dict[str, Any] = {
        "INPUT_TYPES": classmethod(lambda _: _input_types(node, _here(home.folders), wire)),
        "RETURN_TYPES": tuple(wire(o.wire) for o in node.outputs),
        "RETURN_NAMES": tuple(o.name for o in node.outputs),
        "FUNCTION": "run",
        "CATEGORY": f"{NAMESPACE}/{node.category}" if node.namespace == NAMESPACE else node.category,
        "DESCRIPTION": node.doc,
        "OUTPUT_NODE": node.delivers,
        "run": run,
    }
    return type(node.name, (), members | _rare_members(node, home))


def _rare_members(node: Node[..., object], home: Home) -> dict[str, Any]:
    """What only some classes need: ComfyUI asks whether it is there."""
    members: dict[str, Any] = {}
    if any(spec.lazy for spec in node.inputs):
        members["check_lazy_status"] = _lazy_status(node)
    if not node.cached and not node.delivers:
        members["IS_CHANGED"] = classmethod(lambda _, **__: float("nan"))
    elif any(isinstance(spec.hint, ModelFile | InputFile) for spec in node.inputs):
        members["IS_CHANGED"] = classmethod(lambda _, **inputs: _contents(node, _here(home.folders), inputs))
    if pictures := [spec.name for spec in node.inputs if isinstance(spec.hint, InputFile)]:
        members["VALIDATE_INPUTS"] = _validation(pictures, home)
    if node.takes_lists:
        members["INPUT_IS_LIST"] = True
    if any(o.many for o in node.outputs):
        members["OUTPUT_IS_LIST"] = tuple(o.many for o in node.outputs)
    if any(o.doc for o in node.outputs):
        members["OUTPUT_TOOLTIPS"] = tuple(o.doc for o in node.outputs)
    marks = {"DEPRECATED": node.deprecated, "EXPERIMENTAL": node.experimental, "NOT_IDEMPOTENT": node.by_id}
    return members | {name: True for name, holds in marks.items() if holds}


def _lazy_status(node: Node[..., object]) -> Callable[..., list[str]]:
    def check_lazy_status(_: Any, **inputs: Any) -> list[str]:
        given = {k: v for k, v in inputs.items() if not getattr(node.input(k), "lazy", True)}
        work = node(**given)
        need = next(work) if isinstance(work, Generator) else None
        return [need.input] if isinstance(need, Need) and inputs.get(need.input) is None else []

    return check_lazy_status


def _contents(node: Node[..., object], folders: Folders, inputs: Mapping[str, Any]) -> str:
    """What the files that a node names hold.  Large ones, such as models, stand for themselves by size and time."""
    found: list[str] = []
    for spec in node.inputs:
        name = inputs.get(spec.name)
        if isinstance(spec.hint, ModelFile | InputFile) and isinstance(name, str):
            is_model = isinstance(spec.hint, ModelFile)
            path = folders.model(spec.hint.folder, name) if isinstance(spec.hint, ModelFile) else folders.input(name)
            large = is_model and (path.is_dir() or path.stat().st_size >= BACKGROUND)
            found.append(Digests.stand_in(path) if large else folders.digest(path))
    return "\n".join(found)


def _validation(names: list[str], home: Home) -> Any:
    """VALIDATE_INPUTS that names the pictures: ComfyUI leaves those to it, so that `a.png [output]` may be given."""

    def validate(_: Any, /, **inputs: Any) -> bool | str:
        try:
            for name in names:
                if inputs.get(name) is not None:
                    _here(home.folders).input(inputs[name])
        except LimnerError as error:
            return str(error)
        return True

    keyword = inspect.Parameter.KEYWORD_ONLY
    first = inspect.Parameter("cls", inspect.Parameter.POSITIONAL_ONLY)
    asked = [inspect.Parameter(name, keyword, default=None) for name in names]
    validate.__signature__ = inspect.Signature([first, *asked])  # type: ignore[attr-defined]
    return classmethod(validate)


def _given(value: Any, wire: str) -> Any:
    """An input, or with INPUT_IS_LIST every one of a list of them."""
    if isinstance(value, list) and wire != "CONDITIONING":
        return [wrapped(item, wire) for item in value]
    return wrapped(value, wire)


def _delivered(node: Node[..., object], result: Any) -> Any:
    if isinstance(result, Files):
        root = _folder("output") or Path(result.paths[0]).parent
        return {"ui": {"images": [_listed(Path(path), root, node) for path in result.paths]}}
    if isinstance(result, Returned):
        shown = {} if result.ui is None else {"ui": dict(result.ui)}
        return shown | {"result": tuple(_outwards(v) for v in result.outputs)}
    return tuple(_outwards(v) for v in result) if isinstance(result, tuple) else (_outwards(result),)


def _outwards(value: Any) -> Any:
    if isinstance(value, Blocked):
        from comfy_execution.graph import ExecutionBlocker  # type: ignore[import-not-found]

        return ExecutionBlocker(value.message)
    return [unwrapped(item) for item in value] if isinstance(value, list) else unwrapped(value)


def _listed(path: Path, root: Path, node: Node[..., object]) -> dict[str, str]:
    kind = "temp" if node.name.startswith("Preview") else "output"
    base = _folder(kind) or root
    inside = path.parent.relative_to(base).as_posix() if path.is_relative_to(base) else ""
    return {"filename": path.name, "subfolder": "" if inside == "." else inside, "type": kind}


def _ended(work: Generator[Any, Any, Any], lazy: Mapping[str, Any], home: Home) -> Any:
    """A long node's result; a lazy input that it needs has been computed by now."""
    from .drive import alone

    show = _shown()

    def answered() -> Generator[Any, Any, Any]:
        answer: Any = None
        while True:
            try:
                said = work.send(answer)
            except StopIteration as end:
                return end.value
            if isinstance(said, Progress):
                show(said)
            answer = lazy[said.input] if isinstance(said, Need) else (yield said)

    return alone(answered(), home.networks)


def _shown() -> Callable[[Progress], None]:
    """ComfyUI's bar, where we run inside it; that is also where ComfyUI raises that somebody has pressed stop."""
    try:
        from comfy.utils import ProgressBar  # type: ignore[import-not-found]
    except ImportError:
        return lambda _: None
    return lambda progress: ProgressBar(progress.total).update_absolute(progress.done, progress.total)


def _context(home: Home, inputs: Mapping[str, Any]) -> Context:
    folders = _here(home.folders)
    return Context(
        networks=home.networks,
        library=folders,
        output=folders.output,
        temp=folders.temp,
        prompt=inputs.get("prompt"),
        extra=inputs.get("extra_pnginfo"),
        warn=logging.getLogger(NAMESPACE).warning,
    )


def _here(folders: Folders) -> Folders:
    """Our folders, but ComfyUI's own for pictures, where we run inside it."""
    return replace(
        folders,
        inputs=_folder("input") or folders.inputs,
        output=_folder("output") or folders.output,
        temp=_folder("temp") or folders.temp,
    )


def _folder(kind: str) -> Path | None:
    try:
        import folder_paths  # type: ignore[import-not-found]
    except ImportError:
        return None
    find: Callable[[], str] = getattr(folder_paths, f"get_{kind}_directory")
    return Path(find())


def _input_types(node: Node[..., object], folders: Folders, wire: Callable[[str], str]) -> dict[str, Any]:
    found = v1_inputs(node, folders.choices, wire)
    groups = {kind: {n: tuple(v) for n, v in found.get(kind, {}).items()} for kind in ("required", "optional")}
    return groups | {"hidden": found.get("hidden", {}) | (HIDDEN if node.delivers else {})}


def _wire(wire: str) -> str:
    return wire if wire in SHARED else f"{NAMESPACE}_{wire}".upper()
