"""Everything wrong with a graph is found at once, where it is, in linear time and without recursion."""

import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from typing import Annotated, Any

import pytest
from limner.core.graph import (
    BadValue,
    Instance,
    Link,
    Problem,
    ancestors,
    coerced,
    loops,
    order,
    problems,
    targets,
)
from limner.core.messages import ENGLISH
from limner.core.schema import SEED_LIMIT, Choice, InputFile, ModelFile, Multiline, Range, Seed, node
from limner.core.values import Image, Latent, Mask


@node("test")
def number(value: int = 1) -> int:
    return value


@node("test")
def add(a: int, b: int) -> int:
    return a + b


@node("test")
def half(value: float) -> float:
    return value / 2


@node("test")
def picture() -> Image:
    raise NotImplementedError


@node("test")
def paint(image: Image, mask: Mask | None = None) -> Image:
    return image


@node("test", delivers=True)
def save(image: Image, prefix: str = "x") -> None:
    pass


@node("test")
def anything(value: Any) -> Any:
    return value


@node("test", renamed={"cfg": "scale"})
def guide(
    scale: Annotated[float, Range(0, 10)] = 1.0,
    how: Annotated[str, Choice("linear", "cosine")] = "linear",
    seed: Annotated[int, Seed()] = 0,
    model: Annotated[str, ModelFile("unet")] = "a.safetensors",
    name: Annotated[str, InputFile()] = "cat.png",
    limit: float | None = None,
) -> int:
    return 0


@node("test")
def choosy(value: int = 1) -> int:
    return value


def unlucky(constants, links):
    return {"value": "an unlucky number"} if constants.get("value") == 13 else {}


choosy = replace(choosy, checks=unlucky)
NODES = {n.id: n for n in (number, add, half, picture, paint, save, anything, guide, choosy)}
OFFERED = {ModelFile("unet"): ["a.safetensors", "b/c.safetensors"], InputFile(): ["cat.png"]}


def at(kind, **inputs):
    return Instance(f"limner.{kind}", inputs)


def found(graph, choices=OFFERED.__getitem__):
    return list(problems(graph, NODES, choices))


def said(graph):
    """Of each problem, where it is, its code and its sentence."""
    return {(p.node, p.input, p.code): p.message for p in found(graph)}


# one case for each sentence of the catalogue: what is wrong, at which input, and what is said
N, P = at("Number"), at("Picture")
HAS = "which has: a.safetensors, b/c.safetensors; did you mean 'a.safetensors'?"
GONE = "is plugged into the node 'y', which is not in the graph"
CASES = {
    "unknown_node": (at("Nunber"), None, "there is no node type 'limner.Nunber'; did you mean 'limner.Number'?"),
    "unknown_input": (at("Number", valeu=1), "valeu", "limner.Number has no such input; did you mean 'value'?"),
    "missing_value": (at("Half"), "value", "needs a value (FLOAT)"),
    "not_plugged_in": (at("Paint"), "image", "needs a IMAGE plugged in"),
    "value_for_socket": (at("Paint", image=3), "image", "takes a IMAGE from another node, not the value 3"),
    "no_such_node": (at("Half", value=Link("y", 0)), "value", GONE),
    "no_such_output": (at("Half", value=Link("n", 1)), "value", "is plugged into output 1 of 'n', which has 1"),
    "wrong_wire": (at("Half", value=Link("p", 0)), "value", "takes FLOAT, not IMAGE"),
    "wrong_type": (at("Half", value="much"), "value", "takes FLOAT, not 'much'"),
    "out_of_range": (at("Guide", scale=11), "scale", "must be from 0 to 10, not 11.0"),
    "not_a_choice": (
        at("Guide", how="cosinus"), "how", "is 'cosinus', but must be one of: linear, cosine; did you mean 'cosine'?",
    ),
    "no_such_file": (at("Guide", model="a.safetensor"), "model", f"there is no 'a.safetensor' in models/unet, {HAS}"),
    "refused": (at("Choosy", value=13), "value", "an unlucky number"),
    "loop": (at("Anything", value=Link("x", 0)), None, "is part of a loop"),
}  # fmt: skip


@pytest.mark.parametrize("code", CASES)
def test_every_problem_says_where_it_is_and_what_was_expected(code):
    instance, name, sentence = CASES[code]
    assert said({"x": instance, "n": N, "p": P}) == {("x", name, code): sentence}


def test_every_sentence_of_the_catalogue_has_its_case():
    assert set(CASES) == set(ENGLISH) - {"nothing_to_do"}  # which is said by who asks for targets


def test_all_problems_of_all_nodes_are_reported_at_once():
    graph = {
        "sum": at("Add", a=Link("gone", 0), c=1),
        "odd": at("Nope"),
        "g": at("Guide", scale=-1, how="x", seed=-1, name="dog.png"),
    }
    assert Counter((p.node, p.input, p.code) for p in found(graph)) == Counter([
        ("sum", "a", "no_such_node"), ("sum", "b", "missing_value"), ("sum", "c", "unknown_input"),
        ("odd", None, "unknown_node"),
        ("g", "scale", "out_of_range"), ("g", "how", "not_a_choice"), ("g", "seed", "out_of_range"),
        ("g", "name", "no_such_file"),
    ])  # fmt: skip


