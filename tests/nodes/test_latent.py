"""Latents: empty ones, ones of pictures, and ones of which a part may change; and pictures made of them again."""

from __future__ import annotations

import pytest
import tiny
import torch
from limner.core.values import Image, Latent, Mask
from limner.nodes.decoder import decode
from limner.nodes.latent import empty_latent, encode_image, mask_latent


def gradient(height: int = 32, width: int = 48, count: int = 1) -> Image:
    """Pictures of even patches, eight pixels wide, which the tiny autoencoder keeps."""
    cells = torch.rand(count, height // 8, width // 8, 3, generator=torch.Generator().manual_seed(1))
    return Image(cells.repeat_interleave(8, 1).repeat_interleave(8, 2))


def test_an_empty_latent_has_the_shape_that_the_model_wants_and_nothing_in_it(model):
    found = empty_latent(model, 48, 32, 3)
    assert found.samples.shape == (3, tiny.LATENT.channels, 4, 6)
    assert (found.samples == tiny.LATENT.shift).all()
    assert found.noise_mask is None


@pytest.mark.parametrize("size", [(36, 32), (32, 36), (7, 8)])
def test_a_size_that_is_no_whole_number_of_cells_is_refused(size, model):
    with pytest.raises(ValueError, match=f"multiples of 8 for this model, not {size[0]} x {size[1]}"):
        empty_latent(model, *size)


def test_a_picture_becomes_a_latent_and_comes_back_in_its_size(vae, context):
    image = gradient(count=2)
    latent = encode_image(vae, image, context=context)
    assert latent.samples.shape == (2, tiny.LATENT.channels, 4, 6)
    back = decode(vae, latent, context=context).pixels
    assert back.shape == image.pixels.shape
    assert back.min() >= 0
    assert back.max() <= 1


def test_what_a_latent_holds_comes_back_through_its_picture(vae, context):
    faint = torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(0)) * 0.3  # so that nothing is cut off
    latent = Latent(faint)
    image = decode(vae, latent, context=context)
    assert 0 < image.pixels.min() < image.pixels.max() < 1
    torch.testing.assert_close(encode_image(vae, image, context=context).samples, latent.samples, rtol=0, atol=1e-4)


def test_a_batch_is_decoded_picture_by_picture(vae, context):
    latent = Latent(torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0)))
    together = decode(vae, latent, context=context).pixels
    alone = torch.cat([decode(vae, Latent(z[None]), context=context).pixels for z in latent.samples])
    torch.testing.assert_close(together, alone)


def test_pictures_are_decoded_to_plain_numbers_in_memory(vae, context):
    glaring = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0)) * 99
    pixels = decode(vae, Latent(glaring), context=context).pixels
    assert (pixels.min(), pixels.max()) == (0, 1)
    assert (pixels.dtype, pixels.device.type, pixels.is_contiguous()) == (torch.float32, "cpu", True)
    latent = encode_image(vae, Image(pixels), context=context)
    assert (latent.samples.dtype, latent.samples.device.type) == (torch.float32, "cpu")
    latent.samples.add_(1)  # a foreign node may: it is no tensor of inference mode


def test_a_picture_is_cut_at_the_right_and_bottom_to_whole_cells(vae, context):
    image = gradient()
    ragged = Image(torch.nn.functional.pad(image.pixels, (0, 0, 0, 5, 0, 7)))
    torch.testing.assert_close(
        encode_image(vae, ragged, context=context).samples, encode_image(vae, image, context=context).samples
    )


def test_a_picture_smaller_than_a_cell_is_refused(vae, context):
    with pytest.raises(ValueError, match="must be at least 8 pixels wide and high"):
        encode_image(vae, Image(torch.zeros(1, 7, 64, 3)), context=context)


def test_latents_of_other_channels_are_not_decoded(vae, context):
    with pytest.raises(ValueError, match="this VAE decodes latents of 4 channels, not 16"):
        decode(vae, Latent(torch.zeros(1, 16, 4, 4)), context=context)


def test_a_mask_comes_down_to_the_size_of_the_latent_by_areas():
    mask = torch.zeros(1, 16, 32)
    mask[:, :, :4] = 1
    latent = mask_latent(Latent(torch.zeros(3, 4, 2, 4)), Mask(mask))
    assert latent.noise_mask is not None
    assert latent.noise_mask.shape == (3, 1, 2, 4)
    assert latent.noise_mask[2, 0].tolist() == [[0.5, 0, 0, 0], [0.5, 0, 0, 0]]


def test_each_picture_may_have_a_mask_of_its_own():
    masks = Mask(torch.stack([torch.zeros(8, 8), torch.ones(8, 8)]))
    latent = mask_latent(Latent(torch.zeros(2, 4, 2, 2)), masks)
    assert latent.noise_mask is not None
    assert latent.noise_mask.mean(dim=(1, 2, 3)).tolist() == [0, 1]


def test_masks_that_are_neither_one_nor_one_each_are_refused():
    with pytest.raises(ValueError, match="there are 2 masks for 3 images"):
        mask_latent(Latent(torch.zeros(3, 4, 2, 2)), Mask(torch.zeros(2, 8, 8)))
