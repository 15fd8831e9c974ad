"""Keys are a result's whole history, and nothing else: equal keys, equal results."""

import subprocess
import sys
from dataclasses import replace
from typing import Annotated, Any

import pytest
from limner.core.graph import BadValue, Instance, Link
from limner.core.plan import Fingerprint, by_name, plan, resettled
from limner.core.schema import InputFile, ModelFile, node


@node("test")
def number(value: int = 1) -> int:
    return value


@node("test")
def add(a: int, b: int = 0) -> int:
    return a + b


@node("test")
def anything(value: Any = None) -> Any:
    return value


@node("test")
def ratio(value: float = 1) -> float:
    return value


@node("test", cached=False)
def clock() -> int:
    return 0


@node("test")
def load(name: Annotated[str, ModelFile("unet")] = "a") -> int:
    return 0


@node("test")
def picture(name: Annotated[str, InputFile()] = "a") -> int:
    return 0


NODES = {n.id: n for n in (number, add, anything, ratio, clock, load, picture)}


def at(kind, **inputs):
    return Instance(f"limner.{kind}", inputs)


def step(graph, target, fingerprints=by_name, salt=lambda _: "salt", registry=NODES):
    return plan(graph, registry, [target], fingerprints, salt).steps[target]


def key(instance, **more):
    return step({"x": instance}, "x", **more).key


GRAPH = {"a": at("Number", value=1), "b": at("Number", value=2), "sum": at("Add", a=Link("a", 0), b=Link("b", 0))}


def test_a_plan_holds_what_the_targets_need_each_after_what_it_depends_on():
    planned = plan(GRAPH | {"unused": at("Nope")}, NODES, ["sum"])
    assert list(planned.steps) == ["a", "b", "sum"]
    assert planned.targets == ("sum",)


def test_defaults_are_filled_in():
    assert step({"x": at("Add", a=1)}, "x").inputs == {"a": 1, "b": 0}
    assert key(at("Add", a=1)) == key(at("Add", a=1, b=0))


def test_a_value_is_of_its_declared_type_before_it_enters_a_key():
    assert len({key(at("Number", value=v)) for v in (1, 1.0, "1", " 1 ")}) == 1
    assert len({key(at("Ratio", value=v)) for v in (1, 1.0, "1")} | {key(at("Ratio"))}) == 1
    with pytest.raises(BadValue):
        key(at("Number", value=True))


def test_where_no_type_is_declared_values_that_python_calls_equal_have_different_keys():
    assert len({key(at("Anything", value=v)) for v in (1, 1.0, True, "1", [1], {"a": 1}, {"a": True}, None)}) == 8


def test_the_order_of_inputs_and_of_the_keys_in_a_value_is_in_no_key():
    assert key(at("Add", a=1, b=2)) == key(at("Add", b=2, a=1))
    assert key(at("Anything", value={"a": 1, "b": 2})) == key(at("Anything", value={"b": 2, "a": 1}))


def test_node_ids_and_titles_are_in_no_key():
    moved = {"7": GRAPH["b"], "8": at("Add", a=Link("9", 0), b=Link("7", 0)), "9": replace(GRAPH["a"], title="One")}
    assert step(GRAPH, "sum").key == step(moved, "8").key
    assert step(GRAPH, "sum").stored_key == step(moved, "8").stored_key


def test_nodes_set_up_alike_have_one_key_and_others_have_not():
    assert key(at("Number", value=1)) == key(at("Number"))
    assert (
        len(
            {
                key(i)
                for i in (
                    at("Number"),
                    at("Number", value=2),
                    at("Anything", value=1),
                    at("Add", a=1),
                    at("Add", a=0, b=1),
                )
            }
        )
        == 5
    )


def test_a_link_is_never_mistaken_for_a_value_nor_one_output_for_another():
    above = at("Number")
    linked = [step({"a": above, "x": at("Anything", value=Link("a", k))}, "x").key for k in (0, 1)]
    literal = key(at("Anything", value=["from", key(above), 0]))
    assert len({*linked, literal}) == 3


def test_a_change_enters_the_keys_of_all_that_is_below_it_and_of_nothing_else():
    changed = GRAPH | {"a": at("Number", value=3)}
    assert step(GRAPH, "sum").key != step(changed, "sum").key
    assert step(GRAPH, "b").key == step(changed, "b").key


def test_raising_a_nodes_version_changes_its_keys_and_those_below_it():
    newer = NODES | {number.id: replace(number, version=2)}
    for target in ("a", "sum"):
        assert step(GRAPH, target).key != step(GRAPH, target, registry=newer).key
        assert step(GRAPH, target).stored_key != step(GRAPH, target, registry=newer).stored_key


def test_an_input_that_was_renamed_has_the_key_that_it_has_now():
    newer = NODES | {add.id: replace(add, renamed=(("left", "a"),))}
    assert key(at("Add", left=1), registry=newer) == key(at("Add", a=1))


def test_keys_are_the_same_in_every_process():
    code = """
from limner.core.graph import Instance
from limner.core.plan import plan
from limner.nodes import NODES
print(plan({"x": Instance("limner.Text", {"value": "é"})}, NODES, ["x"]).steps["x"].key)
"""
    prints = [
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in "12"
    ]
    assert len(prints[0]) == 33
    assert prints[0] == prints[1]