def test_a_graph_that_can_run_has_no_problems():
    graph = {
        "n": at("Number", value=3),
        "half": at("Half", value=Link("n", 0)),  # a whole number is a number
        "any": at("Anything", value=Link("half", 0)),
        "sum": at("Add", a=Link("any", 0), b=2),
        "p": at("Picture"),
        "out": at("Save", image=Link("p", 0)),
        "paint": at("Paint", image=Link("p", 0), mask=None),
        "g": at("Guide", cfg=2, limit=None),
    }
    assert found(graph) == []


def test_a_problem_is_a_value_that_prints_its_place():
    (problem,) = found({"x": at("Half", value="much")})
    assert problem == Problem("x", "value", "wrong_type", (("wire", "FLOAT"), ("found", "'much'")))
    assert str(problem) == "x.value: takes FLOAT, not 'much'"
    assert str(Problem("x", None, "loop")) == "x: is part of a loop"


def test_an_input_is_checked_under_the_name_it_once_had():
    (problem,) = found({"x": at("Guide", cfg=11)})
    assert (problem.input, problem.code) == ("scale", "out_of_range")


@pytest.mark.parametrize("output", [-1, 1, 2**60])
def test_a_link_to_an_output_that_there_is_not_is_a_problem(output):
    (problem,) = found({"a": at("Number"), "b": at("Number", value=Link("a", output))})
    assert problem.code == "no_such_output"


def test_what_is_plugged_into_an_unknown_node_is_one_problem_not_two():
    assert [p.code for p in found({"a": at("Nope"), "b": at("Paint", image=Link("a", 0))})] == ["unknown_node"]


def test_a_list_that_looks_like_a_link_is_a_value_where_it_is_meant_as_one():
    (problem,) = found({"x": at("Number", value=["1", 0])})
    assert problem.message == "takes INT, not ['1', 0]"


def test_a_long_wrong_value_is_not_repeated_in_full():
    for graph in (
        {"x": at("Half", value="9" * 10**6)},
        {"x": at("Guide", how="x" * 10**6)},
        {"x": at("Paint", image="x" * 10**6)},
    ):
        (problem,) = (p for p in found(graph) if p.code != "missing_value")
        assert len(problem.message) < 200


def test_a_host_without_files_takes_any_name():
    assert found({"x": at("Guide", model="z", name="z")}, choices=None) == []


# what a widget of each type makes of what a file or a command line may hold; None: it is refused
# given, as a whole number, as a number
NUMBERS = [
    (0, 0, 0.0), (1, 1, 1.0), (-3, -3, -3.0), (2**60, 2**60, 2.0**60), (1.0, 1, 1.0), (1.5, None, 1.5), (-0.0, 0, -0.0),
    (1e300, int(1e300), 1e300), ("7", 7, 7.0), ("007", 7, 7.0), (" 7 ", 7, 7.0), ("1.5", None, 1.5), ("1e3", None, 1e3),
    *((value, None, None) for value in ("x", "", "nan", "inf", True, False, None, [1], {"a": 1})),
]  # fmt: skip
BOOLEANS = [(True, True), (False, False), ("true", True), ("False", False), ("TRUE", True),
            (1, True), (0, False), *((value, None) for value in ("yes", "1", 2, 0.5, None, []))]  # fmt: skip
TEXTS = [("a", "a"), ("", ""), ("007", "007"), (7, "7"), (1.5, "1.5"), (None, None), ([], None), ({}, None)]


def taken(kind, value, hint=None):
    @node("test")
    def take(value: Annotated[kind, hint] if hint else kind) -> int:
        return 0

    try:
        return coerced(take.inputs[0], value)
    except BadValue:
        return None


@pytest.mark.parametrize(("value", "whole", "number"), NUMBERS, ids=repr)
def test_numbers_are_taken_as_the_type_that_is_declared(value, whole, number):
    as_int, as_float = taken(int, value), taken(float, value)
    assert (as_int, type(as_int)) == (whole, type(whole))
    assert (as_float, type(as_float)) == (number, type(number))


@pytest.mark.parametrize(("value", "expected"), BOOLEANS, ids=repr)
def test_only_two_words_one_and_nought_and_truth_values_are_yes_or_no(value, expected):
    assert taken(bool, value) is expected


@pytest.mark.parametrize(("value", "expected"), TEXTS, ids=repr)
def test_a_text_is_taken_verbatim(value, expected):
    assert taken(str, value) == taken(str, value, Multiline()) == expected


def test_bounds_are_part_of_a_range():
    assert [taken(int, v, Range(1, 3)) for v in (0, 1, 3, 4)] == [None, 1, 3, None]
    assert [taken(int, v, Seed()) for v in (-1, 0, SEED_LIMIT, SEED_LIMIT + 1)] == [None, 0, SEED_LIMIT, None]


