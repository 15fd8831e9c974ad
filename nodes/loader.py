"""The loader: name the networks.  Nothing is loaded yet: a recipe becomes a network where it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from ..core.schema import Context, ModelFile, node
from ..core.values import Model, Recipe, TextEncoder, Vae

if TYPE_CHECKING:
    from pathlib import Path

    from ..core.models.checkpoint import Description


class Checkpoint(NamedTuple):
    """The three networks that make pictures from words."""

    model: Model
    clip: TextEncoder
    vae: Vae


@node("loading")
def load_checkpoint(
    name: Annotated[str, ModelFile("checkpoints"), "limner-64 comes with Limner and draws emoji."] = "limner-64",
    *,
    context: Context,
) -> Checkpoint:
    """Take a UNet, its text encoder and its VAE from one folder of models/checkpoints."""
    from ..core.errors import ModelFileError

    folder = context.library.model("checkpoints", name)
    if not folder.is_dir():
        raise ModelFileError(
            name, "is a single file; Limner reads folders with unet.safetensors, vae.safetensors and text_encoder"
        )
    return Checkpoint(
        _model(folder / "unet.safetensors", context),
        _text_encoder(folder / "text_encoder", context),
        _vae(folder / "vae.safetensors", context),
    )


@node("loading")
def load_unet(name: Annotated[str, ModelFile("unet")], *, context: Context) -> Model:
    """Take a UNet from a file in models/unet."""
    return _model(context.library.model("unet", name), context)


@node("loading")
def load_text_encoder(
    name: Annotated[
        str, ModelFile("text_encoders"), "A folder of transformers, or the encoder that comes along."
    ] = "minilm-l6",
    *,
    context: Context,
) -> TextEncoder:
    """Take a language model of the BERT, GPT-2, T5 or CLIP family from a folder in models/text_encoders."""
    return _text_encoder(context.library.model("text_encoders", name), context)


@node("loading")
def load_vae(name: Annotated[str, ModelFile("vae")], *, context: Context) -> Vae:
    """Take an autoencoder from a file in models/vae."""
    return _vae(context.library.model("vae", name), context)


def _model(path: Path, context: Context) -> Model:
    from ..core.errors import ModelFileError

    found = _described(path, ("unet",))
    if found.sampling is None or found.latent is None:
        raise ModelFileError(path, "does not say how it was trained (its metadata has no 'sampling' and 'latent')")
    return Model(_recipe(path, found, context), found.sampling, found.latent)


def _vae(path: Path, context: Context) -> Vae:
    from ..core.errors import ModelFileError

    found = _described(path, ("autoencoder_kl", "patch_autoencoder"))
    if found.latent is None:
        raise ModelFileError(path, "does not say how its latents are shaped (its metadata has no 'latent')")
    return Vae(_recipe(path, found, context), found.latent)


def _text_encoder(path: Path, context: Context) -> TextEncoder:
    return TextEncoder(_recipe(path, _described(path, ("text_encoder",)), context))


def _described(path: Path, kinds: tuple[str, ...]) -> Description:
    from ..core.errors import ModelFileError
    from ..core.models.checkpoint import KINDS, describe

    found = describe(path)
    if found.kind not in kinds:
        raise ModelFileError(path, f"holds a {KINDS[found.kind].words}, and a {KINDS[kinds[0]].words} is wanted")
    return found


def _recipe(path: Path, found: Description, context: Context) -> Recipe:
    from ..core.models.checkpoint import canonical

    return Recipe(found.kind, str(path), context.library.digest(path), canonical(found.config))
