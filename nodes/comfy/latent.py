"""Latents under ComfyUI's ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from ...core.schema import Context, Range, node
from ...core.values import Image, Latent, Mask, Vae
from .. import decoder
from .. import latent as native

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 16384  # pixels


@node("latent", namespace="", name="EmptyLatentImage", label="Empty Latent Image")
def empty_latent_image(
    *,
    width: Annotated[int, Range(16, LARGEST, 8), "Pixels of the picture."] = 512,
    height: Annotated[int, Range(16, LARGEST, 8), "Pixels of the picture."] = 512,
    batch_size: Annotated[int, Range(1, 4096), "How many pictures."] = 1,
) -> Latent:
    """Start from nothing.  The model that draws gives it as many channels as it has itself."""
    import torch

    return Latent(torch.zeros(batch_size, 4, height // 8, width // 8), cells=8)  # (B, 4, h, w)


@node("latent", namespace="", name="VAEDecode", label="VAE Decode")
def vae_decode(
    *,
    samples: Annotated[Latent, "What is to be decoded."],
    vae: Annotated[Vae, "The autoencoder that the model was trained with."],
    context: Context,
) -> Image:
    """Turn a latent into a picture."""
    return decoder.decode(vae, samples, context=context)


@node("latent", namespace="", name="VAEEncode", label="VAE Encode")
def vae_encode(
    *,
    pixels: Annotated[Image, "Cut evenly on all sides to a multiple of the latent's cells."],
    vae: Annotated[Vae, "The autoencoder that the model was trained with."],
    context: Context,
) -> Latent:
    """Turn a picture into a latent, to start from."""
    return native.encode_image(vae, Image(_centred(pixels.pixels, vae.latent.downscale)), context=context)


@node("latent/inpaint", namespace="", name="VAEEncodeForInpaint", label="VAE Encode (for Inpainting)")
def vae_encode_for_inpaint(
    *,
    pixels: Annotated[Image, "Cut evenly on all sides to a multiple of the latent's cells."],
    vae: Annotated[Vae, "The autoencoder that the model was trained with."],
    mask: Annotated[Mask, "1 where something new is to be painted."],
    grow_mask_by: Annotated[int, Range(0, 64, 1), "Pixels that are painted beside it, to blend in."] = 6,
    context: Context,
) -> Latent:
    """Turn a picture into a latent of which a part is to be painted anew: that part is emptied first."""
    from dataclasses import replace

    from torch.nn.functional import interpolate, max_pool2d, pad

    cells = vae.latent.downscale
    holes = interpolate(mask.values[:, None], size=pixels.pixels.shape[1:3], mode="bilinear")  # (M, 1, H, W)
    holes = _centred(holes.movedim(1, -1), cells).round()  # (M, H, W, 1)
    kept = _centred(pixels.pixels, cells)
    latent = native.encode_image(vae, Image((kept - 0.5) * (1 - holes) + 0.5), context=context)
    wide, holes = max(grow_mask_by, 1), holes.movedim(-1, 1)  # (M, 1, H, W)
    grown = max_pool2d(pad(holes, (wide // 2, (wide - 1) // 2) * 2), wide, stride=1)
    scaled = interpolate(grown, size=latent.samples.shape[2:], mode="bilinear")
    return replace(latent, noise_mask=_repeated(scaled, len(latent.samples)))


@node("latent/inpaint", namespace="", name="SetLatentNoiseMask", label="Set Latent Noise Mask")
def set_latent_noise_mask(
    *,
    samples: Annotated[Latent, "What a part of is to change."],
    mask: Annotated[Mask, "1 where the sampler may paint, 0 where it must keep what is there."],
) -> Latent:
    """Let the sampler change a part of a latent only."""
    from dataclasses import replace

    from torch.nn.functional import interpolate

    scaled = interpolate(mask.values[:, None], size=samples.samples.shape[2:], mode="bilinear")  # (M, 1, h, w)
    return replace(samples, noise_mask=_repeated(scaled, len(samples.samples)))


def _centred(pixels: Tensor, cells: int) -> Tensor:
    """The middle of pictures (B, H, W, C), of whole cells."""
    height, width = pixels.shape[1:3]
    top, left = height % cells // 2, width % cells // 2
    return pixels[:, top : top + height // cells * cells, left : left + width // cells * cells]


def _repeated(masks: Tensor, count: int) -> Tensor:
    """As many masks as pictures, from the first one again after the last."""
    return masks.repeat(-(-count // len(masks)), 1, 1, 1)[:count]
