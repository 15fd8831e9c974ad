"""The native nodes as ComfyUI sees them: classes of its V1 convention.  Raw values are wrapped here, nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .host import Host
from .schema import (
    NAMESPACE,
    REQUIRED,
    SEED_LIMIT,
    Choice,
    Context,
    Input,
    InputFile,
    ModelFile,
    Multiline,
    Need,
    Node,
    Range,
    Registry,
    Seed,
)
from .values import Conditioning, Image, Latent, Mask, Progress, Sigmas

if TYPE_CHECKING:
    from torch import Tensor

PROMPT = "prompt"
SHARED = {"INT", "FLOAT", "STRING", "BOOLEAN", "IMAGE", "MASK", "LATENT", "CONDITIONING", "SIGMAS", "*"}


def node_classes(registry: Registry) -> dict[str, type]:
    """NODE_CLASS_MAPPINGS: every node under its own id.  Networks are loaded once for all of them."""
    host = Host(registry)
    return {node_id: node_class(node, host) for node_id, node in registry.items()}


def node_class(node: Node[..., object], host: Host) -> type:
    """A class that runs `node`."""

    def run(_: Any, **inputs: Any) -> Any:
        given = {name: wrapped(inputs[name], spec.wire) for name in inputs if (spec := node.input(name)) is not None}
        lazy = {spec.name: given.pop(spec.name, None) for spec in node.inputs if spec.lazy}
        given |= dict.fromkeys(lazy)
        if node.wants_context:
            given["context"] = _context(host, inputs.get(PROMPT))
        result = node(**given)
        if isinstance(result, Generator):
            result = _ended(result, lazy, host)
        return _delivered(node, result)

    def check_lazy_status(_: Any, **inputs: Any) -> list[str]:
        given = {k: v for k, v in inputs.items() if not getattr(node.input(k), "lazy", True)}
        work = node(**given)
        need = next(work) if isinstance(work, Generator) else None
        return [need.input] if isinstance(need, Need) and inputs.get(need.input) is None else []

    members: dict[str, Any] = {
        "INPUT_TYPES": classmethod(lambda _: _input_types(node, host)),
        "RETURN_TYPES": tuple(_wire(o.wire) for o in node.outputs),
        "RETURN_NAMES": tuple(o.name for o in node.outputs),
        "FUNCTION": "run",
        "CATEGORY": f"{NAMESPACE}/{node.category}",
        "DESCRIPTION": node.doc,
        "OUTPUT_NODE": node.delivers,
        "run": run,
    }
    if any(spec.lazy for spec in node.inputs):
        members["check_lazy_status"] = check_lazy_status
    return type(node.name, (), members)


def wrapped(value: Any, wire: str) -> Any:
    """A raw value of ComfyUI's as the frozen one that our nodes take; no tensor is copied that fits as it is."""
    match wire, value:
        case _, None:
            return None
        case "IMAGE", _:
            return Image(value)
        case "MASK", _:
            return Mask(value.reshape(-1, *value.shape[-2:]))
        case "SIGMAS", _:
            return Sigmas(value.double().cpu())
        case "LATENT", {"samples": samples}:
            index = value.get("batch_index")
            mask = _noise_mask(value.get("noise_mask"), samples)
            return Latent(samples, mask, None if index is None else tuple(index))
        case "CONDITIONING", [[tokens, extra]]:
            return Conditioning(tokens, extra.get("attention_mask"), extra.get("pooled_output"))
        case "CONDITIONING", _:
            raise ValueError(f"Limner takes a conditioning of one text, not of {len(value)}")
    return value


