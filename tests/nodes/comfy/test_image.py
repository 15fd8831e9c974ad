"""Pictures under ComfyUI's ids: names, folders, what is written into them, and counting out."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from limner.core.errors import UsageError
from limner.core.values import Image
from limner.nodes.comfy.image import (
    empty_image,
    image_batch,
    image_invert,
    image_scale,
    load_image,
    preview_image,
    rebatch_images,
    save_image,
)
from PIL import Image as Pillow


def pictures(count=1, height=6, width=8):
    return Image(torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(0)))


def names(files, folder):
    return [Path(path).relative_to(folder).as_posix() for path in files.paths]


def test_saved_pictures_are_named_and_counted_as_clients_expect(context):
    assert names(save_image(images=pictures(2), context=context), context.output) == [
        "ComfyUI_00001_.png",
        "ComfyUI_00002_.png",
    ]
    again = save_image(images=pictures(), filename_prefix="ComfyUI", context=context)
    assert names(again, context.output) == ["ComfyUI_00003_.png"]
    below = save_image(images=pictures(), filename_prefix="a/b", context=context)
    assert names(below, context.output) == ["a/b_00001_.png"]


def test_a_saved_picture_holds_its_pixels(context):
    (path,) = save_image(images=pictures(), context=context).paths
    with Pillow.open(path) as opened:
        found = torch.from_numpy(np.array(opened)) / 255
    torch.testing.assert_close(found, pictures().pixels[0], rtol=0, atol=0.51 / 255)


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("%width%x%height%", "8x6_00001_.png"),
        ("day\\of\\%width%", "day/of/8_00001_.png"),
        ("a//b/", "a/b_00001_.png"),
        ("50%off", "50%off_00001_.png"),
        ("", "_00001_.png"),
    ],
)
def test_blanks_in_a_prefix_are_filled_in(prefix, name, context):
    assert names(save_image(images=pictures(), filename_prefix=prefix, context=context), context.output) == [name]


def test_pictures_of_a_batch_may_be_numbered_in_their_names(context):
    saved = save_image(images=pictures(2), filename_prefix="n%batch_num%", context=context)
    assert names(saved, context.output) == ["n0_00001_.png", "n1_00001_.png"]


def test_the_date_in_a_prefix_is_todays(context):
    before = datetime.now().replace(microsecond=0)
    prefix = "%year%-%month%-%day% %hour%.%minute%.%second%"
    (name,) = names(save_image(images=pictures(), filename_prefix=prefix, context=context), context.output)
    then = datetime.strptime(name, "%Y-%m-%d %H.%M.%S_00001_.png")
    assert before <= then <= datetime.now()


@pytest.mark.parametrize("prefix", ["../x", "a/../../x", "/etc/x", "..\\x", "con/x", "x\0y"])
def test_no_prefix_leads_out_of_the_folder(prefix, context):
    with pytest.raises(UsageError):
        save_image(images=pictures(), filename_prefix=prefix, context=context)
    assert not list(context.output.parent.rglob("*.png"))


def test_a_saved_picture_carries_what_ran_and_what_the_client_wants_in_it(context):
    extra = {"workflow": {"nodes": [1]}, "prompt": "not this one", "": 1, "é": 2, "x" * 80: 3}
    told = replace(context, document={"limner": 1}, prompt={"1": {"class_type": "é"}}, extra=extra)
    (path,) = save_image(images=pictures(), context=told).paths
    with Pillow.open(path) as opened:
        found = {keyword: json.loads(text) for keyword, text in opened.text.items()}
    assert found == {"workflow": {"nodes": [1]}, "limner": {"limner": 1}, "prompt": {"1": {"class_type": "é"}}}


def test_a_host_that_writes_nothing_into_pictures_writes_nothing(context):
    (path,) = save_image(images=pictures(), context=replace(context, extra={"workflow": {}})).paths
    with Pillow.open(path) as opened:
        assert opened.text == {}


def test_a_preview_goes_to_temp_under_a_name_of_its_own(context):
    first, second = (names(preview_image(images=pictures(), context=context), context.temp)[0] for _ in range(2))
    assert first != second
    assert first.startswith("ComfyUI_temp_")
    assert first.endswith("_00001_.png")


@pytest.fixture
def folders(context):
    """A context whose pictures are its own to write."""
    library = replace(context.library, inputs=context.output.parent / "input", output=context.output, temp=context.temp)
    return replace(context, library=library)


def put(folder, name, pixels, mode="RGBA", **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.array(pixels, dtype=np.uint8), mode).save(path, **options)


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_a_loaded_pictures_mask_is_where_it_is_transparent(folders):
    put(folders.library.inputs, "sub/a.png", [[[255, 0, 0, 255], [0, 255, 0, 51]]])
    image, mask = load_image(image="sub/a.png", context=folders)
    assert image.pixels.tolist() == [[[[1, 0, 0], [0, 1, 0]]]]
    torch.testing.assert_close(mask.values, torch.tensor([[[0.0, 0.8]]]))


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("kind", ["input", "output", "temp"])
def test_a_picture_is_read_from_the_folder_behind_its_name(kind, folders):
    put(folders.library.pictures(kind), "sub/a.png", [[[255, 0, 0, 255]]])
    image, _ = load_image(image=f"sub/a.png [{kind}]", context=folders)
    assert image.pixels.tolist() == [[[[1, 0, 0]]]]


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_a_picture_is_turned_as_its_camera_says(folders):
    exif = Pillow.Exif()
    exif[0x0112] = 6
    put(folders.library.inputs, "a.png", [[[255, 0, 0, 255], [0, 255, 0, 255]]], exif=exif)
    image, _ = load_image(image="a.png", context=folders)
    assert image.pixels.tolist() == [[[[1, 0, 0]], [[0, 1, 0]]]]


@pytest.mark.parametrize("name", ["../a.png", "../a.png [output]", "/etc/passwd", "a.png [elsewhere]"])
def test_no_name_leads_out_of_the_folders(name, folders):
    with pytest.raises(UsageError):
        load_image(image=name, context=folders)


def test_an_empty_image_has_one_colour(context):
    image = empty_image(width=3, height=2, batch_size=2, color=0x336600)
    assert image.pixels.shape == (2, 2, 3, 3)
    torch.testing.assert_close(image.pixels[1, 1, 2], torch.tensor([0.2, 0.4, 0.0]))


def test_pictures_of_a_list_are_counted_out_anew():
    every = pictures(5).pixels
    batches = rebatch_images(images=[Image(every[:3]), Image(every[3:])], batch_size=[2])
    assert [len(batch.pixels) for batch in batches] == [2, 2, 1]
    assert torch.cat([batch.pixels for batch in batches]).equal(every)


def test_pictures_of_several_sizes_make_no_batch():
    with pytest.raises(ValueError, match="not 8 x 6, 9 x 6: resize them first"):
        rebatch_images(images=[pictures(), pictures(width=9)], batch_size=[2])
    assert len(rebatch_images(images=[pictures(), pictures(width=9)], batch_size=[1])) == 2


def test_a_negative_is_the_light_that_is_missing():
    torch.testing.assert_close(image_invert(image=pictures()).pixels + pictures().pixels, torch.ones(1, 6, 8, 3))


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"])
def test_a_picture_is_scaled_by_every_method(method):
    plain = Image(torch.full((2, 6, 8, 3), 0.25))
    scaled = image_scale(image=plain, upscale_method=method, width=5, height=12, crop="disabled")
    torch.testing.assert_close(scaled.pixels, torch.full((2, 12, 5, 3), 0.25), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("width", "height", "size"), [(4, 0, (3, 4)), (0, 3, (3, 4)), (0, 0, (6, 8)), (1, 0, (1, 1)), (5, 7, (7, 5))]
)
def test_a_side_of_0_follows_from_the_other(width, height, size):
    scaled = image_scale(image=pictures(), upscale_method="area", width=width, height=height, crop="disabled")
    assert scaled.pixels.shape[1:3] == size


def test_the_middle_is_cut_out_rather_than_anything_squeezed():
    lines = Image(torch.linspace(0, 1, 8).view(1, 1, 8, 1).expand(1, 4, 8, 3))
    middle = image_scale(image=lines, upscale_method="nearest-exact", width=4, height=4, crop="center")
    torch.testing.assert_close(middle.pixels, lines.pixels[:, :, 2:6])
    upright = Image(lines.pixels.transpose(1, 2))
    middle = image_scale(image=upright, upscale_method="nearest-exact", width=4, height=4, crop="center")
    torch.testing.assert_close(middle.pixels, upright.pixels[:, 2:6])


def test_a_batch_of_two_has_the_size_of_the_first():
    both = image_batch(image1=pictures(2), image2=pictures(1, 12, 16))
    assert both.pixels.shape == (3, 6, 8, 3)
    assert both.pixels[:2].equal(pictures(2).pixels)