# -------------------------------------------------------------------------------------------------- stored keys


def test_a_stored_key_holds_the_salt_of_its_node_and_of_all_above_it():
    salts = {"Number": "n", "Add": "a"}
    before = step(GRAPH, "sum", salt=lambda n: salts[n.name])
    for name in salts:
        after = step(GRAPH, "sum", salt=lambda n, name=name: "other" if n.name == name else salts[n.name])
        assert after.stored_key != before.stored_key
        assert after.key == before.key


def test_what_is_below_a_node_that_is_not_stored_is_not_stored():
    assert step(GRAPH, "sum", salt=lambda n: None if n is number else "salt").stored_key is None
    assert step(GRAPH, "sum", salt=lambda n: None if n is add else "salt").stored_key is None
    assert step(GRAPH, "sum").stored_key is not None


def test_what_is_below_a_node_that_always_runs_is_never_kept():
    graph = {"now": at("Clock"), "x": at("Add", a=Link("now", 0)), "y": at("Add", a=Link("x", 0)), "z": at("Number")}
    planned = plan(graph, NODES, ["y", "z"], salt=lambda _: "salt")
    assert {i: s.cached for i, s in planned.steps.items()} == {"now": False, "x": False, "y": False, "z": True}
    assert [s.stored_key for s in planned.steps.values() if not s.cached] == [None] * 3


# -------------------------------------------------------------------------------------------------------- files


def contents(**files):
    return lambda _, name: Fingerprint(files[name])


def test_a_file_enters_by_its_content():
    assert key(at("Picture"), fingerprints=contents(a="cat")) != key(at("Picture"), fingerprints=contents(a="dog"))


def test_a_picture_under_another_name_is_the_same_picture():
    fingerprints = contents(a="cat", b="cat")
    assert key(at("Picture", name="a"), fingerprints=fingerprints) == key(
        at("Picture", name="b"), fingerprints=fingerprints
    )


def test_a_model_under_another_name_is_the_same_on_disk_but_not_in_memory_where_its_path_is_known():
    one, two = (step({"x": at("Load", name=n)}, "x", contents(a="unet", b="unet")) for n in "ab")
    assert one.stored_key == two.stored_key
    assert one.key != two.key


def test_what_names_a_file_by_a_link_is_never_kept_nor_what_is_made_of_it():
    graph = {"name": at("Number", value=1), "p": at("Picture", name=Link("name", 0)), "q": at("Add", a=Link("p", 0))}
    planned = plan(graph, NODES, ["q"], contents(a="cat"), lambda _: "salt")
    assert {i: s.cached for i, s in planned.steps.items()} == {"name": True, "p": False, "q": False}


def test_a_host_without_files_goes_by_their_names():
    assert key(at("Picture", name="a")) != key(at("Picture", name="b"))
    assert key(at("Picture", name="a")) != key(at("Load", name="a"))


def test_a_file_is_looked_at_once_in_a_plan():
    seen = []

    def once(hint, name):
        seen.append(name)
        return Fingerprint(str(len(seen)))

    graph = {"x": at("Picture"), "y": at("Picture"), "z": at("Picture", name="b")}
    planned = plan(graph, NODES, ["x", "y", "z"], once)
    assert seen == ["a", "b"]
    assert planned.steps["x"].key == planned.steps["y"].key


def stand_ins(hint, name):
    return Fingerprint(f"stand-in for {name}", settled=False)


LOADED = {
    "m": at("Load"),
    "sum": at("Add", a=Link("m", 0)),
    "n": at("Number"),
    "both": at("Add", a=Link("sum", 0), b=Link("n", 0)),
}


def test_while_a_hash_is_awaited_nothing_below_its_file_is_stored():
    planned = plan(LOADED, NODES, ["both"], stand_ins, lambda _: "salt")
    assert {i: s.settled for i, s in planned.steps.items()} == {"m": False, "sum": False, "n": True, "both": False}
    assert {i for i, s in planned.steps.items() if s.stored_key is None} == {"m", "sum", "both"}


def test_once_the_hash_is_there_keys_are_what_they_would_have_been():
    planned = plan(LOADED, NODES, ["both"], stand_ins, lambda _: "salt")
    settled = resettled(planned, {"stand-in for a": Fingerprint("unet")}.get, lambda _: "salt")
    assert settled == {
        i: s for i, s in plan(LOADED, NODES, ["both"], contents(a="unet"), lambda _: "salt").steps.items() if i != "n"
    }
    assert all(settled[i].key != planned.steps[i].key for i in settled)


def test_a_file_that_changed_while_it_was_awaited_settles_nothing():
    graph = LOADED | {"p": at("Picture", name="b"), "q": at("Add", a=Link("p", 0))}
    planned = plan(graph, NODES, ["both", "q"], stand_ins, lambda _: "salt")
    settled = resettled(planned, {"stand-in for b": Fingerprint("cat")}.get, lambda _: "salt")
    assert set(settled) == {"p", "q"}
