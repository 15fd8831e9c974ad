"""Emoji of several makers as pictures with names: fetched as packages, checked, rendered to RGBA.

Every package is pinned by version and sha256, so the data set is the same wherever it is built.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from .captions import Concept

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Package:
    """An npm package, and the sha256 that its archive must have."""

    name: str
    version: str
    sha256: str

    @property
    def folder(self) -> str:
        """Its name and version as one file name, as `npm pack` writes it."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}"


@dataclass(frozen=True, slots=True)
class Style:
    """A maker's way to draw: the word that prompts use for it, the package, and the licence of its artwork."""

    name: str
    package: Package
    licence: str


NAMES = Package("emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a")
STYLES = (
    Style(
        "noto",
        Package("@iconify-json/noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
        "Apache-2.0",
    ),
    Style(
        "twemoji",
        Package("@iconify-json/twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"),
        "CC-BY-4.0",
    ),
    Style(
        "fluent",
        Package(
            "@iconify-json/fluent-emoji", "1.2.7", "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b"
        ),
        "MIT",
    ),
    Style(
        "flat",
        Package(
            "@iconify-json/fluent-emoji-flat",
            "1.2.6",
            "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        ),
        "MIT",
    ),
    Style(
        "3d",
        Package(
            "@lobehub/fluent-emoji-3d", "1.1.0", "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"
        ),
        "MIT",
    ),
    Style(
        "emojione",
        Package("@iconify-json/emojione", "1.2.3", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e"),
        "CC-BY-4.0",
    ),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """One concept as one maker draws it, at the sizes that scenes are made of."""

    concept: Concept
    style: str
    full: Pixels  # (64, 64, 4), straight alpha
    small: Pixels  # (36, 36, 4)


def fetch(package: Package, folder: Path) -> Path:
    """The unpacked package below folder, fetched with npm where it is not there yet; ValueError if it is another."""
    target = folder / package.folder
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{package.folder}.tgz"
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise FileNotFoundError("npm is needed to fetch the pictures, and is not on the PATH")
        command = [npm, "pack", f"{package.name}@{package.version}", "--silent"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != package.sha256:
        raise ValueError(f"{archive.name} has sha256 {found}, expected {package.sha256}")
    partial = target.with_suffix(".partial")
    with tarfile.open(archive) as tar:
        tar.extractall(partial, filter="data")
    (partial / "package").rename(target)
    shutil.rmtree(partial)
    return target


def names(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """What emojibase says of each emoji, by codepoint in hex: its `label`, its `tags`."""
    entries = json.loads((fetch(NAMES, folder) / "en" / "data.json").read_text("utf-8"))
    return {entry["hexcode"]: entry for entry in entries}


def pictures(concepts: Sequence[Concept], folder: Path) -> Iterator[Picture]:
    """Every concept in every style that has it, concept by concept; packages are fetched to folder where missing."""
    labels = {code: str(entry["label"]) for code, entry in names(folder).items()}
    sources = [(style, fetch(style.package, folder)) for style in STYLES]
    icons = {style.name: _icons(path) for style, path in sources if (path / "icons.json").exists()}
    for concept in concepts:
        for style, path in sources:
            if style.name in icons:
                svg = _svg(icons[style.name], slug(labels[concept.code]))
                sizes = None if svg is None else (_draw(svg, 64), _draw(svg, 36))
            else:
                file = _asset(path / "assets", concept.code)
                sizes = None if file is None else (_shrink(file, 64), _shrink(file, 36))
            if sizes is not None:
                yield Picture(concept, style.name, *sizes)


def slug(label: str) -> str:
    """A label as icon sets write it: "man's shoe" -> "mans-shoe"."""
    kept = "".join(letter for letter in label.lower() if letter.isalnum() or letter in " -")
    return "-".join(kept.split())


def _icons(path: Path) -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = json.loads((path / "icons.json").read_text("utf-8"))
    return loaded


def _svg(icons: Mapping[str, Any], name: str) -> str | None:
    """The icon of that name as an SVG file, following aliases; None where the set has none, or turns it around."""
    seen: set[str] = set()
    while name not in icons["icons"]:
        alias = icons.get("aliases", {}).get(name)
        if alias is None or name in seen or set(alias) != {"parent"}:
            return None
        seen.add(name)
        name = alias["parent"]
    icon = icons["icons"][name]
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    return f'{head}viewBox="0 0 {width} {height}" width="{width}" height="{height}">{icon["body"]}</svg>'


def _draw(svg: str, size: int) -> Pixels:
    """Render an SVG into (size, size, 4), in the middle where it is not square."""
    from resvg_py import svg_to_bytes

    drawn = Image.open(io.BytesIO(svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)))
    square = Image.new("RGBA", (size, size))
    drawn.thumbnail((size, size))
    square.paste(drawn.convert("RGBA"), ((size - drawn.width) // 2, (size - drawn.height) // 2))
    return np.asarray(square)


def _asset(folder: Path, code: str) -> Path | None:
    """The file of a codepoint, with or without the variation selector that asks for colour."""
    code = code.lower()
    files = (folder / f"{name}.webp" for name in (code, f"{code}-fe0f", code.removesuffix("-fe0f")))
    return next((file for file in files if file.exists()), None)


def _shrink(file: Path, size: int) -> Pixels:
    """Read a picture and shrink it to (size, size, 4), weighing colours by their alpha."""
    with Image.open(file) as image:
        weighed = image.convert("RGBA").convert("RGBa").resize((size, size), Image.Resampling.BOX)
        return np.asarray(weighed.convert("RGBA"))
