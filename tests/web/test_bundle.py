"""web/dist is what web/src makes: no Node.js is needed to see that it is stale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "web"
FOLDERS = ("build", "src")
FILES = ("index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts")
REMEDY = "build it again: cd web && npm ci && npm run build"


def test_the_bundle_is_made_from_the_sources_that_are_here():
    inputs = {path.relative_to(WEB).as_posix(): digest(path) for path in sources()}
    assert recorded("inputs") == inputs, REMEDY


def test_the_bundle_is_as_it_was_built():
    outputs = {path.relative_to(WEB / "dist").as_posix(): digest(path) for path in built()}
    assert recorded("outputs") == outputs, REMEDY


def test_the_bundle_has_no_source_maps_and_carries_its_licences():
    names = {path.name for path in built()}
    assert not [name for name in names if name.endswith(".map")]
    licences = (WEB / "dist" / "THIRD_PARTY_LICENSES.txt").read_text()
    for package in ("react ", "react-dom ", "@xyflow/react ", "zustand "):
        assert f"\n{package}" in f"\n{licences}"


def test_the_page_runs_nothing_but_its_own_files():
    """The server's policy forbids scripts in the page itself."""
    page = (WEB / "dist" / "index.html").read_text()
    assert page.count("<script") == page.count('<script type="module" crossorigin src="./assets/') == 1
    assert "http:" not in page
    assert "https:" not in page


@pytest.mark.parametrize("name", ["package-lock.json", "package.json"])
def test_what_is_installed_is_named_exactly(name: str):
    """And no address is written down: a mirror will do."""
    data = json.loads((WEB / name).read_text())
    wanted = data.get("packages", {}).get("", data)
    for version in (*wanted["dependencies"].values(), *wanted["devDependencies"].values()):
        assert version[0].isdigit()
    assert not [place for place, package in data.get("packages", {}).items() if "resolved" in package]


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from (path for path in (WEB / folder).rglob("*") if path.is_file())
    yield from (WEB / name for name in FILES)


def built() -> Iterator[Path]:
    """All but the record itself."""
    return (path for path in (WEB / "dist").rglob("*") if path.is_file() and path.name != "BUILD.json")


def recorded(part: str) -> dict[str, str]:
    record: dict[str, dict[str, str]] = json.loads((WEB / "dist" / "BUILD.json").read_text())
    return record[part]


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
