"""What is installed: every module, the workflows and the model, found under whatever name the package is loaded."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import torch
from limner.core.values import Image

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MODULES = sorted([*ROOT.glob("*.py"), *ROOT.glob("core/**/*.py"), *ROOT.glob("nodes/**/*.py")])


def test_every_folder_of_modules_is_a_package_that_is_listed():
    folders = {path.parent.relative_to(ROOT) for path in MODULES}
    names = {".".join(("limner", *folder.parts)) for folder in folders}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(names)
    assert [folder for folder in folders if not (ROOT / folder / "__init__.py").is_file()] == []


def test_the_package_says_that_it_has_types():
    assert (ROOT / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["limner"]


def imported(path: Path) -> set[str]:
    """What a module imports by absolute names."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_inside_the_package_imports_are_relative(path):
    assert imported(path) & {"limner", "core", "nodes", "web"} == set()


def test_what_the_package_imports_is_declared():
    project = PROJECT["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    names = {re.split(r"[>=<]", line)[0].lower().replace("-", "_") for line in declared}
    comfyui = {"folder_paths", "comfy", "comfy_execution"}  # where we run inside it, or packs see our shims of it
    called = {"pillow": "PIL", "pyyaml": "yaml"}
    known = {called.get(name, name) for name in names} | comfyui | sys.stdlib_module_names
    assert {name for path in MODULES for name in imported(path)} - known == set()


def test_the_node_of_the_readme_is_a_node():
    (example,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
        if "@node" in block
    ]
    names = {"__name__": "limner.nodes.mine", "__package__": "limner.nodes"}
    exec(compile(example, "README.md", "exec"), names)  # what a reader types
    brighten = names["brighten"]
    assert [spec.name for spec in brighten.inputs] == ["image", "amount"]
    assert brighten(Image(torch.full((1, 2, 2, 3), 0.25)), 2.0).pixels.unique().tolist() == [0.5]


# ------------------------------------------------------------------------------------------------------------ the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built from a copy: a build leaves its folders where it is."""
    folder = tmp_path_factory.mktemp("wheel")
    leave = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "tests", "output")
    shutil.copytree(ROOT, folder / "source", ignore=leave)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, "."]
    subprocess.run(command, cwd=folder / "source", check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.long
def test_a_wheel_holds_every_module_the_workflows_and_the_model(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = [
        *MODULES,
        *ROOT.glob("workflows/*.json"),
        *ROOT.glob("web/dist/**/*"),
        *ROOT.glob("core/models/default/**/*"),
        ROOT / "py.typed",
    ]
    missing = {
        f"limner/{path.relative_to(ROOT).as_posix()}"
        for path in wanted
        if path.is_file() and "__pycache__" not in path.parts
    } - names
    assert missing == set()
    assert {name.split("/")[0] for name in names} == {"limner", wheel.name.split("-py3")[0] + ".dist-info"}
    assert not [name for name in names if name.startswith("limner/tests") or "egg-info" in name]


@pytest.mark.long
def test_an_installed_wheel_draws_a_picture_away_from_any_clone(wheel, tmp_path):
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path / "site", wheel]
    subprocess.run(command, check=True)
    (tmp_path / "work").mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "XDG_DATA_HOME": str(tmp_path / "data")}
    where = "import limner; print(limner.__file__)"
    for words in (["-c", where], [tmp_path / "site" / "bin" / "limner", "run", "text-to-image", "--out", "."]):
        said = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path / "work",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode == 0, said.stderr
        assert said.stdout.startswith(str(tmp_path))
    assert (tmp_path / "work" / "limner_00001.png").is_file()
