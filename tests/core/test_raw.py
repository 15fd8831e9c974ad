"""ComfyUI's raw values become ours and go back: without copies, and without losing what they say."""

import pytest
import torch
from limner.core.raw import held, unwrapped, wrapped
from limner.core.values import Conditioning, Image, Latent, Mask, Sigmas


@pytest.mark.parametrize(
    ("wire", "raw"),
    [
        ("IMAGE", torch.rand(2, 8, 8, 3)),
        ("MASK", torch.rand(2, 8, 8)),
    ],
)
def test_tensors_go_in_and_out_without_a_copy(wire, raw):
    ours = wrapped(raw, wire)
    assert type(ours) in (Image, Mask)
    back = unwrapped(ours)
    assert back.data_ptr() == raw.data_ptr()
    assert back.shape == raw.shape


def test_latents_go_in_and_out_without_a_copy():
    raw = {"samples": torch.rand(2, 4, 8, 8), "noise_mask": torch.rand(2, 1, 8, 8), "batch_index": [3, 4]}
    ours = wrapped(raw, "LATENT")
    assert isinstance(ours, Latent)
    assert ours.batch_index == (3, 4)
    back = unwrapped(ours)
    assert back["batch_index"] == [3, 4]
    assert all(back[name].data_ptr() == raw[name].data_ptr() for name in ("samples", "noise_mask"))
    assert unwrapped(wrapped({"samples": raw["samples"]}, "LATENT")).keys() == {"samples"}


def test_conditionings_go_in_and_out_without_a_copy():
    raw = [[torch.rand(1, 5, 16), {"pooled_output": torch.rand(1, 16), "attention_mask": torch.ones(1, 5) > 0}]]
    ours = wrapped(raw, "CONDITIONING")
    assert isinstance(ours, Conditioning)
    ((tokens, extra),) = unwrapped(ours)
    assert tokens is raw[0][0]
    assert extra.keys() == raw[0][1].keys()
    assert all(extra[name] is raw[0][1][name] for name in extra)


def test_a_conditioning_of_several_texts_is_refused():
    with pytest.raises(ValueError, match="a conditioning of one text, not of 2"):
        wrapped([[torch.rand(1, 5, 16), {}], [torch.rand(1, 5, 16), {}]], "CONDITIONING")


def test_sigmas_are_doubles_here_and_floats_there():
    ours = wrapped(torch.tensor([14.6, 0.03, 0.0]), "SIGMAS")
    assert ours.values.dtype == torch.float64
    assert unwrapped(ours).dtype == torch.float32
    assert unwrapped(ours).tolist() == ours.values.tolist()


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (1, 1, 8, 8)])
def test_masks_come_in_all_shapes_that_are_about(shape):
    assert wrapped(torch.rand(shape), "MASK").values.shape == (1, 8, 8)


@pytest.mark.parametrize("shape", [(64, 64), (1, 64, 64), (1, 1, 64, 64), (3, 1, 64, 64), (2, 64, 64)])
def test_a_mask_as_large_as_the_picture_comes_down_to_the_latent(shape):
    mask = torch.zeros(shape)
    mask[..., :36] = 1
    found = wrapped({"samples": torch.zeros(3, 4, 8, 8), "noise_mask": mask}, "LATENT").noise_mask
    assert found.shape == (3, 1, 8, 8)
    assert found[2, 0, 0].tolist() == [1, 1, 1, 1, 0.5, 0, 0, 0]


def test_what_is_not_plugged_in_stays_nothing():
    assert [wrapped(None, wire) for wire in ("IMAGE", "MASK", "LATENT", "CONDITIONING", "SIGMAS", "*")] == [None] * 6


@pytest.mark.parametrize(
    ("shape", "expected"), [((8, 6, 3), (1, 8, 6, 3)), ((2, 8, 6, 4), (2, 8, 6, 3)), ((1, 8, 6, 1), (1, 8, 6, 3))]
)
def test_pictures_come_in_all_shapes_that_are_about(shape, expected):
    raw = torch.rand(shape)
    pixels = wrapped(raw, "IMAGE").pixels
    assert pixels.shape == expected
    assert pixels[0, 0, 0, 0] == raw.flatten()[0]
    assert wrapped(raw.half(), "IMAGE").pixels.dtype == torch.float32


def test_a_conditioning_that_says_more_than_we_know_is_refused():
    with pytest.raises(ValueError, match="know nothing of what this conditioning also says: area, strength"):
        wrapped([[torch.rand(1, 5, 16), {"strength": 0.5, "area": (1, 1, 0, 0), "control": None}]], "CONDITIONING")


@pytest.mark.parametrize("wire", ["MODEL", "CLIP", "VAE", "IMAGE", "LATENT"])
def test_what_is_no_raw_value_of_a_wire_is_left_as_it_is(wire):
    value = object()
    assert wrapped(value, wire) is value
    assert held(value, wire) is value


@pytest.mark.parametrize(
    ("wire", "value", "kind"),
    [
        ("IMAGE", torch.rand(1, 8, 8, 3), Image),
        ("MASK", torch.rand(1, 8, 8), Mask),
        ("SIGMAS", torch.rand(4), Sigmas),
        ("LATENT", {"samples": torch.rand(1, 4, 8, 8), "noise_mask": torch.rand(1, 1, 8, 8)}, Latent),
        ("CONDITIONING", [[torch.rand(1, 5, 16), {"pooled_output": torch.rand(1, 16)}]], Conditioning),
    ],
)
def test_what_our_values_can_hold_comes_back_as_it_was(wire, value, kind):
    ours = held(value, wire)
    assert type(ours) is kind
    torch.testing.assert_close(unwrapped(ours), value, rtol=0, atol=0)
