"""Previews: small JPEGs of whatever a node calls one, or nothing."""

import io

import pytest
import torch
from limner.core.jobs.previews import is_result, shown
from PIL import Image


def opened(data):
    return Image.open(io.BytesIO(data))


def jpeg(preview):
    return shown(preview).get("jpeg")


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 4, 8, 8), (64, 64)),
        ((1, 4, 64, 64), (256, 256)),
        ((1, 16, 96, 64), (128, 192)),
        ((1, 1, 5, 3), (24, 40)),
        ((2, 3, 512, 512), (256, 256)),
    ],
)
def test_a_latent_is_shown_larger_but_never_large(shape, size):
    picture = opened(jpeg(torch.randn(shape)))
    assert (picture.format, picture.size) == ("JPEG", size)


def test_black_and_white_lie_at_the_ends_of_the_values():
    ramp = torch.linspace(-7, 5, 32).expand(1, 4, 32, 32)
    picture = opened(jpeg(ramp)).convert("L")
    assert picture.getpixel((2, 128)) < 20
    assert picture.getpixel((253, 128)) > 235


def test_values_that_are_no_numbers_do_no_harm():
    assert jpeg(torch.full((1, 4, 8, 8), torch.nan)) is not None


def test_what_foreign_nodes_call_a_preview_is_shown_no_larger_than_they_say():
    picture = Image.new("RGBA", (900, 300), "red")
    assert opened(jpeg(("JPEG", picture, None))).size == (256, 85)
    assert opened(jpeg(("JPEG", picture, 90))).size == (90, 30)
    assert picture.size == (900, 300)


def test_a_png_is_a_result_and_stays_as_it_is():
    preview = ("PNG", Image.new("RGBA", (900, 300), "red"), None)
    picture = opened(shown(preview)["png"])
    assert (picture.format, picture.size, picture.mode) == ("PNG", (900, 300), "RGBA")
    assert is_result(preview)
    assert not is_result(("JPEG", None, None))
    assert not is_result(torch.zeros(1, 4, 8, 8))


@pytest.mark.parametrize("thing", [None, "x", (), ("PNG",), ("JPEG", 7, 7), torch.zeros(3), torch.zeros(1, 4, 0, 0)])
def test_what_is_no_picture_is_not_shown(thing):
    assert jpeg(thing) is None
