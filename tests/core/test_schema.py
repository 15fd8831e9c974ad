"""Nodes are read off functions: sockets, widgets, help and outputs, and nothing is loaded to do so."""

import subprocess
import sys
from collections.abc import Generator
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from limner.core import catalogue
from limner.core.schema import REQUIRED, Choice, Context, Lazy, ModelFile, Multiline, Need, Range, Seed, node
from limner.core.values import Files, Image, Latent, Mask, TextEncoder
from limner.nodes import NODES


@node("test")
def shrink(
    latent: Annotated[Latent, "What becomes smaller."],
    factor: Annotated[float, Range(0, 1, 0.1), "By how much."] = 0.5,
    mask: Mask | None = None,
    *,
    context: Context,
) -> Latent:
    """Make a latent smaller.

    No further than to nothing.
    """
    return latent


class Parts(NamedTuple):
    first: Latent
    count: int


def test_a_node_is_the_function_it_was_made_of():
    @node("test")
    def add(a: int, b: int = 2) -> int:
        return a + b

    assert add(1) == 3
    assert (add.name, add.id, add.category, add.version) == ("Add", "limner.Add", "test", 1)


def test_sockets_widgets_and_help_stand_in_the_signature():
    assert [(i.name, i.wire, i.default, i.hint, i.doc, i.is_widget) for i in shrink.inputs] == [
        ("latent", "LATENT", REQUIRED, None, "What becomes smaller.", False),
        ("factor", "FLOAT", 0.5, Range(0, 1, 0.1), "By how much.", True),
        ("mask", "MASK", None, None, "", False),
    ]


def test_the_context_is_given_to_a_node_and_is_no_input():
    assert shrink.wants_context
    assert "context" not in [i.name for i in shrink.inputs]


def test_a_title_is_the_name_in_words():
    assert [NODES[f"limner.{n}"].title for n in ("LoadTextEncoder", "TrueOrFalse", "Sample")] == [
        "Load text encoder", "True or false", "Sample",
    ]  # fmt: skip


def test_an_optional_socket_is_one_with_a_default():
    latent, factor, mask = shrink.inputs
    assert (latent.optional, factor.optional, mask.optional) == (False, True, True)


def test_one_output_is_called_by_its_wire_and_several_by_their_names():
    @node("test")
    def split(latent: Latent) -> Parts:
        return Parts(latent, 1)

    assert [(o.name, o.wire, o.type) for o in shrink.outputs] == [("latent", "LATENT", Latent)]
    assert [(o.name, o.wire, o.type) for o in split.outputs] == [("first", "LATENT", Latent), ("count", "INT", int)]


@pytest.mark.parametrize("result", [None, Files])
def test_a_node_that_delivers_has_no_outputs_and_is_never_cached(result):
    def save(image: Image):
        pass

    save.__annotations__["return"] = result
    saved = node("test", delivers=True)(save)
    assert saved.outputs == ()
    assert (saved.delivers, saved.cached) == (True, False)


def test_a_literal_is_a_drop_down_and_may_be_left_out():
    @node("test")
    def walk(how: Literal["euler", "heun"] = "euler", then: Literal["stay", "go"] | None = None) -> int:
        return 0

    assert [(i.wire, i.hint, i.is_widget) for i in walk.inputs] == [
        ("STRING", Choice("euler", "heun"), True), ("STRING", Choice("stay", "go"), True),
    ]  # fmt: skip


def test_the_values_own_names_for_wires_hold():
    @node("test")
    def encode(clip: TextEncoder, what: Any, *, how: object = None) -> Any:
        return what

    assert [i.wire for i in encode.inputs] == ["CLIP", "*", "*"]
    assert [(o.name, o.wire, o.type) for o in encode.outputs] == [("value", "*", object)]


def test_an_input_is_found_by_a_name_that_it_once_had():
    @node("test", renamed={"cfg": "scale"})
    def guide(scale: float = 1.0) -> float:
        return scale

    assert guide.input("cfg") is guide.input("scale") is guide.inputs[0]
    assert guide.input("gone") is None


def test_a_long_node_says_what_it_returns_in_the_end():
    @node("test", returns=Latent, name="LongOne")
    def walk(steps: int = 1, other: Annotated[Any, Lazy()] = None) -> Generator[Need, Any, Latent]:
        return (yield Need("other"))

    assert walk.id == "limner.LongOne"
    assert [o.wire for o in walk.outputs] == ["LATENT"]
    assert [i.lazy for i in walk.inputs] == [False, True]


def test_a_node_without_annotations_is_refused_where_it_stands():
    with pytest.raises(KeyError, match="a"):

        @node("test")
        def add(a, b: int) -> int:
            return a


@pytest.mark.parametrize("one", [*NODES.values()], ids=lambda n: n.name)
def test_every_node_that_ships_explains_itself(one):
    assert one.doc.split("\n")[0].endswith(".")
    assert one.outputs or one.delivers
    assert len({i.name for i in one.inputs}) == len(one.inputs)
    for spec in one.inputs:
        if isinstance(spec.hint, Choice) and spec.default is not REQUIRED:
            assert spec.default in spec.hint
        if isinstance(spec.hint, Range) and spec.default not in (REQUIRED, None):
            assert spec.hint.low <= spec.default <= spec.hint.high


def test_the_catalogue_holds_what_an_editor_draws():
    described = catalogue.described(shrink)
    assert described["inputs"] == [
        {"name": "latent", "wire": "LATENT", "widget": False, "help": "What becomes smaller."},
        {"name": "factor", "wire": "FLOAT", "widget": True, "help": "By how much.", "default": 0.5, "min": 0, "max": 1,
         "step": 0.1},
        {"name": "mask", "wire": "MASK", "widget": False, "help": "", "default": None},
    ]  # fmt: skip
    assert described["outputs"] == [{"name": "latent", "wire": "LATENT"}]
    assert described["help"].startswith("Make a latent smaller.")


@pytest.mark.parametrize(
    ("hint", "kind", "said"),
    [
        (Choice("a", "b"), str, {"options": ["a", "b"]}),
        (Multiline(), str, {"multiline": True}),
        (Seed(), int, {"seed": True}),
        (ModelFile("vae"), str, {"models": "vae"}),
    ],
)
def test_every_widget_is_described(hint, kind, said):
    @node("test")
    def take(value: Annotated[kind, hint]) -> int:
        return 0

    (found,) = catalogue.described(take)["inputs"]
    assert said.items() <= found.items()
    assert "value" in catalogue.section(take)


def test_describing_checking_and_planning_load_neither_torch_nor_transformers(tmp_path):
    code = f"""
import sys
from pathlib import Path
from limner.core import catalogue, workflow
from limner.core.host import Host, Settings
from limner.core.graph import Instance, Link
from limner.nodes import NODES

assert len(catalogue.as_json(NODES)) == len(NODES) and catalogue.markdown(NODES)
host = Host(NODES, Settings(base=Path({str(tmp_path)!r})))
nodes = {{"a": Instance("limner.Text", {{"value": "x"}}), "b": Instance("limner.JoinText", {{"first": Link("a", 0)}})}}
assert not host.problems(nodes)
assert [e.verdict for e in host.explained(nodes, "", ["b"])] == ["MISS", "MISS"]
assert not {{"torch", "transformers", "numpy", "PIL"}} & set(sys.modules), "something heavy was loaded"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
