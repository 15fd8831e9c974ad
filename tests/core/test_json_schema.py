"""The schema of workflow files: what runs is valid, what is broken is not, and it says where."""

import copy
import json
from typing import Annotated, Literal

import pytest
from jsonschema import Draft202012Validator
from limner.core.host import WORKFLOWS
from limner.core.json_schema import workflow_schema
from limner.core.schema import Context, Multiline, Range, node
from limner.core.values import Image
from limner.nodes import NODES

SHIPPED = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(WORKFLOWS.glob("*.json"))}


def of(*nodes):
    return workflow_schema({n.id: n for n in nodes})


def wrong(schema, document):
    """Where a document is not as the schema says: the paths of all errors that have no further cause."""
    found, waiting = set(), list(Draft202012Validator(schema).iter_errors(document))
    while waiting:
        error = waiting.pop()
        found.add("/".join(map(str, error.absolute_path)))
        waiting += error.context or []
    return found


@pytest.fixture(scope="module")
def schema():
    return workflow_schema(NODES)


def test_it_is_a_schema(schema):
    Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema


@pytest.mark.parametrize("name", SHIPPED)
def test_the_workflows_that_come_along_are_valid(schema, name):
    assert wrong(schema, SHIPPED[name]) == set()
    assert wrong(schema, SHIPPED[name]["graph"]) == set()  # as ComfyUI's API format


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("", lambda d: d.update(limner=2)),
        ("", lambda d: d.pop("graph")),
        ("graph/load", lambda d: d["graph"]["load"].pop("class_type")),
        ("graph/load/class_type", lambda d: d["graph"]["load"].update(class_type="limner.LoadChekpoint")),
        ("graph/latent/inputs", lambda d: d["graph"]["latent"]["inputs"].pop("model")),
        ("graph/latent/inputs", lambda d: d["graph"]["latent"]["inputs"].update(widht=64)),
        ("graph/latent/inputs/width", lambda d: d["graph"]["latent"]["inputs"].update(width=-8)),
        ("graph/latent/inputs/width", lambda d: d["graph"]["latent"]["inputs"].update(width="wide")),
        ("graph/sample/inputs/sampler", lambda d: d["graph"]["sample"]["inputs"].update(sampler="eular")),
        ("graph/sample/inputs/seed", lambda d: d["graph"]["sample"]["inputs"].update(seed=2**53)),
        ("graph/sample/inputs/guider", lambda d: d["graph"]["sample"]["inputs"].update(guider="guide")),
        ("graph/sample/inputs/guider/1", lambda d: d["graph"]["sample"]["inputs"].update(guider=["guide", -1])),
    ],
)
def test_what_is_broken_is_found_where_it_is(schema, place, change):
    document = copy.deepcopy(SHIPPED["text-to-image"])
    change(document)
    assert any(found.startswith(place) for found in wrong(schema, document) or ()), wrong(schema, document)
    assert wrong(schema, document)


def test_a_node_that_takes_no_part_may_be_half_done(schema):
    document = copy.deepcopy(SHIPPED["text-to-image"])
    document["graph"]["latent"]["inputs"] = {}
    assert wrong(schema, document)
    document["graph"]["latent"]["_meta"] = {"mode": "mute"}
    assert wrong(schema, document) == set()


def test_a_file_with_definitions_may_use_them_as_types(schema):
    document = copy.deepcopy(SHIPPED["text-to-image"])
    document["graph"]["own"] = {"class_type": "my-subgraph", "inputs": {"x": 1}}
    assert wrong(schema, document) == {"graph/own/class_type"}
    inner = {"class_type": "limner.Text", "inputs": {"value": "a"}}
    document["definitions"] = {"my-subgraph": {"graph": {"a": inner}, "outputs": [{"from": ["a", 0]}]}}
    assert wrong(schema, document) == set()
    inner["inputs"]["value"] = 7
    assert wrong(schema, document)
    inner["inputs"]["value"] = "a"
    del document["definitions"]["my-subgraph"]["graph"]
    assert wrong(schema, document) == {"definitions/my-subgraph"}


@node("test")
def paint(
    image: Image,
    words: Annotated[str, Multiline(), "What to paint."],
    how: Literal["thick", "thin"] = "thin",
    strength: Annotated[float, Range(0, 1)] = 0.5,
    mask: Image | None = None,
    varnished: bool = False,
    *,
    context: Context,
) -> Image:
    """Paint over a picture."""


def test_an_input_is_described_by_its_own_words():
    inputs = of(paint)["$defs"]["type:limner.Paint"]
    assert inputs["title"] == "Paint"
    assert inputs["description"] == "Paint over a picture."
    assert inputs["required"] == ["image", "words"]
    assert inputs["properties"]["words"]["description"] == "What to paint."
    assert inputs["properties"]["how"]["default"] == "thin"
    assert "context" not in inputs["properties"]


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("words", "x", True),
        ("words", ["a", 0], True),
        ("words", None, False),
        ("how", "thick", True),
        ("how", "broad", False),
        ("strength", 1, True),
        ("strength", 1.1, False),
        ("strength", True, False),
        ("varnished", True, True),
        ("varnished", 1, False),
        ("image", "x", False),
        ("mask", None, True),
        ("mask", ["a", 0], True),
        ("mask", 7, False),
    ],
)
def test_a_value_fits_as_its_input_declares(name, value, fits):
    inputs = {"image": ["a", 0], "words": "x"} | {name: value}
    assert wrong(of(paint), {"1": {"class_type": "limner.Paint", "inputs": inputs}}) is not fits


def test_bounds_that_json_has_no_word_for_are_left_out():
    @node("test")
    def weigh(weight: Annotated[float, Range(0, float("inf"))] = 1.0) -> float:
        """Weigh."""

    (_, kind) = of(weigh)["$defs"]["type:limner.Weigh"]["properties"]["weight"]["anyOf"]
    assert kind == {"type": "number", "minimum": 0}


def test_an_input_is_also_known_by_the_name_it_once_had():
    @node("test", renamed={"prompt": "words"})
    def draw(words: str) -> Image:
        """Draw."""

    for name, fits in (("words", True), ("prompt", True), ("text", False)):
        assert wrong(of(draw), {"1": {"class_type": "limner.Draw", "inputs": {name: "x"}}}) is not fits
    assert wrong(of(draw), {"1": {"class_type": "limner.Draw", "inputs": {}}})
    assert of(draw)["$defs"]["type:limner.Draw"]["properties"]["prompt"]["deprecated"]


def test_a_foreign_nodes_odd_name_is_no_riddle():
    from dataclasses import replace

    odd = replace(paint, namespace="", name="Ünï/code ~#%1 (pack)")
    assert wrong(of(odd), {"1": {"class_type": odd.id, "inputs": {}}}) == {"1/inputs"}


def test_inputs_that_a_node_checks_itself_are_left_to_it():
    from dataclasses import replace

    free = replace(paint, unchecked=lambda: frozenset({"how", "image"}))
    inputs = {"words": "x", "how": "broad"}
    assert wrong(of(free), {"1": {"class_type": free.id, "inputs": inputs}}) == set()
    everything = replace(paint, namespace="", unchecked=lambda: frozenset({"*"}))
    assert wrong(of(everything), {"1": {"class_type": everything.id, "inputs": {"other": 1}}}) == set()
