"""ComfyUI's raw values and ours: tensors, dicts and lists there, frozen dataclasses here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .values import Conditioning, Image, Items, Latent, Mask, Sigmas

if TYPE_CHECKING:
    from torch import Tensor

CONDITIONING = {"attention_mask", "pooled_output"}  # what ours holds of the many things that ComfyUI's may say
LATENT = {"samples", "noise_mask", "batch_index"}


def wrapped(value: Any, wire: str) -> Any:
    """A raw value of ComfyUI's as the frozen one that our nodes take; no tensor is copied that fits as it is.

    What is no raw value of this wire is left as it is.
    """
    match wire, value:
        case "IMAGE", _ if _is_tensor(value):
            return Image(_picture(value))
        case "MASK", _ if _is_tensor(value):
            return Mask(value.reshape(-1, *value.shape[-2:]).float())
        case "SIGMAS", _ if _is_tensor(value):
            return Sigmas(value.double().cpu())
        case "LATENT", {"samples": samples} if _is_tensor(samples):
            index = value.get("batch_index")
            mask = _noise_mask(value.get("noise_mask"), samples)
            return Latent(samples, mask, None if index is None else tuple(index))
        case "CONDITIONING", [[tokens, dict() as extra]] if _is_tensor(tokens):
            if told := sorted(name for name in extra.keys() - CONDITIONING if extra[name] is not None):
                raise ValueError(f"Limner's nodes know nothing of what this conditioning also says: {', '.join(told)}")
            mask = extra.get("attention_mask")
            return Conditioning(tokens, None if mask is None else mask.bool(), extra.get("pooled_output"))
        case "CONDITIONING", list():
            raise ValueError(f"Limner takes a conditioning of one text, not of {len(value)}")
    return value


def held(value: Any, wire: str) -> Any:
    """What a foreign node returned as a frozen value, where that holds all of it and gives it back; else itself."""
    match wire, value:
        case "IMAGE", _ if _is_float(value, 4) and value.shape[-1] == 3:
            return Image(value)
        case "MASK", _ if _is_float(value, 3):
            return Mask(value)
        case "SIGMAS", _ if _is_float(value, 1) and value.device.type == "cpu":
            return Sigmas(value.double())
        case "LATENT", {"samples": samples} if _is_float(samples, 4) and value.keys() <= LATENT:
            return _held_latent(value)
        case "CONDITIONING", [[tokens, dict() as extra]] if _is_float(tokens, 3) and len(tokens) == 1:
            mask, pooled = extra.get("attention_mask"), extra.get("pooled_output")
            plain = extra.keys() <= CONDITIONING and None not in extra.values()
            fits = (mask is None or str(mask.dtype) == "torch.bool") and (pooled is None or _is_float(pooled, 2))
            return Conditioning(tokens, mask, pooled) if plain and fits else value
    return value


def unwrapped(value: Any) -> Any:
    """A frozen value as ComfyUI has it."""
    match value:
        case Image(pixels):
            return pixels
        case Mask(values):
            return values
        case Sigmas(values):
            return values.float()  # as ComfyUI's samplers compute; not every device has doubles
        case Latent(samples, noise_mask, batch_index):
            extra = {"noise_mask": noise_mask, "batch_index": None if batch_index is None else list(batch_index)}
            return {"samples": samples} | {k: v for k, v in extra.items() if v is not None}
        case Conditioning(tokens, mask, pooled):
            parts: dict[str, Tensor | None] = {"attention_mask": mask, "pooled_output": pooled}
            return [[tokens, {k: v for k, v in parts.items() if v is not None}]]
        case Items(values):
            return [unwrapped(item) for item in values]
    return value


def _is_tensor(value: Any) -> bool:
    from torch import Tensor

    return isinstance(value, Tensor)


def _is_float(value: Any, dimensions: int) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.ndim == dimensions and value.dtype == torch.float32


def _picture(pixels: Tensor) -> Tensor:
    """(H, W, C) or (B, H, W, C) as (B, H, W, 3): grey is spread over the colours, transparency cut off."""
    pixels = pixels.reshape(-1, *pixels.shape[-3:]).float()
    return pixels.expand(-1, -1, -1, 3) if pixels.shape[-1] == 1 else pixels[..., :3]


def _held_latent(value: Mapping[str, Any]) -> Any:
    samples, mask, index = value["samples"], value.get("noise_mask"), value.get("batch_index")
    fits = mask is not None and _is_float(mask, 4) and mask.shape == (len(samples), 1, *samples.shape[2:])
    masked = fits or "noise_mask" not in value
    indexed = "batch_index" not in value or (isinstance(index, list) and all(type(k) is int for k in index))
    return Latent(samples, mask, None if index is None else tuple(index)) if masked and indexed else value


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