def _noise_mask(mask: Tensor | None, samples: Tensor) -> Tensor | None:
    """ComfyUI leaves a mask as large as the picture, and once for a batch: (B, 1, h, w)."""
    if mask is None:
        return None
    from torch.nn.functional import interpolate

    mask = mask.reshape(-1, 1, *mask.shape[-2:])
    if mask.shape[-2:] != samples.shape[-2:]:
        mask = interpolate(mask, size=samples.shape[-2:], mode="area")
    count = len(samples)
    return mask if len(mask) == count else mask.repeat(-(-count // len(mask)), 1, 1, 1)[:count]


def unwrapped(value: Any) -> Any:
    """A frozen value as ComfyUI has it."""
    match value:
        case Image(pixels):
            return pixels
        case Mask(values) | Sigmas(values):
            return values
        case Latent(samples, noise_mask, batch_index):
            extra = {"noise_mask": noise_mask, "batch_index": None if batch_index is None else list(batch_index)}
            return {"samples": samples} | {k: v for k, v in extra.items() if v is not None}
        case Conditioning(tokens, mask, pooled):
            parts: dict[str, Tensor | None] = {"attention_mask": mask, "pooled_output": pooled}
            return [[tokens, {k: v for k, v in parts.items() if v is not None}]]
    return value


def _delivered(node: Node[..., object], result: Any) -> Any:
    if node.delivers:
        root = _folder("output") or Path(result.paths[0]).parent
        return {"ui": {"images": [_listed(Path(path), root, node) for path in result.paths]}}
    return tuple(unwrapped(v) for v in result) if isinstance(result, tuple) else (unwrapped(result),)


def _listed(path: Path, root: Path, node: Node[..., object]) -> dict[str, str]:
    kind = "temp" if node.name.startswith("Preview") else "output"
    base = _folder(kind) or root
    inside = path.parent.relative_to(base).as_posix() if path.is_relative_to(base) else ""
    return {"filename": path.name, "subfolder": "" if inside == "." else inside, "type": kind}


def _ended(work: Generator[Any, Any, Any], lazy: Mapping[str, Any], host: Host) -> Any:
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

    return alone(answered(), host.networks)


def _shown() -> Callable[[Progress], None]:
    """ComfyUI's bar, where we run inside it; that is also where ComfyUI raises that somebody has pressed stop."""
    try:
        from comfy.utils import ProgressBar  # type: ignore[import-not-found]
    except ImportError:
        return lambda _: None
    return lambda progress: ProgressBar(progress.total).update_absolute(progress.done, progress.total)


def _context(host: Host, prompt: Mapping[str, Any] | None) -> Context:
    return Context(
        networks=host.networks,
        library=host.folders,
        output=_folder("output") or host.folders.output,
        temp=_folder("temp") or host.folders.temp,
        prompt=prompt,
        warn=logging.getLogger(NAMESPACE).warning,
    )


def _folder(kind: str) -> Path | None:
    """ComfyUI's own folder, where we run inside it."""
    try:
        import folder_paths  # type: ignore[import-not-found]
    except ImportError:
        return None
    find: Callable[[], str] = getattr(folder_paths, f"get_{kind}_directory")
    return Path(find())


def _input_types(node: Node[..., object], host: Host) -> dict[str, Any]:
    required = {i.name: _described(i, host) for i in node.inputs if i.default is REQUIRED or i.default is not None}
    optional = {i.name: _described(i, host) for i in node.inputs if i.default is None}
    hidden = {PROMPT: "PROMPT"} if node.delivers else {}  # to write into pictures
    return {"required": required, "optional": optional, "hidden": hidden}


def _described(spec: Input, host: Host) -> tuple[Any, dict[str, Any]]:
    options: dict[str, Any] = {"tooltip": spec.doc} if spec.doc else {}
    if spec.default is not REQUIRED and spec.default is not None:
        options["default"] = spec.default
    if spec.lazy:
        options["lazy"] = True
    kind: Any = _wire(spec.wire)
    match spec.hint:
        case Range(low, high, step):
            options |= {"min": low, "max": high} | ({"step": step} if step else {})
        case Seed():
            options |= {"min": 0, "max": SEED_LIMIT, "control_after_generate": True}
        case Multiline():
            options["multiline"] = True
        case Choice() as choices:
            kind = list(choices)
        case ModelFile() | InputFile() as hint:
            kind = list(host.folders.choices(hint))
    return kind, options


def _wire(wire: str) -> str:
    return wire if wire in SHARED else f"{NAMESPACE}_{wire}".upper()
