"""The decoder: from a latent image to pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

from ..core.schema import Context, node
from ..core.values import Image, Latent, Vae

if TYPE_CHECKING:
    from ..core.models.vae import AutoencoderKL


@node("latent")
def decode(
    vae: Annotated[Vae, "The autoencoder that the model was trained with."], latent: Latent, *, context: Context
) -> Image:
    """Turn a latent into a picture."""
    import torch

    channels = latent.samples.shape[1]
    if channels != vae.latent.channels:
        raise ValueError(f"this VAE decodes latents of {vae.latent.channels} channels, not {channels}")
    samples = context.networks.place(latent.samples)
    with context.networks.lent(vae.recipe) as network, torch.no_grad():
        decoder = cast("AutoencoderKL", network)
        images = [decoder.decode(z) for z in torch.split(samples, 1)]  # one by one: memory is bounded
    pixels = torch.cat(images).float().add(1).div(2).clamp(0, 1).cpu()  # (B, 3, H, W)
    return Image(pixels.permute(0, 2, 3, 1).contiguous())  # (B, H, W, 3)
