"""Latents, conditionings and checkpoints under ComfyUI's ids."""

from __future__ import annotations

import pytest
import torch
from limner.core.values import Conditioning, Image, Latent, Mask
from limner.nodes.comfy.conditioning import clip_text_encode, conditioning_zero_out
from limner.nodes.comfy.latent import (
    empty_latent_image,
    set_latent_noise_mask,
    vae_decode,
    vae_encode,
    vae_encode_for_inpaint,
)
from limner.nodes.comfy.loaders import checkpoint_loader_simple, vae_loader
from limner.nodes.decoder import decode
from limner.nodes.latent import encode_image


def test_an_empty_latent_is_nothing_but_zeros_whose_cells_are_eight_pixels_wide():
    latent = empty_latent_image(width=40, height=72, batch_size=2)
    assert (latent.samples.shape, latent.cells, latent.samples.any().item()) == ((2, 4, 9, 5), 8, False)


def test_a_latent_is_decoded_as_by_our_own_node(vae, context):
    latent = Latent(torch.randn(2, 4, 2, 3, generator=torch.Generator().manual_seed(0)))
    found = vae_decode(samples=latent, vae=vae, context=context)
    assert found.pixels.equal(decode(vae, latent, context=context).pixels)


def test_a_picture_is_cut_evenly_to_whole_cells(vae, context):
    pixels = torch.rand(1, 21, 30, 3, generator=torch.Generator().manual_seed(0))
    found = vae_encode(pixels=Image(pixels), vae=vae, context=context)
    middle = encode_image(vae, Image(pixels[:, 2:18, 3:27]), context=context)
    assert found.samples.shape == (1, 4, 2, 3)
    torch.testing.assert_close(found.samples, middle.samples, rtol=0, atol=0)


def test_what_is_to_be_painted_anew_is_emptied_and_its_mask_reaches_further(vae, context):
    pixels = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 32, 32)
    mask[:, 10:14, 20:24] = 1
    found = vae_encode_for_inpaint(pixels=Image(pixels), vae=vae, mask=Mask(mask), grow_mask_by=6, context=context)
    emptied = pixels.clone()
    emptied[:, 10:14, 20:24] = 0.5
    torch.testing.assert_close(found.samples, encode_image(vae, Image(emptied), context=context).samples)
    grown = torch.zeros(1, 1, 32, 32)
    grown[:, :, 8:17, 18:27] = 1  # an even width reaches one further down and to the right
    scaled = torch.nn.functional.interpolate(grown, size=(4, 4), mode="bilinear")
    torch.testing.assert_close(found.noise_mask, scaled)


@pytest.mark.parametrize("grow", [0, 1])
def test_a_mask_that_does_not_grow_stays_as_it_was_and_is_scaled_to_the_picture(grow, vae, context):
    mask = torch.zeros(1, 4, 4)
    mask[:, 1, 2] = 1
    pixels = Image(torch.zeros(2, 32, 32, 3))
    found = vae_encode_for_inpaint(pixels=pixels, vae=vae, mask=Mask(mask), grow_mask_by=grow, context=context)
    wide = torch.nn.functional.interpolate(mask[None], size=(32, 32), mode="bilinear").round()
    small = torch.nn.functional.interpolate(wide, size=(4, 4), mode="bilinear")
    torch.testing.assert_close(found.noise_mask, small.expand(2, 1, 4, 4))


@pytest.mark.parametrize(("masks", "pictures"), [(1, 3), (2, 3), (3, 2)])
def test_masks_are_repeated_for_all_pictures(masks, pictures):
    values = torch.rand(masks, 16, 16, generator=torch.Generator().manual_seed(0))
    latent = set_latent_noise_mask(samples=Latent(torch.ones(pictures, 4, 2, 2)), mask=Mask(values))
    assert latent.noise_mask.shape == (pictures, 1, 2, 2)
    torch.testing.assert_close(latent.noise_mask[-1], latent.noise_mask[(pictures - 1) % masks])


def test_a_text_zeroed_out_is_as_long_and_says_nothing():
    text = Conditioning(torch.ones(1, 5, 8), torch.ones(1, 5, dtype=torch.bool), torch.ones(1, 8))
    nothing = conditioning_zero_out(conditioning=text)
    assert (nothing.tokens.shape, nothing.tokens.any(), nothing.pooled.any()) == ((1, 5, 8), False, False)
    assert nothing.mask is text.mask
    assert conditioning_zero_out(conditioning=Conditioning(text.tokens)).pooled is None


def test_a_checkpoint_gives_model_clip_and_vae_in_this_order(context):
    model, clip, vae = checkpoint_loader_simple(ckpt_name="limner-64", context=context)
    assert (model.recipe.kind, clip.recipe.kind, vae.recipe.kind) == ("unet", "text_encoder", "patch_autoencoder")
    assert vae_loader(vae_name="vae.safetensors", context=context).recipe.kind == "patch_autoencoder"


def test_words_are_encoded_as_by_our_own_node(tiny_base, context):
    from dataclasses import replace

    from limner.nodes.encoder import encode_text
    from limner.nodes.loader import load_checkpoint

    here = replace(context, library=replace(context.library, base=tiny_base))
    _, clip, _ = load_checkpoint("tiny", context=here)
    found = clip_text_encode(text="a red apple", clip=clip, context=here)
    torch.testing.assert_close(found.tokens, encode_text(clip, "a red apple", context=here).tokens)
