"""`comfy.utils`: the progress bar, and how pictures and latents, (B, C, H, W), are scaled."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...call import CALLING
from ...values import Progress

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ProgressBar",
    "bislerp",
    "common_upscale",
    "get_tiled_scale_steps",
    "lanczos",
    "load_torch_file",
    "repeat_to_batch_size",
    "reshape_mask",
    "save_torch_file",
    "tiled_scale",
]


class ProgressBar:
    """How far a node is.  Raises what stops the run where somebody has pressed stop."""

    def __init__(self, total: int, node_id: str | None = None) -> None:
        self.total = total
        self.current = 0
        self.node_id = node_id

    def update(self, value: int) -> None:
        """So much more is done."""
        self.update_absolute(self.current + value)

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        """So much is done.  A preview is ("JPEG" or "PNG", a Pillow image, the largest side or None)."""
        if total is not None:
            self.total = total
        self.current = min(value, self.total)
        if (calling := CALLING.get(None)) is not None:  # else a thread of the pack's own, which no run knows
            calling.report(Progress(self.current, self.total, preview))


def common_upscale(samples: Tensor, width: int, height: int, upscale_method: str, crop: str) -> Tensor:
    """Scale (B, C, H, W), or with frames (B, C, F, H, W); "center" cuts off what the new shape has no room for."""
    if samples.ndim > 4:
        flat = samples.movedim(1, -3)  # (B, F, C, H, W)
        scaled = common_upscale(flat.flatten(0, -4), width, height, upscale_method, crop)
        return scaled.reshape(*flat.shape[:-2], height, width).movedim(-3, 1)
    if crop == "center":
        samples = _cut(samples, width / height)
    if upscale_method == "bislerp":
        return bislerp(samples, width, height)
    if upscale_method == "lanczos":
        return lanczos(samples, width, height)
    from torch.nn.functional import interpolate

    return interpolate(samples, size=(height, width), mode=upscale_method)


def _cut(samples: Tensor, aspect: float) -> Tensor:
    """The middle of the picture, as wide for its height as `aspect` says."""
    height, width = samples.shape[-2:]
    left = round((width - height * aspect) / 2) if width / height > aspect else 0
    top = round((height - width / aspect) / 2) if width / height < aspect else 0
    return samples[..., top : height - top, left : width - left]


def lanczos(samples: Tensor, width: int, height: int) -> Tensor:
    """Scale with Lanczos' window, in floats."""
    import numpy as np
    import torch
    from PIL import Image

    planes = samples.detach().float().cpu().flatten(0, 1).numpy()  # (B C, H, W)
    window = Image.Resampling.LANCZOS
    scaled = np.stack([np.asarray(Image.fromarray(plane).resize((width, height), window)) for plane in planes])
    return torch.from_numpy(scaled).reshape(*samples.shape[:2], height, width).to(samples)


def bislerp(samples: Tensor, width: int, height: int) -> Tensor:
    """Scale latents along great circles between neighbours, which keeps their lengths: (B, C, H, W)."""
    wide = _slerped(samples.float(), width, 3)
    return _slerped(wide, height, 2).to(samples)


def _slerped(samples: Tensor, size: int, axis: int) -> Tensor:
    import torch

    old = samples.shape[axis]
    places = ((torch.arange(size, device=samples.device) + 0.5) * old / size - 0.5).clamp(0, old - 1)
    left = places.floor().long()
    right = (left + 1).clamp(max=old - 1)
    share = (places - left).reshape([-1 if k == axis else 1 for k in range(4)])
    return slerp(samples.index_select(axis, left), samples.index_select(axis, right), share)


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """From `a` to `b` along the great circle through both; lengths go evenly.  Channels are axis 1."""
    from torch import where

    length_a, length_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    u, v = a / length_a.clamp_min(1e-12), b / length_b.clamp_min(1e-12)
    cosine = (u * v).sum(1, keepdim=True).clamp(-1, 1)
    angle = cosine.acos()
    sine = angle.sin()
    straight = sine < 1e-5  # the same direction, or opposite ones
    divisor = where(straight, sine.new_ones(()), sine)
    turned = (((1 - share) * angle).sin() * u + (share * angle).sin() * v) / divisor
    direction = where(straight, (1 - share) * u + share * v, turned)
    length = (1 - share) * length_a + share * length_b
    return length * direction  # type: ignore[no-any-return]


