"""Pictures: read, saved, shown, scaled and put side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from limner.core import pictures
from limner.core.errors import ImageFileError, UsageError
from limner.core.values import Image
from limner.nodes.image import image_grid, join_images, load_image, preview_image, resize_image, save_image
from PIL import Image as Pillow

RED, GREEN, BLUE = torch.eye(3)


def plain(colour, height: int = 8, width: int = 8, count: int = 1) -> Image:
    return Image(colour.expand(count, height, width, 3).clone())


@pytest.fixture
def given(context, tmp_path):
    """Put a picture into the folder `input`, and give the context that finds it."""
    library = replace(context.library, base=tmp_path)

    def put(picture: Pillow.Image, name: str = "picture.png", **options):
        (tmp_path / "input").mkdir(exist_ok=True)
        picture.save(tmp_path / "input" / name, **options)
        return replace(context, library=library)

    return put


def test_a_picture_is_read_with_its_colours_and_its_mask_is_where_nothing_is(given):
    picture = Pillow.new("RGBA", (4, 2), (255, 0, 0, 255))
    picture.putpixel((3, 1), (0, 0, 255, 0))
    found = load_image("picture.png", context=given(picture))
    assert found.image.pixels.shape == (1, 2, 4, 3)
    assert found.image.pixels[0, 0, 0].tolist() == [1, 0, 0]
    assert found.mask.values.sum() == found.mask.values[0, 1, 3] == 1


@pytest.mark.parametrize(("name", "mode"), [("a.jpg", "RGB"), ("a.webp", "RGB"), ("a.png", "L"), ("b/a.png", "P")])
def test_pictures_of_other_kinds_are_read_as_colours(name, mode, given, tmp_path):
    (tmp_path / "input" / "b").mkdir(parents=True)
    found = load_image(name, context=given(Pillow.new(mode, (8, 8), 255), name))
    assert found.image.pixels.shape == (1, 8, 8, 3)
    assert found.mask.values.max() == 0


def test_a_file_that_is_no_picture_or_not_there_is_named(given, tmp_path):
    context = given(Pillow.new("RGB", (8, 8)))
    (tmp_path / "input" / "text.png").write_text("hello")
    with pytest.raises(ImageFileError, match=r"text.png: is no picture"):
        load_image("text.png", context=context)
    with pytest.raises(UsageError, match=r"there is no picture 'none.png' in"):
        load_image("none.png", context=context)
    with pytest.raises(UsageError, match="must be a plain relative path"):
        load_image("../secret.png", context=context)


def test_saved_pictures_are_numbered_from_where_the_folder_stands(context):
    first = save_image(plain(RED, count=2), "a", context=context)
    second = save_image(plain(GREEN), "a", context=context)
    other = save_image(plain(BLUE), "b/c", context=context)
    names = [path.removeprefix(f"{context.output}/") for path in (*first.paths, *second.paths, *other.paths)]
    assert names == ["a_00001.png", "a_00002.png", "a_00003.png", "b/c_00001.png"]
    assert pictures.load(context.output / "a_00003.png")[0][0, 0, 0].tolist() == [0, 1, 0]
    assert len(list(context.output.iterdir())) == 4


def test_a_saved_picture_carries_its_workflow_unless_it_is_not_to(context):
    context = replace(context, document={"limner": 1, "graph": {}}, prompt={"a": 1})
    (path,) = save_image(plain(RED), context=context).paths
    texts = {keyword: json.loads(text) for keyword, text in pictures.texts(Path(path)).items()}
    assert texts == {"limner": {"limner": 1, "graph": {}}, "prompt": {"a": 1}}
    (path,) = save_image(plain(RED), workflow=False, context=context).paths
    assert pictures.texts(Path(path)) == {}


def test_a_preview_goes_to_the_temporary_folder_and_carries_nothing(context):
    context = replace(context, document={"limner": 1, "graph": {}})
    (path,) = preview_image(plain(RED), context=context).paths
    assert path == f"{context.temp}/preview_00001.png"
    assert pictures.texts(Path(path)) == {}
    assert not context.output.exists()


@pytest.mark.parametrize("method", ["lanczos", "bicubic", "bilinear", "nearest"])
def test_a_scaled_picture_has_the_size_asked_for_and_its_colours(method):
    image = Image(torch.cat([plain(RED, 8, 8).pixels, plain(BLUE, 8, 8).pixels], dim=2))
    scaled = resize_image(image, 64, 20, method).pixels
    assert scaled.shape == (1, 20, 64, 3)
    torch.testing.assert_close(scaled[0, 10, 8], RED, atol=0.02, rtol=0)
    torch.testing.assert_close(scaled[0, 10, -8], BLUE, atol=0.02, rtol=0)
    assert scaled.min() >= 0
    assert scaled.max() <= 1


def test_scaling_to_the_size_it_has_changes_nothing():
    image = Image(torch.rand(2, 9, 7, 3))
    torch.testing.assert_close(resize_image(image, 7, 9, "nearest").pixels, image.pixels)
    torch.testing.assert_close(resize_image(image, 7, 9, "lanczos").pixels, image.pixels)


def test_pictures_are_joined_in_order():
    joined = join_images(plain(RED, count=2), third=plain(BLUE), second=plain(GREEN)).pixels
    assert joined[:, 0, 0].tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_pictures_of_different_sizes_are_not_joined():
    with pytest.raises(ValueError, match="pictures of one batch have one size, not 8 x 8, 16 x 8: resize them first"):
        join_images(plain(RED), plain(RED, 8, 16))


def test_a_grid_has_a_place_for_each_picture_and_gaps_between():
    image = Image(torch.cat([plain(c).pixels for c in (RED, GREEN, BLUE)]))
    sheet = image_grid(image, columns=2, gap=2).pixels
    assert sheet.shape == (1, 2 * (8 + 2) + 2, 2 * (8 + 2) + 2, 3)
    assert sheet[0, 2, 2].tolist() == [1, 0, 0]
    assert sheet[0, 2, 12].tolist() == [0, 1, 0]
    assert sheet[0, 12, 2].tolist() == [0, 0, 1]
    assert sheet[0, 12, 12].tolist() == [1, 1, 1]  # no picture
    assert (sheet[0, :2] == 1).all()


def test_a_grid_is_no_wider_than_its_pictures():
    assert image_grid(plain(RED, count=2), columns=8, gap=0).pixels.shape == (1, 8, 16, 3)


def test_a_grid_makes_small_pictures_larger_pixel_by_pixel():
    image = Image(torch.rand(1, 4, 5, 3))
    sheet = image_grid(image, gap=0, scale=3).pixels
    assert sheet.shape == (1, 12, 15, 3)
    assert sheet[:, 1::3, 1::3].equal(image.pixels)


def test_labels_are_written_under_their_pictures_and_nowhere_else():
    image = plain(RED, 32, 64, count=3)
    sheet = image_grid(image, columns=3, labels="one\n\nthree", gap=0).pixels
    assert sheet.shape == (1, 48, 192, 3)
    dark = (sheet[0, 32:] < 0.6).any(dim=2).any(dim=0)
    assert [bool(dark[start : start + 64].any()) for start in (0, 64, 128)] == [True, False, True]
    assert sheet[0, :32].equal(image_grid(image, columns=3, gap=0).pixels[0])


def test_more_labels_than_pictures_do_no_harm():
    assert image_grid(plain(RED), labels="a\nb\nc", gap=0).pixels.shape == (1, 24, 8, 3)
