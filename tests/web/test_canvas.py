"""The canvas in a browser, at a real server with the model that comes along: test/browser in web/ says what it does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "web"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NPM = shutil.which("npm")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(NPM is None or not (WEB / "node_modules").is_dir(), reason="needs `npm ci` in web/"),
]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server of our own, on an empty folder."""
    command = [
        sys.executable,
        "-m",
        "limner",
        "serve",
        "--cpu",
        "--port",
        "0",
        "--base-directory",
        str(tmp_path / "base"),
    ]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert server.stdout is not None
            found = re.search(r"http://[^/\s]+", server.stdout.readline())
            assert found, (tmp_path / "log").read_text()
            yield found[0]
        finally:
            server.terminate()
            server.communicate(timeout=60)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.timeout(600)
def test_a_person_draws_a_picture_in_a_browser(address: str, tmp_path: Path):
    pictures = Path(os.environ.get("SCREENSHOTS", tmp_path / "screenshots"))
    pictures.mkdir(parents=True, exist_ok=True)
    told = _npm("run", "-s", "test:browser", LIMNER=address, SCREENSHOTS=str(pictures), CHROMIUM=str(CHROMIUM))
    assert told.returncode == 0, told.stdout + told.stderr
    assert (pictures / "done.png").stat().st_size > 10_000


@pytest.mark.timeout(300)
def test_building_again_gives_the_same_bundle(tmp_path: Path):
    told = _npm("run", "-s", "build", "--", "--outDir", str(tmp_path / "dist"), "--emptyOutDir")
    assert told.returncode == 0, told.stdout + told.stderr
    assert _contents(tmp_path / "dist") == _contents(WEB / "dist")


@pytest.mark.timeout(300)
def test_what_knows_nothing_of_browsers_does_what_it_says():
    told = _npm("test")
    assert told.returncode == 0, told.stdout + told.stderr


def _npm(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(NPM), *words], cwd=WEB, env=os.environ | more, capture_output=True, text=True, check=False
    )


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