def repeat_to_batch_size(tensor: Tensor, batch_size: int, dim: int = 0) -> Tensor:
    """As many as there should be: cut off, or begun again from the first."""
    count = tensor.shape[dim]
    if count < batch_size:
        repeats = [1] * tensor.ndim
        repeats[dim] = -(-batch_size // count)
        tensor = tensor.repeat(repeats)
    return tensor.narrow(dim, 0, batch_size)


def reshape_mask(input_mask: Tensor, output_shape: tuple[int, ...]) -> Tensor:
    """A mask of any shape as large, and as often, as `output_shape` (B, C, ..., H, W) says."""
    from torch.nn.functional import interpolate

    mask = input_mask.reshape(-1, 1, *input_mask.shape[-2:])
    mask = interpolate(mask, size=tuple(output_shape[-2:]), mode="bilinear")
    mask = mask.expand(-1, output_shape[1], -1, -1)
    return repeat_to_batch_size(mask, output_shape[0])


def get_tiled_scale_steps(width: int, height: int, tile_x: int, tile_y: int, overlap: int) -> int:
    """How many tiles `tiled_scale` will do."""
    return len(_starts(height, tile_y, overlap)) * len(_starts(width, tile_x, overlap))


def tiled_scale(  # noqa: PLR0913 - its signature there
    samples: Tensor,
    function: Callable[[Tensor], Tensor],
    tile_x: int = 64,
    tile_y: int = 64,
    overlap: int = 8,
    upscale_amount: float = 4,
    out_channels: int = 3,
    output_device: Any = "cpu",
    pbar: ProgressBar | None = None,
) -> Tensor:
    """Apply `function`, which enlarges a picture `upscale_amount` times, tile by tile; seams are blended."""
    import torch

    batch, _, height, width = samples.shape
    size = round(height * upscale_amount), round(width * upscale_amount)
    found = torch.zeros(batch, out_channels, *size, device=output_device)
    weights = torch.zeros(1, 1, *size, device=output_device)
    for top, left in itertools.product(_starts(height, tile_y, overlap), _starts(width, tile_x, overlap)):
        tile = function(samples[..., top : top + tile_y, left : left + tile_x]).to(found)
        mask = _feathered(tile, round(overlap * upscale_amount))
        y, x = round(top * upscale_amount), round(left * upscale_amount)
        place = (..., slice(y, y + tile.shape[-2]), slice(x, x + tile.shape[-1]))
        found[place] += tile * mask
        weights[place] += mask
        if pbar is not None:
            pbar.update(1)
    return found / weights


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin: the last one ends where the picture does."""
    step = max(tile - overlap, 1)
    return [min(k * step, max(size - tile, 0)) for k in range(max(-(-(size - overlap) // step), 1))]


def _feathered(tile: Tensor, width: int) -> Tensor:
    """(1, 1, h, w): falls off towards the edges, and is nowhere 0."""
    import torch

    sides = [torch.arange(1, size + 1, device=tile.device) for size in tile.shape[-2:]]
    y, x = (torch.minimum(side, side.flip(0)).clamp(max=max(width, 1)) / max(width, 1) for side in sides)
    return (y[:, None] * x)[None, None]


def load_torch_file(
    ckpt: str,
    safe_load: bool = False,  # noqa: ARG001, FBT001 - its signature there; nothing else is done here
    device: Any = None,
    return_metadata: bool = False,  # noqa: FBT001 - its signature there
) -> Any:
    """The tensors in a safetensors file, and what it says of itself.  Pickles are refused: they can run programs."""
    from safetensors import safe_open

    if Path(ckpt).suffix not in {".safetensors", ".sft"}:
        raise ValueError(f"{Path(ckpt).name} is no safetensors file; Limner reads no pickles: they can run programs")
    with safe_open(ckpt, framework="pt", device=str(device or "cpu")) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        return (tensors, file.metadata()) if return_metadata else tensors


def save_torch_file(sd: dict[str, Tensor], ckpt: str, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in sd.items()}, ckpt, metadata)
