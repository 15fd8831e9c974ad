"""All nodes under ComfyUI's ids together: what workflow files and clients rely on."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from limner.core import catalogue
from limner.core.graph import coerced
from limner.core.schema import REQUIRED
from limner.nodes import ALL, NODES
from limner.nodes.comfy import COMFY

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).with_name("catalogue.json")
PLAIN = {"value", "image", "images", "image1", "image2", "string", "string_a", "string_b"}


def sockets(node) -> dict:
    return {
        "label": node.title,
        "category": node.category,
        "inputs": {spec.name: spec.wire for spec in node.inputs},
        "outputs": [[output.name, output.wire] for output in node.outputs],
    }


def text(found: dict) -> str:
    rows = (f"  {json.dumps(node_id)}: {json.dumps(row)}" for node_id, row in found.items())
    return "{\n" + ",\n".join(rows) + "\n}\n"


def test_no_id_input_or_output_changes_not_even_in_order():
    """The widgets of an editor's files are known by their places alone."""
    written = text({node_id: sockets(node) for node_id, node in COMFY.items()})
    said = f"nodes have been added: if that is meant, write this to {GOLDEN}:\n{written}"
    assert GOLDEN.read_text("utf-8") == written, said


def test_all_nodes_are_our_own_and_these_and_none_is_both():
    assert not NODES.keys() & COMFY.keys()
    assert {**NODES, **COMFY} == ALL
    assert all(node_id.startswith("limner.") for node_id in NODES)


@pytest.mark.parametrize("node", COMFY.values(), ids=lambda node: node.id)
def test_a_node_says_what_it_does_and_what_it_takes(node):
    first = node.doc.splitlines()[0]
    assert first[0].isupper()
    assert first.endswith(".")
    assert [spec.name for spec in node.inputs if not spec.doc and spec.name not in PLAIN] == []
    assert COMFY[node.name] is node


@pytest.mark.parametrize("node", COMFY.values(), ids=lambda node: node.id)
def test_a_default_is_a_value_that_its_input_takes(node):
    for spec in node.inputs:
        if spec.default is not REQUIRED:
            assert coerced(spec, spec.default) == spec.default


def test_clients_see_the_inputs_of_a_sampler_as_they_know_them():
    found = catalogue.v1(COMFY["KSampler"], lambda _: [])
    required = found["input"]["required"]
    assert list(required) == [
        "model", "seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image", "denoise",
    ]  # fmt: skip
    bare = {name: [kind, {k: v for k, v in said.items() if k != "tooltip"}] for name, (kind, said) in required.items()}
    assert bare["seed"] == ["INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}]
    assert bare["cfg"] == ["FLOAT", {"default": 8.0, "min": 0, "max": 100, "step": 0.1}]
    assert "euler" in bare["sampler_name"][0]
    assert (found["output"], found["output_name"], found["output_is_list"]) == (["LATENT"], ["LATENT"], [False])
    assert (found["name"], found["category"], found["output_node"]) == ("KSampler", "sampling", False)


def test_clients_see_a_node_of_lists_as_one():
    found = catalogue.v1(COMFY["RebatchImages"], lambda _: [])
    assert COMFY["RebatchImages"].takes_lists
    assert found["output_is_list"] == [True]
    assert found["input"]["required"]["batch_size"][1]["default"] == 1
    assert found["input"]["required"]["images"][0] == "IMAGE"


def test_a_primitive_says_that_it_may_be_drawn_anew():
    kind, said = catalogue.v1(COMFY["PrimitiveInt"], lambda _: [])["input"]["required"]["value"]
    assert (kind, said) == ("INT", {"min": -(2**63) + 1, "max": 2**63 - 1, "control_after_generate": True})


@pytest.mark.parametrize("path", sorted((ROOT / "nodes" / "comfy").glob("*.py")), ids=lambda path: path.stem)
def test_a_module_of_nodes_imports_what_computes_only_inside_its_functions(path):
    heavy = {"torch", "numpy", "PIL", "transformers", "safetensors"}
    top = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name.split(".")[0] for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {(node.module or "").split(".")[0] for node in top if isinstance(node, ast.ImportFrom)}
    assert not names & heavy


def test_listing_them_loads_nothing_that_computes():
    code = "import sys; from limner.nodes import ALL; assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_pack_for_comfyui_does_not_bring_them_along():
    """They are ComfyUI's ids: there its own nodes have them."""
    code = "import limner; assert not [i for i in limner.NODE_CLASS_MAPPINGS if not i.startswith('limner.')]"
    subprocess.run([sys.executable, "-c", code], check=True)
