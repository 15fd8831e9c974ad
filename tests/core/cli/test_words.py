"""What the command line says before it runs anything: quickly, and without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version

import pytest
import tiny

HEAVY = ("torch", "transformers", "numpy", "PIL", "rich", "aiohttp", "diffusers")

LOOKING = {
    "help": ["--help"],
    "run --help": ["run", "--help"],
    "version": ["--version"],
    "validate": ["validate", "{file}"],
    "params": ["params", "{file}"],
    "nodes": ["nodes"],
    "nodes of one": ["nodes", "Sample", "--json"],
    "explain": ["explain", "{file}"],
    "dry run": ["run", "{file}", "--dry-run", "--set", "sample.seed=1..2"],
    "models": ["models"],
    "cache": ["cache"],
    "convert": ["convert", "{file}", "{folder}/converted.api.json"],
    "an invalid workflow": ["run", "{file}", "--only", "save", "--set", "load.name=nothing"],
}


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
        timeout=120,
    )


LOADED = f"""
import sys
from limner.core.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("loaded:", *(name for name in {HEAVY} if name in sys.modules))
"""


@pytest.mark.parametrize("name", LOOKING)
def test_looking_loads_neither_torch_nor_anything_else_that_is_large(name, base, tmp_path):
    file = tiny.write(tmp_path / "workflow.json", tiny.text_to_image())
    said = python(LOADED, *(word.format(file=file, folder=tmp_path) for word in LOOKING[name]))
    assert said.stdout.splitlines()[-1] == "loaded:", said.stderr


def test_a_picture_is_looked_at_without_torch(base, tmp_path):
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_text("limner", tiny.write(tmp_path / "workflow.json", tiny.text_to_image()).read_text("utf-8"))
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png", pnginfo=chunks)
    said = python(LOADED, "validate", str(tmp_path / "picture.png"))
    assert "can run" in said.stdout
    assert said.stdout.splitlines()[-1].split()[1:] == ["PIL"]


CPU = """
import os, subprocess, sys
best = 9.0
for _ in range(3):
    before = os.times()
    subprocess.run([sys.executable, "-m", "limner", "--help"], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    best = min(best, after.children_user + after.children_system - before.children_user - before.children_system)
print(best)
"""


def test_help_takes_less_than_a_third_of_a_second():
    assert float(python(CPU).stdout) < 0.3


def test_help_names_every_command_and_every_exit_code(limner):
    said = limner("--help")
    assert said.code == 0
    for word in ("run", "explain", "params", "validate", "nodes", "models", "cache", "convert"):
        assert f"\n    {word} " in said.out
    for code in ("0 done", "1 failed", "2 wrong usage", "3 invalid", "5 out of memory", "124 time", "130 interrupted"):
        assert code in said.out.replace("\n", " ")


def test_the_version_is_that_of_the_package(limner):
    assert limner("--version") == (0, f"limner {version('limner')}\n", "")


@pytest.mark.parametrize(
    "words", [[], ["draw"], ["run"], ["run", "x", "--nonsense"], ["run", "x", "--timeout", "soon"], ["cache", "eat"]]
)
def test_words_that_are_none_end_in_usage(limner, words):
    said = limner(*words)
    assert said.code == 2
    assert said.err.startswith("usage: limner")
    assert said.out == ""


def test_python_m_limner_is_the_command_line():
    said = subprocess.run([sys.executable, "-m", "limner", "nodes", "Text"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("Text\n")


def test_a_reader_who_goes_away_is_no_error(base):
    command = f"{sys.executable} -m limner nodes --json | head -c 1"
    said = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "{", "")
