"""All nodes together: what may never change of them, and what each must say of itself."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from limner.core import catalogue
from limner.core.schema import REQUIRED
from limner.nodes import NODES
from limner.nodes.comfy import COMFY

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("catalogue.json")


def sockets(node) -> dict:
    return {
        "inputs": {spec.name: spec.wire for spec in node.inputs},
        "outputs": [[output.name, output.wire] for output in node.outputs],
    }


def text(found: dict) -> str:
    rows = (f"  {json.dumps(node_id)}: {json.dumps(row)}" for node_id, row in found.items())
    return "{\n" + ",\n".join(rows) + "\n}\n"


def test_no_id_is_renamed_no_input_lost_and_outputs_are_only_appended():
    golden = json.loads(GOLDEN.read_text("utf-8"))
    for node_id, row in golden.items():
        assert node_id in NODES, f"{node_id} is gone, and with it every workflow that has one"
        node = NODES[node_id]
        for name, wire in row["inputs"].items():
            spec = node.input(name)
            assert spec is not None, f"{node_id}.{name} is gone: say renamed={{...}} if it has another name now"
            assert spec.wire == wire
        assert sockets(node)["outputs"][: len(row["outputs"])] == row["outputs"]


def test_every_node_is_in_the_golden_file():
    written = text({node_id: sockets(node) for node_id, node in NODES.items()})
    said = f"nodes have been added: if that is meant, write this to {GOLDEN}:\n{written}"
    assert GOLDEN.read_text("utf-8") == written, said


def test_the_reference_is_what_the_nodes_say_today():
    pages = {"nodes.md": catalogue.markdown(NODES), "comfyui-nodes.md": catalogue.markdown(COMFY, catalogue.COMFYUI)}
    for name, page in pages.items():
        assert (ROOT / "docs" / name).read_text("utf-8") == page, "run `make docs`"


def test_the_reference_is_written_by_a_command(tmp_path):
    subprocess.run([sys.executable, "-m", "limner.core.catalogue", tmp_path], check=True)
    assert (tmp_path / "nodes.md").read_text("utf-8") == catalogue.markdown(NODES)


@pytest.mark.parametrize("node", NODES.values(), ids=lambda node: node.name)
def test_a_node_says_in_a_sentence_what_it_does(node):
    first = node.doc.splitlines()[0]
    assert first[0].isupper()
    assert first.endswith(".")


PLAIN = {"value", "image", "latent", "model", "steps", "first", "second", "third", "fourth", "fifth", "sixth"}
PLAIN |= {"seventh", "eighth", "condition", "name", "method", "mask", "sigmas"}


@pytest.mark.parametrize("node", NODES.values(), ids=lambda node: node.name)
def test_an_input_whose_name_does_not_say_all_has_a_tooltip(node):
    assert [spec.name for spec in node.inputs if not spec.doc and spec.name not in PLAIN] == []


@pytest.mark.parametrize("node", NODES.values(), ids=lambda node: node.name)
def test_a_default_is_a_value_that_its_input_takes(node):
    from limner.core.graph import coerced

    for spec in node.inputs:
        if spec.default is not REQUIRED and spec.default is not None:
            assert coerced(spec, spec.default) == spec.default


def test_the_catalogue_is_plain_data():
    assert json.loads(json.dumps(catalogue.as_json(NODES))).keys() == NODES.keys()


@pytest.mark.parametrize("path", sorted((ROOT / "nodes").glob("*.py")), ids=lambda path: path.stem)
def test_a_module_of_nodes_imports_what_computes_only_inside_its_functions(path):
    heavy = {"torch", "numpy", "PIL", "transformers", "safetensors"}
    tree = ast.parse(path.read_text("utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name.split(".")[0] for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {(node.module or "").split(".")[0] for node in top if isinstance(node, ast.ImportFrom)}
    assert not names & heavy


@pytest.mark.parametrize("node", NODES.values(), ids=lambda node: node.name)
def test_a_node_is_the_function_that_its_id_names(node):
    assert NODES[node.id] is node
    assert node.name.lower() == node.function.__name__.replace("_", "").lower()
    assert inspect.getmodule(node.function).__name__.startswith("limner.nodes.")
