"""Loaders name networks and load none; what a file cannot be is said when it is named."""

from __future__ import annotations

import shutil
from hashlib import sha256

import pytest
import tiny
from limner.core.errors import ModelFileError, ModelMissing
from limner.core.models.checkpoint import save_network
from limner.core.models.patch_autoencoder import PatchAutoencoder
from limner.core.models.unet import UNet
from limner.core.values import LatentFormat, Sampling
from limner.nodes.loader import load_checkpoint, load_text_encoder, load_unet, load_vae


def test_a_checkpoint_is_three_recipes_and_nothing_is_loaded(context, models):
    tiny.text_encoder(models / "models" / "checkpoints" / "tiny" / "text_encoder")
    found = load_checkpoint("tiny", context=context)
    assert [part.recipe.kind for part in found] == ["unet", "text_encoder", "patch_autoencoder"]
    assert found.model.sampling.prediction == "v"
    assert found.model.latent == found.vae.latent == tiny.LATENT
    assert context.networks.holdings() == ()


def test_a_recipe_knows_its_file_by_its_content(context, models):
    file = models / "models" / "unet" / "eps.safetensors"
    copy = shutil.copy(file, models / "models" / "unet" / "copy.safetensors")
    first, second = (load_unet(name, context=context).recipe for name in ("eps.safetensors", "copy.safetensors"))
    assert first.digest == second.digest == sha256(file.read_bytes()).hexdigest()
    assert (first.path, second.path) == (str(file), str(copy))


def test_the_model_that_comes_along_is_there_without_any_folder(context):
    encoder = load_text_encoder(context=context)
    assert encoder.recipe.path.endswith("core/models/default/text_encoder")


@pytest.mark.parametrize("load", [load_checkpoint, load_unet, load_vae, load_text_encoder])
def test_a_name_that_is_not_there_is_answered_with_those_that_are(load, context):
    with pytest.raises(ModelMissing, match=r"there is no 'nothing' in .*; there are: "):
        load("nothing", context=context)


@pytest.mark.parametrize("load", [load_checkpoint, load_unet, load_vae, load_text_encoder])
def test_no_name_leads_out_of_its_folder(load, context):
    from limner.core.errors import UsageError

    with pytest.raises(UsageError, match="must be a plain relative path"):
        load("../secret", context=context)


def test_a_model_of_another_kind_is_refused_with_both_names(context, models):
    shutil.copy(models / "models" / "vae" / "vae.safetensors", models / "models" / "unet" / "wrong.safetensors")
    with pytest.raises(ModelFileError, match=r"wrong.safetensors: holds a VAE, and a UNet is wanted"):
        load_unet("wrong.safetensors", context=context)


def test_a_unet_that_does_not_say_how_it_was_trained_is_refused(context, models):
    save_network(
        models / "models" / "unet" / "mute.safetensors", UNet(tiny.UNET), {"kind": "unet", "config": tiny.UNET}
    )
    with pytest.raises(ModelFileError, match="does not say how it was trained"):
        load_unet("mute.safetensors", context=context)


def test_a_vae_that_does_not_say_how_its_latents_are_is_refused(context, models):
    metadata = {"kind": "patch_autoencoder", "config": tiny.VAE}
    save_network(models / "models" / "vae" / "mute.safetensors", PatchAutoencoder(tiny.VAE), metadata)
    with pytest.raises(ModelFileError, match="does not say how its latents are shaped"):
        load_vae("mute.safetensors", context=context)


def test_what_a_file_says_of_itself_is_what_the_model_is(context, models):
    said, latent = Sampling(prediction="x0", timesteps=7), LatentFormat(4, 8, 3.0, -1.0)
    metadata = {"kind": "unet", "config": tiny.UNET, "sampling": said, "latent": latent}
    save_network(models / "models" / "unet" / "said.safetensors", UNet(tiny.UNET), metadata)
    model = load_unet("said.safetensors", context=context)
    assert (model.sampling, model.latent) == (said, latent)


def test_a_checkpoint_that_is_a_single_file_is_refused_with_what_is_read(context, models):
    file = models / "models" / "checkpoints" / "sd.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"weights")
    with pytest.raises(ModelFileError, match=r"is a single file; Limner reads folders with unet\.safetensors"):
        load_checkpoint("sd.safetensors", context=context)
