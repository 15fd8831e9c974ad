"""Loaders under ComfyUI's ids."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from ...core.schema import Context, ModelFile, node
from ...core.values import Model, TextEncoder, Vae
from .. import loader


class Checkpoint(NamedTuple):
    """The three networks that make pictures from words."""

    MODEL: Model
    CLIP: TextEncoder
    VAE: Vae


@node("loaders", namespace="", name="CheckpointLoaderSimple", label="Load Checkpoint")
def checkpoint_loader_simple(
    *,
    ckpt_name: Annotated[str, ModelFile("checkpoints"), "A model in models/checkpoints; limner-64 comes with Limner."],
    context: Context,
) -> Checkpoint:
    """Take a UNet, its text encoder and its VAE from one checkpoint."""
    return Checkpoint(*loader.load_checkpoint(ckpt_name, context=context))


@node("loaders", namespace="", name="VAELoader", label="Load VAE")
def vae_loader(*, vae_name: Annotated[str, ModelFile("vae"), "A file in models/vae."], context: Context) -> Vae:
    """Take an autoencoder from a file of its own."""
    return loader.load_vae(vae_name, context=context)
