"""The table of core/README.md is how the house is built: who may import whom, and what loads torch."""

import ast
import fnmatch
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from limner.core import environment

ROOT = Path(environment.__file__).parents[1]
README = (ROOT / "core" / "README.md").read_text("utf-8")
HEAVY = {"torch", "transformers", "safetensors", "numpy", "PIL"}


def rows() -> Iterator[list[str]]:
    """The patterns of each row of the table, as paths below the root; a row's own order counts."""
    for cells in re.findall(r"^\| \d \| (.*?) \|", README, re.MULTILINE):
        names = [name for quoted in re.findall(r"`(.*?)`", cells) for name in opened(quoted)]
        yield [name if name.startswith("nodes/") else f"core/{name}" for name in names]


def opened(name):
    """`models/{a,b}` as models/a and models/b."""
    match = re.fullmatch(r"(.*)\{(.*)\}(.*)", name)
    return [f"{match[1]}{part}{match[3]}" for part in match[2].split(",")] if match else [name]


TABLE = [*rows()]
MODULES = sorted(
    p.relative_to(ROOT).with_suffix("").as_posix().removesuffix("/__init__")
    for folder in ("core", "nodes")
    for p in (ROOT / folder).rglob("*.py")
)
PACKAGES = {"core", "core/models", "core/diffusion"}  # whose __init__ is a docstring


def place(module):
    """The row of a module and its place in there: the modules of one folder share one, and may import each other."""
    folders = {module, *(parent.as_posix() for parent in PurePosixPath(module).parents)}
    found = [(r, k) for r, row in enumerate(TABLE) for k, name in enumerate(row) if name.removesuffix("/*") in folders]
    return found[0] if len(found) == 1 else None


def imported(module):
    """The modules of this package that a module imports; what it imports for types alone does not count."""
    path = ROOT / f"{module}.py"
    path = path if path.exists() else ROOT / module / "__init__.py"
    package = module.split("/") if path.name == "__init__.py" else module.split("/")[:-1]
    waiting: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING":
            waiting += part.orelse
            continue
        waiting += ast.iter_child_nodes(part)
        if isinstance(part, ast.ImportFrom) and part.level:
            base = [*package[: len(package) + 1 - part.level], *(part.module or "").split(".")]
            for name in part.names:
                whole = "/".join(p for p in [*base, name.name] if p)
                yield whole if whole in MODULES else "/".join(p for p in base if p)


def test_every_module_stands_in_the_table_once():
    assert [m for m in MODULES if place(m) is None and m not in PACKAGES] == []


def test_everything_in_the_table_is_there():
    named = [name for row in TABLE for name in row]
    assert [
        name for name in named if not fnmatch.filter(MODULES, name) and name.removesuffix("/*") not in MODULES
    ] == []


@pytest.mark.parametrize("module", [m for m in MODULES if m not in PACKAGES])
def test_a_module_imports_from_rows_above_it_or_from_its_left(module):
    for other in imported(module):
        assert other in PACKAGES or place(other) <= place(module), f"{module} imports {other}"


def test_only_front_doors_take_the_nodes_in():
    doors = {"core/cli/look", "core/notebook", "core/catalogue", "core/server/hosting"}
    assert {m for m in MODULES if "nodes" in imported(m)} == doors


def test_nodes_know_nothing_of_graphs_and_runs():
    for module in fnmatch.filter(MODULES, "nodes/*"):
        for other in imported(module):
            assert other.startswith("nodes") or place(other)[0] < place(module)[0]


def test_one_module_calls_nodes_one_answers_calls_and_one_opens_pictures():
    sources = {m: (ROOT / f"{m}.py").read_text("utf-8") for m in MODULES if (ROOT / f"{m}.py").exists()}
    outside = {m: s for m, s in sources.items() if not m.startswith(("core/training", "core/comfy"))}
    assert [m for m, s in outside.items() if re.search(r"\.node(\(|, )\*\*", s)] == ["core/call"]
    assert [m for m, s in outside.items() if "parameterisation.denoise(" in s] == ["core/drive"]
    assert [m for m, s in outside.items() if "Image.open(" in s] == ["core/pictures"]


def test_nothing_is_loaded_before_it_is_needed():
    light = [
        "catalogue",
        "comfy",
        "explain",
        "host",
        "folders",
        "workflow",
        "environment",
        "pictures",
        "cli",
        "models.checkpoint",
    ]
    code = f"""
import sys
import limner, limner.nodes
{"".join(f"import limner.core.{m}{chr(10)}" for m in light)}
loaded = {HEAVY!r} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_machinery_stays_small():
    """3,200 lines of code in rows 0 to 3, not counting folders, blank lines, comments and docstrings."""
    names = [name for row in TABLE[:4] for name in row if name.count("/") == 1]
    files = [path for name in names if (path := ROOT / f"{name}.py").exists()]
    assert len(files) > 20
    assert sum(code_lines(path.read_text("utf-8")) for path in files) <= 3200


def code_lines(source):
    tree = ast.parse(source)
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [
        n.body[0] for n in ast.walk(tree) if isinstance(n, kinds) and ast.get_docstring(n, clean=False) is not None
    ]
    words = {line for text in texts for line in range(text.lineno, (text.end_lineno or 0) + 1)}
    lines = enumerate(source.splitlines(), 1)
    return sum(1 for k, line in lines if k not in words and line.strip() and not line.lstrip().startswith("#"))
