"""A server that runs, a workflow in ComfyUI's API format, and other people's clients, each installed by itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest
from PIL import Image

PATIENCE = 120  # seconds that a server has to start, and a client to finish


@dataclass(frozen=True)
class Server:
    """`limner serve` in a process of its own."""

    url: str
    base: Path

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "limner", "serve", "--port", "0", "--base-directory", base, "--cpu"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    lines: SimpleQueue[str | None] = SimpleQueue()
    reader = threading.Thread(target=lambda: [*map(lines.put, process.stdout), lines.put(None)])
    reader.start()
    try:
        yield Server(announced(lines), base)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        finally:
            process.kill()
            reader.join()
            process.stdout.close()


def announced(lines):
    """The address that a server tells it is at."""
    said = []
    while True:
        try:
            line = lines.get(timeout=PATIENCE)
        except Empty:
            line = None
        if line is None:
            raise AssertionError(f"the server did not start: {''.join(said)}")
        said.append(line)
        if match := re.search(r"http://127\.0\.0\.1:\d+", line):
            return match[0]


@pytest.fixture
def workflow():
    """What everybody draws first, small and of two steps; each node has a title, as an editor's export has."""
    nodes = {
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 7,
                "steps": 2,
                "cfg": 3.0,
                "sampler_name": "euler",
                "scheduler": "karras",
                "denoise": 1.0,
                "model": ["4", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
            },
        },
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "limner-64"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red apple, 3d style", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "clients", "images": ["8", 0]}},
    }
    return {i: {**node, "_meta": {"title": f"{node['class_type']} {i}"}} for i, node in nodes.items()}


@pytest.fixture
def file(workflow, tmp_path) -> Callable[[], Path]:
    """The workflow, as it is by then, in a file."""

    def write():
        path = tmp_path / "workflow.json"
        path.write_text(json.dumps(workflow))
        return path

    return write


@pytest.fixture(scope="session")
def installed(request):
    """A function that installs a client from its registry, once and for all runs; skips where it cannot be had."""

    def install(name: str, *commands: list[str], into: Callable[[Path], None] = lambda _: None) -> Path:
        folder = request.config.cache.mkdir("clients") / name
        if not (folder / "installed").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for command in commands:
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
                if done.returncode:
                    pytest.skip(f"{name} cannot be installed from here: {done.stderr[-500:]}")
            (folder / "installed").touch()
        return folder

    return install


@pytest.fixture(scope="session")
def from_pypi(installed):
    """The programs of a virtual environment that holds this package and nothing else."""

    def install(package: str) -> Path:
        programs = Path("bin") if os.name == "posix" else Path("Scripts")
        create = [sys.executable, "-m", "venv", "."]
        return installed(package, create, [str(programs / "python"), "-m", "pip", "install", "-q", package]) / programs

    return install


@pytest.fixture(scope="session")
def from_npm(installed):
    """A folder in which this package can be imported."""

    def install(package: str) -> Path:
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("there is no npm here")
        flags = ["--prefix", ".", "--no-audit", "--no-fund", "--ignore-scripts"]
        return installed(package.replace("/", "-"), [npm, "install", *flags, package])

    return install


@pytest.fixture
def run(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a client, away from whatever its user has set up."""

    def call(*command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COMFY"))}
        environment = kept | {"HOME": str(tmp_path), "DO_NOT_TRACK": "1", "COMFY_NO_WATCH": "1", "NO_COLOR": "1"}
        done = subprocess.run(
            [str(part) for part in command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return call


@pytest.fixture
def is_our_picture(workflow):
    """That bytes are the picture which the workflow draws, with the workflow in it."""

    def check(data: bytes, size: tuple[int, int] = (64, 64)) -> None:
        with Image.open(BytesIO(data)) as picture:
            assert (picture.format, picture.size) == ("PNG", size)
            assert len(picture.getcolors(size[0] * size[1])) > 50
            drawn = json.loads(picture.text["prompt"])
        assert drawn["6"]["inputs"]["text"] == workflow["6"]["inputs"]["text"]

    return check
