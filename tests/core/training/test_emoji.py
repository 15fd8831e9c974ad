"""Packages of emoji, made up in place: what is fetched is checked, and icons are found and drawn."""

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from limner.core.training import emoji
from limner.core.training.captions import Concept
from PIL import Image

FROG = Concept("1F438", "frog", ("toad",))
RED = '<rect width="32" height="32" fill="#f00"/>'
ICONS = {
    "width": 32,
    "height": 32,
    "icons": {"toad": {"body": RED}, "wide": {"body": RED, "width": 64}},
    "aliases": {"frog": {"parent": "toad"}, "flipped": {"parent": "toad", "hFlip": True}, "lost": {"parent": "lost"}},
}


def archive(folder: Path, package: emoji.Package, files: dict[str, bytes]) -> emoji.Package:
    """An npm archive in folder, and the package with its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{package.folder}.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return replace(package, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_package_is_unpacked_once_its_hash_is_right(tmp_path):
    package = archive(tmp_path, emoji.Package("@some/icons", "1.0.0", ""), {"a/b.txt": b"hello"})
    assert package.folder == "some-icons-1.0.0"
    assert (emoji.fetch(package, tmp_path) / "a" / "b.txt").read_bytes() == b"hello"


def test_a_package_with_another_hash_is_refused(tmp_path):
    package = archive(tmp_path, emoji.Package("icons", "1.0.0", ""), {"a.txt": b"hello"})
    with pytest.raises(ValueError, match="expected 00"):
        emoji.fetch(replace(package, sha256="00"), tmp_path)
    assert not (tmp_path / package.folder).exists()


@pytest.mark.parametrize(
    ("label", "name"), [("T-Rex", "t-rex"), ("man’s shoe", "mans-shoe"), ("Statue of Liberty", "statue-of-liberty")]
)
def test_a_label_is_written_as_icon_sets_write_it(label, name):
    assert emoji.slug(label) == name


def test_every_style_is_pinned_to_one_package_and_says_its_licence():
    assert len({style.name for style in emoji.STYLES}) == len(emoji.STYLES) >= 4
    assert all(len(style.package.sha256) == 64 for style in emoji.STYLES)
    assert {style.licence for style in emoji.STYLES} <= {"Apache-2.0", "MIT", "CC-BY-4.0"}


def test_a_concept_is_drawn_in_every_style_that_has_it(tmp_path, monkeypatch):
    pytest.importorskip("resvg_py")
    webp = io.BytesIO()
    Image.new("RGBA", (128, 128), (0, 0, 255, 255)).save(webp, "webp", lossless=True)
    labels = json.dumps([{"hexcode": "1F438", "label": "frog"}]).encode()
    drawn = archive(tmp_path, emoji.Package("drawn", "1", ""), {"icons.json": json.dumps(ICONS).encode()})
    empty = archive(tmp_path, emoji.Package("empty", "1", ""), {"icons.json": b'{"icons": {}}'})
    solid = archive(tmp_path, emoji.Package("solid", "1", ""), {"assets/1f438-fe0f.webp": webp.getvalue()})
    monkeypatch.setattr(emoji, "NAMES", archive(tmp_path, emoji.Package("names", "1", ""), {"en/data.json": labels}))
    styles = tuple(emoji.Style(package.name, package, "MIT") for package in (drawn, empty, solid))
    monkeypatch.setattr(emoji, "STYLES", styles)
    found = {picture.style: picture for picture in emoji.pictures([FROG], tmp_path)}
    assert set(found) == {"drawn", "solid"}
    for name, colour in (("drawn", (255, 0, 0, 255)), ("solid", (0, 0, 255, 255))):
        assert np.array_equal(found[name].full, np.broadcast_to(np.array(colour), (64, 64, 4)))
        assert found[name].small.shape == (36, 36, 4)


def test_an_icon_that_is_turned_around_or_leads_nowhere_is_not_drawn():
    assert emoji._svg(ICONS, "flipped") is None
    assert emoji._svg(ICONS, "lost") is None
    assert emoji._svg(ICONS, "nothing") is None
    assert 'viewBox="0 0 64 32"' in str(emoji._svg(ICONS, "wide"))
