"""Latents: where sampling starts from.  Nothing, a picture, or a picture of which a part is to change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

from ..core.schema import Context, Range, node
from ..core.values import Image, Latent, LatentFormat, Mask, Model, Vae

if TYPE_CHECKING:
    from ..core.models.vae import AutoencoderKL


@node("latent")
def empty_latent(
    model: Annotated[Model, "Whose latents they are: it says how many channels there are, and how small."],
    width: Annotated[int, Range(8, 8192, 8), "Pixels of the picture; a multiple of 8."] = 64,
    height: Annotated[int, Range(8, 8192, 8), "Pixels of the picture; a multiple of 8."] = 64,
    batch: Annotated[int, Range(1, 256), "How many pictures."] = 1,
) -> Latent:
    """Start from nothing: all of the picture comes from noise."""
    import torch

    cells = model.latent.downscale
    if width % cells or height % cells:
        raise ValueError(f"width and height must be multiples of {cells} for this model, not {width} x {height}")
    empty = torch.zeros(batch, model.latent.channels, height // cells, width // cells)  # (B, C, h, w)
    return Latent(empty + model.latent.shift)


@node("latent")
def encode_image(
    vae: Annotated[Vae, "The autoencoder that the model was trained with."],
    image: Annotated[Image, "Cut at the right and bottom to a multiple of the latent's cells."],
    *,
    context: Context,
) -> Latent:
    """Turn a picture into a latent, to start from."""
    import torch

    cells = vae.latent.downscale
    height, width = (side - side % cells for side in image.pixels.shape[1:3])
    if not height or not width:
        raise ValueError(f"the picture must be at least {cells} pixels wide and high")
    pixels = context.networks.place(image.pixels[:, :height, :width].permute(0, 3, 1, 2) * 2 - 1)  # (B, 3, H, W)
    with context.networks.lent(vae.recipe) as network, torch.no_grad():
        return Latent(cast("AutoencoderKL", network).encode(pixels).float().cpu())


@node("latent")
def mask_latent(
    latent: Latent, mask: Annotated[Mask, "1 where the sampler may paint, 0 where it must keep what is there."]
) -> Latent:
    """Let the sampler change a part of a latent only."""
    from dataclasses import replace

    from torch.nn.functional import interpolate

    count, found = len(latent.samples), len(mask.values)
    if found not in (1, count):
        raise ValueError(f"there are {found} masks for {count} images: give one, or one for each")
    noise_mask = interpolate(mask.values[:, None], size=latent.samples.shape[2:], mode="area")  # (B, 1, h, w)
    return replace(latent, noise_mask=noise_mask.expand(count, -1, -1, -1))


def fitted(latent: Latent, wanted: LatentFormat) -> Latent:
    """An empty latent, all zeros, with a model's channels, cells and zero; one that holds a picture as it is.

    Who makes one need not know for which model.
    """
    from dataclasses import replace

    from torch.nn.functional import interpolate

    if latent.samples.any():
        return latent
    height, width = (max(side * latent.cells // wanted.downscale, 1) for side in latent.samples.shape[2:])
    empty = latent.samples.new_full((len(latent.samples), wanted.channels, height, width), wanted.shift)
    mask = latent.noise_mask
    if mask is not None and mask.shape[2:] != empty.shape[2:]:
        mask = interpolate(mask, size=(height, width), mode="area")
    return replace(latent, samples=empty, noise_mask=mask, cells=wanted.downscale)
