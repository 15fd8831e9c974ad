"""What stored results depend on beside their graph: another device, library or line of code is a miss."""

import json
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from limner.core import environment
from limner.core.environment import Environment, code, described, remember, remembered, salted
from limner.core.schema import node
from limner.nodes import NODES

ROOT = Path(environment.__file__).parents[1]
HERE = Environment("cpu", "float32", "sdpa", "2.13.0", "5.0.0")


@node("test")
def foreign() -> int:
    return 0


# ------------------------------------------------------------------------------------------------------------- code


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the package's sources, whose digests are asked for."""
    root = tmp_path / "copy"
    for folder in ("core", "nodes"):
        shutil.copytree(
            ROOT / folder, root / folder, ignore=lambda at, names: [n for n in names if not is_source(Path(at, n))]
        )
    monkeypatch.setattr(environment, "ROOT", root)
    forget()
    yield root
    monkeypatch.undo()
    forget()


def is_source(path):
    return path.suffix == ".py" or (path.is_dir() and path.name not in ("__pycache__", "default"))


def forget():
    for known in (environment.code, environment._module):
        known.cache_clear()


def changes(root, name, module):
    """Whether a line added to the file `name` changes the digest of `module`."""
    before = code(module)
    with (root / name).open("a") as file:
        file.write("# another line\n")
    forget()
    return code(module) != before


@pytest.mark.parametrize(
    "name",
    [
        "nodes/sampler.py",
        "core/diffusion/samplers.py",  # imported at the top
        "core/diffusion/noise.py",  # imported inside a function
        "core/diffusion/parameterisation.py",
        "core/diffusion/guidance.py",  # imported by what it imports
        "core/drive.py",  # which answers its calls
        "core/trees.py",  # which writes its result down
        "core/models/residency.py",
        "core/models/unet.py",  # which is loaded by its name alone
    ],
)
def test_a_change_in_anything_that_bears_on_a_nodes_work_changes_its_digest(copy, name):
    assert changes(copy, name, "nodes.sampler")


@pytest.mark.parametrize(
    "name", ["nodes/image.py", "nodes/__init__.py", "core/host.py", "core/catalogue.py", "core/training/losses.py"]
)
def test_a_change_elsewhere_does_not(copy, name):
    assert not changes(copy, name, "nodes.sampler")


def test_modules_of_one_folder_have_digests_of_their_own(copy):
    assert len({code(f"nodes.{name}") for name in ("sampler", "scheduler", "image", "text")}) == 4
    assert changes(copy, "nodes/image.py", "nodes.image")


def test_a_package_is_its_init_file(copy):
    (copy / "core" / "more").mkdir()
    (copy / "core" / "more" / "__init__.py").write_text("from .part import x\n")
    (copy / "core" / "more" / "part.py").write_text("x = 1\n")
    (copy / "nodes" / "new.py").write_text("def f():\n    from ..core import more\n")
    forget()
    assert changes(copy, "core/more/__init__.py", "nodes.new")
    assert changes(copy, "core/more/part.py", "nodes.new")


def test_modules_that_import_each_other_are_no_trouble(copy):
    (copy / "nodes" / "a.py").write_text("from . import b\n")
    (copy / "nodes" / "b.py").write_text("from . import a\nfrom os import path\nimport json\n")
    forget()
    assert code("nodes.a") == code("nodes.b")  # the same files
    assert changes(copy, "nodes/b.py", "nodes.a")


def test_a_copy_under_another_name_knows_its_own_code(tmp_path):
    """As ComfyUI loads it: a folder of any name."""
    for folder in ("core", "nodes"):
        shutil.copytree(
            ROOT / folder,
            tmp_path / "some_pack" / folder,
            ignore=lambda at, names: [n for n in names if not is_source(Path(at, n))],
        )
    (tmp_path / "some_pack" / "__init__.py").touch()
    program = """
from some_pack.core.environment import described, salted
from some_pack.nodes import NODES
print(salted(described("cpu", "float32"))(NODES["limner.Sample"]))
"""

    def printed():
        run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=tmp_path)
        return run.stdout.strip()

    before = printed()
    assert before == salted(described("cpu", "float32"))(NODES["limner.Sample"])
    with (tmp_path / "some_pack" / "core" / "diffusion" / "samplers.py").open("a") as file:
        file.write("# changed\n")
    assert printed() != before


# ----------------------------------------------------------------------------------------------------------- places


@pytest.mark.parametrize("name", [f.name for f in fields(Environment)])
def test_every_part_of_the_environment_is_in_the_salt(name):
    sample = NODES["limner.Sample"]
    assert salted(HERE)(sample) != salted(replace(HERE, **{name: "other"}))(sample)


def test_nodes_of_others_are_not_stored():
    assert salted(HERE)(foreign) is None
    assert all(salted(HERE)(one) for one in NODES.values())


# ------------------------------------------------------------------------------------------------------- remembering


def test_what_a_device_came_to_is_known_afterwards_without_torch(tmp_path):
    here = described("cpu", "float32")
    assert remembered(tmp_path, "auto auto") is None
    remember(tmp_path, "auto auto", here)
    remember(tmp_path, "cpu bfloat16", described("cpu", "bfloat16"))
    assert remembered(tmp_path, "auto auto") == here
    assert remembered(tmp_path, "cpu bfloat16").dtype == "bfloat16"
    assert remembered(tmp_path, "cuda auto") is None


def test_after_an_upgrade_it_is_not_known_any_more(tmp_path):
    remember(tmp_path, "auto", replace(described("cpu", "float32"), torch="1.0.0"))
    assert remembered(tmp_path, "auto") is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "3",
        '{"auto": 3}',
        '{"auto": []}',
        '{"auto": {}}',
        '{"auto": {"device": "cpu", "mood": "calm"}}',
        "\x00",
    ],
)
def test_a_note_that_cannot_be_understood_is_as_good_as_none(tmp_path, content):
    (tmp_path / "environment.json").write_text(content)
    assert remembered(tmp_path, "auto") is None
    here = described("cpu", "float32")
    remember(tmp_path, "auto", here)
    assert remembered(tmp_path, "auto") == here


def test_a_note_that_cannot_be_written_is_not_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    remember(tmp_path / "file" / "cache", "auto", described("cpu", "float32"))
    assert remembered(tmp_path / "file" / "cache", "auto") is None


def test_what_is_known_already_is_not_written_again(tmp_path):
    remember(tmp_path, "auto", described("cpu", "float32"))
    before = (tmp_path / "environment.json").stat().st_ino
    remember(tmp_path, "auto", described("cpu", "float32"))
    assert (tmp_path / "environment.json").stat().st_ino == before
    assert json.loads((tmp_path / "environment.json").read_text()).keys() == {"auto"}
