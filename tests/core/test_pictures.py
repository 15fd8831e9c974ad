"""Pictures of every kind give the right pixels, or an error of ours, and never much memory."""

import io
import os
import random
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from limner.core import pictures
from limner.core.errors import ImageFileError
from limner.core.pictures import load, opening, picture, png, texts, write
from PIL import Image

RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 255], [0, 0, 0], [10, 20, 30]]], dtype=np.uint8)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width, height, *chunks, depth=8, color=2, pixels=b""):
    """A PNG, chunk by chunk, that claims a size."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + body + chunk(b"IEND", b"")


def unfolding(kind, size):
    """A chunk of a few bytes that becomes `size` bytes."""
    return chunk(kind, b"a\0\0" + zlib.compress(b"x" * size))


def pixels_of(path):
    """What was loaded, as bytes of (H, W, 3)."""
    return (load(path)[0][0] * 255).round().byte().numpy()


# ------------------------------------------------------------------------------------------------------ right pixels


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_picture_is_its_pixels_from_0_to_1(tmp_path, suffix):
    path = saved(tmp_path / f"a{suffix}", Image.fromarray(RGB), lossless=True)
    pixels, mask = load(path)
    assert (pixels.shape, pixels.dtype, mask.shape) == ((1, 2, 3, 3), torch.float32, (1, 2, 3))
    assert torch.equal(pixels[0], torch.from_numpy(RGB).float() / 255)
    assert torch.equal(mask, torch.zeros(1, 2, 3))


def test_the_mask_is_1_where_a_picture_is_transparent(tmp_path):
    alpha = np.array([[255, 128, 0], [255, 0, 0]], dtype=np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(np.dstack([RGB, alpha])))
    pixels, mask = load(path)
    assert torch.equal(mask[0], 1 - torch.from_numpy(alpha).float() / 255)
    assert torch.equal(pixels[0], torch.from_numpy(RGB).float() / 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_white_is_white_and_black_is_black_in_every_mode(tmp_path, mode):
    grey = np.array([[0, 255]] * 8, dtype=np.uint8)
    if mode.startswith("I"):
        image = Image.fromarray(grey.astype(np.uint16) * 257)
        image = image.convert("I") if mode == "I" else image
    else:
        image = Image.fromarray(grey).convert("RGB").convert(mode.replace("PA", "P"))
    name = "a.jpg" if mode in ("CMYK", "YCbCr") else "a.png"
    path = saved(tmp_path / name, image, **({"quality": 100, "subsampling": 0} if name == "a.jpg" else {}))
    pixels = pixels_of(path)
    assert pixels[:, 0].max() <= 2
    assert pixels[:, 1].min() >= 253


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path):
    levels = np.arange(256, dtype=np.uint16)[None] * 257  # 8 bits, twice
    path = saved(tmp_path / "a.png", Image.fromarray(levels))
    assert (pixels_of(path) == np.arange(256)[None, :, None]).all()


def test_a_palette_may_have_a_colour_that_is_nothing(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    path = saved(tmp_path / "a.png", image, transparency=1)
    assert pixels_of(path).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert load(path)[1].tolist() == [[[0, 1]]]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_of_an_animation_the_first_picture_is_taken(tmp_path, suffix):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    path = saved(tmp_path / f"a{suffix}", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    assert (pixels_of(path) == [255, 0, 0]).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "P", "RGBA"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_turned_as_its_camera_was_held(tmp_path, turn, mode):
    """EXIF's orientations, as what has to be done to the rows and columns of the stored picture."""
    upright = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.T,
               6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a.T, 2), 8: np.rot90}[turn]  # fmt: skip
    grey = np.array([[0, 50, 100], [150, 200, 250]], dtype=np.uint8)
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = turn
    path = saved(tmp_path / "a.png", image, exif=exif)
    assert (pixels_of(path)[..., 0] == upright(grey)).all()


def test_a_picture_that_is_written_comes_back(tmp_path):
    pixels = torch.from_numpy(RGB).float() / 255
    write(tmp_path / "a.png", pixels)
    assert torch.equal(load(tmp_path / "a.png")[0][0], pixels)
    (tmp_path / "b.png").write_bytes(png(pixels))
    assert torch.equal(load(tmp_path / "b.png")[0][0], pixels)


def test_what_is_out_of_range_is_cut_off_and_what_is_no_number_is_black():
    values = torch.tensor([-1.0, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 7.0, float("inf"), float("-inf"), float("nan")])
    row = np.asarray(picture(values.view(1, -1, 1).expand(1, 9, 3)))[0, :, 0]
    assert row.tolist() == [0, 0, 0, 1, 255, 255, 255, 0, 0]


# --------------------------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize(
    "text", ["{}", "naïve 苹果 🍎", "line\nline", "x" * 3_000_000], ids=["plain", "unicode", "lines", "3 MB"]
)
def test_texts_written_into_a_picture_are_read_again(tmp_path, text):
    write(tmp_path / "a.png", torch.zeros(2, 2, 3), {"limner": text, "prompt": "{}"})
    assert texts(tmp_path / "a.png") == {"limner": text, "prompt": "{}"}


def test_a_picture_without_texts_has_none(tmp_path):
    write(tmp_path / "a.png", torch.zeros(2, 2, 3))
    assert texts(tmp_path / "a.png") == {}