def test_nothing_stays_nothing_where_that_is_the_default():
    assert coerced(guide.input("limit"), None) is None
    assert coerced(guide.input("limit"), 3) == 3.0
    with pytest.raises(BadValue):
        coerced(guide.input("scale"), None)


def test_order_puts_each_node_after_what_it_depends_on():
    graph = {"c": at("Add", a=Link("b", 0), b=Link("a", 0)), "b": at("Number", value=Link("a", 0)), "a": at("Number")}
    assert order(graph) == ("a", "b", "c")


def test_ancestors_are_what_a_target_needs_and_no_more():
    graph = {"a": at("Number"), "b": at("Number", value=Link("a", 0)), "c": at("Number", value=Link("gone", 0))}
    assert ancestors(graph, ["b"]) == {"a", "b"}
    assert ancestors(graph, ["c", "nowhere"]) == {"c"}


def test_targets_are_the_nodes_that_deliver():
    assert targets({"p": at("Picture"), "s": at("Save", image=Link("p", 0)), "odd": at("Nope")}, NODES) == ("s",)


# ------------------------------------------------------------------------------------------------------------- loops


def ring(size, name="n"):
    return {f"{name}{k}": at("Number", value=Link(f"{name}{(k + 1) % size}", 0)) for k in range(size)}


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_every_node_of_a_loop_is_named(size):
    graph = ring(size) | {"before": at("Number"), "after": at("Add", a=Link("n0", 0), b=Link("before", 0))}
    assert sorted(loops(graph)) == sorted(ring(size))
    assert [p.node for p in found(graph)] == [p.node for p in found(graph) if p.code == "loop"]


def test_a_loop_is_told_in_its_order():
    assert list(loops(ring(4))) == ["n0", "n1", "n2", "n3"]


def test_several_loops_are_all_found_and_what_lies_between_them_is_in_none():
    graph = ring(3, "a") | ring(2, "b")
    graph["between"] = at("Number", value=Link("a0", 0))
    graph["b0"] = at("Add", a=Link("b1", 0), b=Link("between", 0))
    assert sorted(loops(graph)) == ["a0", "a1", "a2", "b0", "b1"]


def test_loops_that_share_a_node_are_one():
    graph = {
        "x": at("Add", a=Link("y", 0), b=Link("z", 0)),
        "y": at("Number", value=Link("x", 0)),
        "z": at("Number", value=Link("x", 0)),
    }
    assert sorted(loops(graph)) == ["x", "y", "z"]


def test_loops_agree_with_the_definition_on_random_graphs():
    for seed in range(200):
        rng = random.Random(seed)
        ids = [str(k) for k in range(rng.randint(1, 8))]
        graph = {i: at("Add", **{name: Link(rng.choice(ids), 0) for name in "ab" if rng.random() < 0.6}) for i in ids}
        reaches_itself = [i for i in ids if any(i in ancestors(graph, [v.node]) for v in graph[i].inputs.values())]
        assert sorted(loops(graph)) == reaches_itself, seed


# --------------------------------------------------------------------------------------------------------- size


def chain(size):
    return {"0": at("Number")} | {str(k): at("Number", value=Link(str(k - 1), 0)) for k in range(1, size)}


def fan(size):
    return {"0": at("Number")} | {str(k): at("Number", value=Link("0", 0)) for k in range(1, size)}


def ladder(depth):
    """Two ways at each of `depth` rungs: 2**depth paths."""
    rungs = {f"{k}": at("Add", a=Link(f"{k - 1}", 0), b=Link(f"{k - 1}", 0)) for k in range(1, depth)}
    return {"0": at("Number")} | rungs


@pytest.mark.parametrize("graph", [chain(10_000), dict(reversed(chain(10_000).items())), fan(10_000), ladder(40)],
                         ids=["chain", "chain from its end", "fan", "ladder"])  # fmt: skip
def test_large_graphs_are_checked_in_linear_time_without_recursion(graph):
    began = time.process_time()
    assert found(graph) == []
    assert len(order(graph)) == len(ancestors(graph, graph)) == len(graph)
    assert time.process_time() - began < 5  # takes 0.1; what is quadratic takes minutes


def test_a_large_loop_is_found_with_hardly_any_stack():
    code = """
import sys
from limner.core.graph import Instance, Link, loops, order, ancestors
graph = {str(k): Instance("x", {"v": Link(str((k + 1) % 10_000), 0)}) for k in range(10_000)}
del graph["0"].inputs["v"]
sys.setrecursionlimit(60)
assert len(order(graph)) == len(ancestors(graph, ["1"])) == 10_000 and not list(loops(graph))
graph["0"].inputs["v"] = Link("1", 0)
assert len(list(loops(graph))) == 10_000
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_values_of_foreign_types_do_not_stop_the_check():
    assert {p.code for p in found({"x": at("Half", value=object()), "y": at("Add", a=Latent, b=b"")})} == {"wrong_type"}