def test_the_workflows_in_a_webp_are_where_comfyui_puts_them(tmp_path):
    exif = Image.Exif()
    exif[0x0110], exif[0x010F], exif[0x010E] = 'prompt:{"a": ":"}', "workflow:{}", "other:{}"
    saved(tmp_path / "a.webp", Image.new("RGB", (4, 4)), exif=exif)
    assert texts(tmp_path / "a.webp") == {"prompt": '{"a": ":"}', "workflow": "{}"}


def test_texts_that_stand_after_the_pixels_are_found(tmp_path):
    content = png(torch.zeros(2, 2, 3))
    end = content.index(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(content[:end] + chunk(b"tEXt", b"prompt\0{}") + content[end:])
    assert texts(tmp_path / "a.png") == {"prompt": "{}"}


# ---------------------------------------------------------------------------------------------------- what is refused


BAD = {
    "zero bytes": (b"", "is no picture that can be read"),
    "text": (b"<html>", "is no picture that can be read"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is no picture that can be read"),
    "GIF": (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "is no picture that can be read"),
    "eight bytes of a PNG": (b"\x89PNG\r\n\x1a\n", "is"),
    "12,000 x 12,000": (png_of(12_000, 12_000), "is 12000 x 12000, more than 64 megapixels"),
    "50,000 x 50,000": (png_of(50_000, 50_000), "is larger than 64 megapixels"),
    "2**31 - 1 wide": (png_of(2**31 - 1, 1), "megapixels"),
    "0 x 0": (png_of(0, 0), "is"),
    "no pixels": (png_of(100, 100), "is damaged"),
    "half its pixels": (png_of(100, 100, pixels=b"\0" * 15_000), "is damaged"),
    "a text that unfolds": (png_of(1, 1, unfolding(b"zTXt", 2_000_000), pixels=bytes(4)), "is damaged"),
    "a profile that unfolds": (png_of(1, 1, unfolding(b"iCCP", 90_000_000), pixels=bytes(4)), "is damaged"),
    "sixty-five texts": (png_of(1, 1, *[unfolding(b"zTXt", 1_040_000)] * 65, pixels=bytes(4)), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("read", [load, texts])
def test_what_is_no_good_picture_is_refused_with_the_reason(tmp_path, what, read):
    content, sentence = BAD[what]
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageFileError) as caught:
        read(tmp_path / "a.png")
    assert str(caught.value).startswith(f"{tmp_path / 'a.png'}: ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_picture_that_was_cut_off_is_damaged(tmp_path, suffix):
    path = saved(tmp_path / f"a{suffix}", Image.effect_noise((64, 64), 50).convert("RGB"))
    content = path.read_bytes()
    for part in (0.3, 0.6, 0.9):
        path.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(ImageFileError):
            load(path)


def test_what_is_not_there_or_no_file_is_said(tmp_path):
    with pytest.raises(ImageFileError, match="is not there"):
        load(tmp_path / "gone.png")
    with pytest.raises(ImageFileError, match="is no file"):
        load(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageFileError, match="is no file"):
        load(tmp_path / "a.png")


def test_bombs_are_refused_in_little_memory(tmp_path):
    for k, what in enumerate(
        ("12,000 x 12,000", "50,000 x 50,000", "a text that unfolds", "a profile that unfolds", "sixty-five texts")
    ):
        (tmp_path / f"{k}.png").write_bytes(BAD[what][0])
    code = """
import resource, sys
from pathlib import Path
from limner.core.errors import ImageFileError
from limner.core import pictures
import torch, numpy, PIL.Image, PIL.ImageOps, PIL.PngImagePlugin
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
refused = 0
for path in sorted(Path(sys.argv[1]).iterdir()):
    for read in (pictures.load, pictures.texts):
        try:
            read(path)
        except ImageFileError:
            refused += 1
print(refused, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    printed = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True).stdout
    refused, megabytes = map(int, printed.split())
    assert refused == 10
    assert megabytes < 150


def test_a_picture_that_is_no_file_yet_is_called_as_it_was_given():
    with opening(io.BytesIO(png(torch.zeros(2, 3, 3))), "sent.png") as opened:
        assert opened.size == (3, 2)
    with pytest.raises(ImageFileError, match=r"^sent\.png: is no picture"), opening(io.BytesIO(b"<svg/>"), "sent.png"):
        pass


def test_the_cap_is_a_number_of_pixels_and_not_of_a_side(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PIXELS", 12)
    write(tmp_path / "a.png", torch.zeros(3, 4, 3))
    assert load(tmp_path / "a.png")[0].shape == (1, 3, 4, 3)
    write(tmp_path / "b.png", torch.zeros(1, 13, 3))
    with pytest.raises(ImageFileError, match="is 13 x 1"):
        load(tmp_path / "b.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_whatever_is_changed_in_a_file_it_is_a_picture_or_an_error_of_ours(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = 6, "prompt:{}"
    path = saved(tmp_path / f"a{suffix}", Image.effect_noise((16, 16), 50).convert("RGB"), exif=exif)
    content = path.read_bytes()
    read = 0
    for seed in range(150):
        rng = random.Random(seed)
        changed = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed) if seed % 2 else 100)] = rng.randrange(256)
        path.write_bytes(changed)
        for look in (load, texts):
            try:
                look(path)
                read += 1
            except ImageFileError:
                pass
    assert 0 < read < 300
