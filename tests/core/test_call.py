"""What foreign nodes may do: lists, lazy inputs, expansion, blocks, coroutines, writing into what they are given."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from limner.core.cache import Cache
from limner.core.call import CALLING
from limner.core.drive import drive
from limner.core.errors import BadReturn
from limner.core.event import Failed, Finished, Moved, Refused, Started, Stopped, Warned
from limner.core.graph import Instance, Link
from limner.core.plan import plan
from limner.core.run import Run
from limner.core.schema import REQUIRED, Context, Input, Node, Output
from limner.core.values import Blocked, Image, Items, Progress, Returned

calls: list[Any] = []


@pytest.fixture(autouse=True)
def _forget():
    calls.clear()


def foreign(function, inputs=(), outputs=1, **traits):
    """A node as a foreign pack has it: inputs by name, `lazy_` before those that are lazy, `raw_` before links."""
    specs = tuple(
        Input(name.removeprefix("lazy_").removeprefix("raw_"), object, "*", REQUIRED, lazy=name.startswith("lazy_"),
              raw=name.startswith("raw_"), options={})
        for name in inputs
    )  # fmt: skip
    named = [Output(f"out{k}", "*") for k in range(outputs)] if isinstance(outputs, int) else outputs
    return Node(
        name=function.__name__, category="test", version="1", function=function, inputs=specs, outputs=tuple(named),
        namespace="", pack="toys", **traits,
    )  # fmt: skip


def value(v):
    calls.append(v)
    return Returned((v,))


def many(values):
    return Returned((list(values),))


def double(v):
    calls.append(v)
    return Returned((v * 2,))


def both(a, b):
    calls.append((a, b))
    return Returned((a + b,))


def whole(values):
    calls.append(values)
    return Returned((sum(values),))


def show(v):
    return Returned((), ui={"text": [str(v)]})


def block(message):
    return Returned((Blocked(message),))


VALUE, DOUBLE, BOTH = foreign(value, ["v"]), foreign(double, ["v"]), foreign(both, ["a", "b"])
MANY = foreign(many, ["values"], [Output("out", "*", many=True)])
WHOLE = foreign(whole, ["values"], takes_lists=True)
SHOW = foreign(show, ["v"], 0, delivers=True)
BLOCK = foreign(block, ["message"])
REGISTRY = {n.id: n for n in (VALUE, DOUBLE, BOTH, MANY, WHOLE, SHOW, BLOCK)}


def at(kind, **inputs):
    return Instance(kind, inputs)


def from_(node, output=0):
    return Link(node, output)


def a_run(graph, *targets, cache=None, more=(), **options):
    registry = REGISTRY | {n.id: n for n in more}
    planned = plan(graph, registry, targets or list(graph)[-1:])
    return Run(planned, cache or Cache(), Context(None, None, Path("/output"), Path("/temp")), **options)


def events(graph, *targets, **options):
    return [event for _, event in drive([a_run(graph, *targets, **options)], None)]


def result(graph, *targets, **options):
    """The outputs of the last node."""
    last = events(graph, *targets, **options)[-1]
    assert isinstance(last, Finished), last
    return last.outputs


def executed(found):
    return [e.node for e in found if isinstance(e, Finished) and not e.cached]


def listing(*values, **rest):
    return {"list": at("many", values=list(values)), **rest}


# ------------------------------------------------------------------------------------------ lists


def test_a_node_is_called_for_each_item_of_a_list():
    assert result(listing(1, 2, 3, twice=at("double", v=from_("list")))) == (Items((2, 4, 6)),)
    assert calls == [1, 2, 3]


def test_the_shorter_list_goes_on_with_its_last_item():
    graph = listing(1, 2, 3, short=at("many", values=[10, 20]), sum=at("both", a=from_("list"), b=from_("short")))
    assert result(graph) == (Items((11, 22, 23)),)


def test_a_single_value_goes_with_every_item():
    assert result(listing(1, 2, sum=at("both", a=from_("list"), b=5))) == (Items((6, 7)),)


def test_a_node_that_takes_lists_is_called_once_with_all_items():
    assert result(listing(1, 2, 3, sum=at("whole", values=from_("list")))) == (6,)
    assert calls == [[1, 2, 3]]


def test_a_node_that_takes_lists_is_given_single_values_as_lists():
    result({"sum": at("whole", values=4)})
    assert calls == [[4]]


def test_lists_that_calls_return_are_put_one_after_another():
    graph = listing(1, 2, twice=at("pair", v=from_("list")))
    pair = foreign(lambda v: Returned(([v, v * 10],)), ["v"], [Output("out", "*", many=True)])
    assert result(graph, more=[replace(pair, name="pair")]) == (Items((1, 10, 2, 20)),)


def test_a_list_of_one_is_a_value():
    assert result(listing(7, twice=at("double", v=from_("list")))) == (14,)


def test_an_empty_list_is_told_at_the_input_that_gets_it():
    last = events(listing(twice=at("double", v=from_("list"))))[-1]
    assert isinstance(last, Failed)
    assert str(last.error) == "gets an empty list at 'v'"


def test_what_calls_show_is_shown_together():
    (*_, last) = events(listing(1, 2, show=at("show", v=from_("list"))))
    assert last.ui == {"text": ["1", "2"]}


# ------------------------------------------------------------------------------------------ lazy


def choose(first, a=None, b=None):
    return Returned((a if first else b,))


def needs(first, a=None, b=None):
    return ["a"] if first and a is None else ["b"] if not first and b is None else []


CHOOSE = foreign(choose, ["first", "lazy_a", "lazy_b"], asks=needs)


def two_ways(first):
    return {"a": at("value", v=1), "b": at("value", v=2), "c": at("choose", first=first, a=from_("a"), b=from_("b"))}


@pytest.mark.parametrize(("first", "expected"), [(True, 1), (False, 2)])
def test_only_the_lazy_input_that_a_node_asks_for_is_evaluated(first, expected):
    assert result(two_ways(first), more=[CHOOSE]) == (expected,)
    assert calls == [expected]


def test_mapped_over_a_list_each_call_asks_and_all_that_is_asked_for_is_evaluated():
    graph = two_ways(True) | {"list": at("many", values=[True, False])}
    graph["c"] = at("choose", first=from_("list"), a=from_("a"), b=from_("b"))
    assert result({i: graph[i] for i in ("list", "a", "b", "c")}, more=[CHOOSE]) == (Items((1, 2)),)


def test_asking_may_take_time_and_may_ask_again():
    async def one_by_one(a=None, b=None):
        await asyncio.sleep(0)
        return ["a"] if a is None else ["b"] if b is None else []

    patient = replace(foreign(both, ["lazy_a", "lazy_b"], asks=one_by_one), name="patient")
    graph = {"a": at("value", v=1), "b": at("value", v=2), "p": at("patient", a=from_("a"), b=from_("b"))}
    assert result(graph, more=[patient]) == (3,)
    assert calls == [1, 2, (1, 2)]


# ------------------------------------------------------------------------------------------ blocks


def test_a_block_stops_what_depends_on_it_and_nothing_else():
    graph = {
        "no": at("block", message=None),
        "below": at("double", v=from_("no")),
        "end": at("show", v=from_("below")),
        "other": at("show", v=1),
    }
    found = events(graph, "end", "other")
    assert calls == []
    assert [type(e) for e in found if isinstance(e, Failed | Refused)] == []
    assert executed(found) == ["no", "below", "end", "other"]


def test_a_block_with_a_message_is_told_once_at_the_first_node_that_it_stops():
    graph = {"no": at("block", message="not today"), "a": at("double", v=from_("no")), "b": at("double", v=from_("a"))}
    assert [e for e in events(graph) if isinstance(e, Refused)] == [Refused("a", "not today")]


def test_a_block_stops_one_item_of_a_list():
    pick = replace(foreign(lambda v: Returned((Blocked() if v == 2 else v,)), ["v"]), name="pick")
    graph = listing(1, 2, 3, pick=at("pick", v=from_("list")), twice=at("double", v=from_("pick")))
    assert result(graph, more=[pick]) == (Items((2, Blocked(), 6)),)
    assert calls == [1, 3]


def test_a_block_in_a_list_stops_the_node_that_takes_the_whole_list():
    pick = replace(foreign(lambda v: Returned((Blocked() if v == 2 else v,)), ["v"]), name="pick")
    graph = listing(1, 2, pick=at("pick", v=from_("list")), sum=at("whole", values=from_("pick")))
    assert result(graph, more=[pick]) == (Blocked(),)
    assert calls == []


# ------------------------------------------------------------------------------------------ expansion


def grow(v):
    here = CALLING.get()
    inner, outer = f"{here.node}.{here.index}.in", f"{here.node}.{here.index}.out"
    nodes = {
        inner: {"class_type": "double", "inputs": {"v": v}},
        outer: {"class_type": "both", "inputs": {"a": [inner, 0], "b": 1}},
    }
    return Returned((Link(outer, 0),), expand=nodes)


def count_down(n, total):
    """A loop: each turn puts the next in its place."""
    if n == 0:
        return Returned((total,))
    turn = f"{CALLING.get().node}.next"
    return Returned(
        (Link(turn, 0),), expand={turn: {"class_type": "count_down", "inputs": {"n": n - 1, "total": total + n}}}
    )


GROW, COUNT = foreign(grow, ["v"]), foreign(count_down, ["n", "total"])


def test_a_node_may_put_others_in_its_place():
    found = events({"g": at("grow", v=5), "t": at("double", v=from_("g"))}, more=[GROW])
    assert found[-1].outputs == (22,)
    assert executed(found) == ["g.0.in", "g.0.out", "g", "t"]
    assert {e.node: (e.display, e.parent) for e in found if isinstance(e, Started)} == {
        "g": ("g", ""), "t": ("t", ""), "g.0.in": ("g", "g"), "g.0.out": ("g", "g"),
    }  # fmt: skip


def test_an_expansion_is_cached_with_the_node_and_inside():
    cache = Cache()
    graph = {"g": at("grow", v=5), "t": at("double", v=from_("g"))}
    events(graph, cache=cache, more=[GROW])
    calls.clear()
    assert executed(events(graph, cache=cache, more=[GROW])) == []
    other = {"g": at("grow", v=5), "u": at("show", v=from_("g"))}
    assert executed(events(other, cache=cache, more=[GROW])) == ["u"]
    assert calls == []


def test_each_item_of_a_list_expands_by_itself():
    assert result(listing(1, 2, g=at("grow", v=from_("list"))), more=[GROW]) == (Items((3, 5)),)


def test_a_loop_of_expansions_a_thousand_deep_runs():
    found = events({"c": at("count_down", n=1000, total=0)}, more=[COUNT])
    assert found[-1].outputs == (500500,)
    assert {e.display for e in found} == {"c"}


def test_an_expansion_may_lead_to_nodes_that_were_not_needed_before():
    def outside():
        return Returned((Link("x", 0),), expand={"x": {"class_type": "double", "inputs": {"v": ["aside", 0]}}})

    graph = {"aside": at("value", v=4), "o": at("outside")}
    assert result(graph, "o", more=[foreign(outside)]) == (8,)


def test_a_loop_that_an_expansion_makes_is_told_at_the_node_that_made_it():
    def snake():
        return Returned((Link("tail", 0),), expand={"tail": {"class_type": "double", "inputs": {"v": ["s", 0]}}})

    last = events({"s": at("snake")}, more=[foreign(snake)])[-1]
    assert isinstance(last, Failed)
    assert last.node == "s"
    assert "expands into a loop" in str(last.error)


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ({"x": {"class_type": "doubel", "inputs": {}}}, "there is no node type 'doubel'"),
        ({"x": {"class_type": "double", "inputs": {"v": ["nowhere", 0]}}}, "which is not in the graph"),
        ({"b": {"class_type": "double", "inputs": {"v": 1}}}, "expands into 'b', which there is already"),
    ],
)
def test_an_expansion_that_cannot_run_is_told_at_the_node_that_made_it(nodes, reason):
    bad = replace(foreign(lambda: Returned((1,), expand=nodes)), name="bad")
    last = events({"b": at("bad")}, more=[bad])[-1]
    assert isinstance(last, Failed)
    assert isinstance(last.error, BadReturn)
    assert reason in str(last.error)


def test_an_expansion_may_hold_values_that_no_file_could():
    def build():
        nodes = {"x": {"class_type": "brighter", "inputs": {"image": torch.zeros(1, 2, 2, 3)}}}
        return Returned((Link("x", 0),), expand=nodes)

    brighter = replace(foreign(lambda image: Returned((image + 1,)), ["image"]), name="brighter")
    (found,) = result({"b": at("build")}, more=[foreign(build), brighter])
    assert found.eq(1).all()


# ------------------------------------------------------------------------------------------ coroutines


def test_coroutines_of_several_nodes_go_on_side_by_side():
    met: list[str] = []
    both_here = asyncio.Event()

    async def meeting(name):
        met.append(name)
        if len(met) == 2:
            both_here.set()
        await both_here.wait()  # one after the other, they would wait for ever
        return Returned((name,))

    graph = {"a": at("meeting", name="a"), "b": at("meeting", name="b"), "s": at("both", a=from_("a"), b=from_("b"))}
    assert result(graph, more=[foreign(meeting, ["name"])]) == ("ab",)


def test_coroutines_of_the_items_of_a_list_go_on_side_by_side():
    met: list[int] = []
    all_here = asyncio.Event()

    async def meeting(v):
        met.append(v)
        if len(met) == 3:
            all_here.set()
        await all_here.wait()
        return Returned((v,))

    assert result(listing(1, 2, 3, m=at("meeting", v=from_("list"))), more=[foreign(meeting, ["v"])]) == (
        Items((1, 2, 3)),
    )


def test_a_coroutine_knows_whose_call_it_is():
    async def who():
        await asyncio.sleep(0)
        return Returned((CALLING.get().node,))

    assert result({"me": at("who")}, more=[foreign(who)]) == ("me",)


def test_a_coroutine_that_fails_fails_its_node():
    async def failing():
        await asyncio.sleep(0)
        raise ValueError("no")

    last = events({"f": at("failing")}, more=[foreign(failing)])[-1]
    assert isinstance(last, Failed)
    assert (last.node, str(last.error)) == ("f", "no")


@pytest.mark.parametrize("kind", [SystemExit, MemoryError, StopAsyncIteration])
def test_whatever_a_coroutine_raises_fails_its_node_and_no_program(kind):
    async def failing():
        raise kind

    last = events({"f": at("failing")}, more=[foreign(failing)])[-1]
    assert isinstance(last, Failed)
    assert type(last.error) is kind


def test_a_run_is_stopped_while_a_coroutine_waits_and_the_coroutine_is_told():
    ended = []

    async def endless():
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    run = a_run({"e": at("endless")}, more=[foreign(endless)])
    threading.Timer(0.05, run.stop).start()
    assert [e for _, e in drive([run], None)][-1] == Stopped("e")
    assert ended == [True]


# ------------------------------------------------------------------------------------------ what is kept


def test_what_an_editor_shows_comes_from_the_cache_too():
    cache = Cache()
    shown = [[e.ui for e in events({"s": at("show", v=3)}, cache=cache) if isinstance(e, Finished)] for _ in range(2)]
    assert shown == [[{"text": ["3"]}]] * 2
    assert executed(events({"s": at("show", v=3)}, cache=cache)) == []


def test_a_node_by_its_id_shares_no_result():
    cache = Cache()
    alone = replace(VALUE, by_id=True)
    for node_id in ("a", "b", "a"):
        events({node_id: at("value", v=1)}, cache=cache, more=[alone])
    assert calls == [1, 1]


@pytest.mark.parametrize(("said", "runs"), [(["x", "x"], 1), (["x", "y"], 2), ([None, None], 2)])
def test_a_fingerprint_decides_whether_a_node_runs_again(said, runs):
    answers = iter(said)
    watched = replace(VALUE, fingerprint=lambda v: next(answers))
    cache = Cache()
    for _ in said:
        events({"a": at("value", v=1)}, cache=cache, more=[watched])
    assert len(calls) == runs


def test_a_fingerprint_sees_constants_and_not_what_is_plugged_in():
    seen = []
    watched = replace(BOTH, fingerprint=lambda a, b: seen.append((a, b)) or "x")
    events({"a": at("value", v=1), "s": at("both", a=from_("a"), b=2)}, more=[watched])
    assert seen == [(None, 2)]


def test_what_a_foreign_node_writes_into_is_forgotten_and_told_of():
    def paint(image):
        image.pixels.add_(1)
        return Returned((1,))

    made = replace(foreign(lambda: Returned((Image(torch.zeros(1, 2, 2, 3)),))), name="made")
    graph = {"made": at("made"), "p": at("paint", image=from_("made"))}
    cache = Cache()
    found = events(graph, cache=cache, more=[made, foreign(paint, ["image"])])
    assert [e.text for e in found if isinstance(e, Warned)] == [
        "has written into what it was given at 'image'; 'made' will run again"
    ]
    assert cache.where(plan(graph, REGISTRY | {"made": made}, ["made"]).steps["made"]) is None


def test_what_comes_of_a_value_that_was_written_into_is_not_kept():
    def paint(image):
        image.pixels.add_(1)
        return Returned((1,))

    def look(image, after):
        return Returned((float(image.pixels.mean()),))

    made = replace(foreign(lambda: Returned((Image(torch.zeros(1, 2, 2, 3)),))), name="made")
    graph = {
        "made": at("made"),
        "p": at("paint", image=from_("made")),
        "l": at("look", image=from_("made"), after=from_("p")),
        "t": at("double", v=from_("l")),
    }
    cache, more = Cache(), [made, foreign(paint, ["image"]), foreign(look, ["image", "after"])]
    assert result(graph, cache=cache, more=more) == (2.0,)
    assert executed(events(graph, cache=cache, more=more)) == ["made", "l", "t"]
    assert result(graph, cache=cache, more=more) == (0.0,)  # of the value as it was made


# ------------------------------------------------------------------------------------------ the rest of the protocol


def test_hidden_inputs_are_filled_in():
    def curious(me, prompt, extra, dynamic):
        return Returned(((me, prompt["c"]["class_type"], extra, sorted(dynamic.all_node_ids())),))

    specs = {"me": "UNIQUE_ID", "prompt": "PROMPT", "extra": "EXTRA_PNGINFO", "dynamic": "DYNPROMPT"}
    hidden = tuple(Input(name, object, "*", None, hidden=kind, options={}) for name, kind in specs.items())
    node = replace(foreign(curious), inputs=hidden)
    run = a_run({"v": at("value", v=1), "c": at("curious")}, more=[node])
    run.context = replace(run.context, extra={"workflow": {}})
    *_, (_, last) = drive([run], None)
    assert last.outputs == (("c", "curious", {"workflow": {}}, ["c", "v"]),)


def test_a_raw_link_is_given_as_such_and_not_evaluated():
    peek = replace(foreign(lambda link: Returned((link,)), ["raw_link"]), name="peek")
    assert result({"v": at("value", v=1), "p": at("peek", link=from_("v"))}, more=[peek]) == (Link("v", 0),)
    assert calls == []


def test_what_is_plugged_in_undeclared_is_passed_on_where_the_node_takes_it():
    taking = replace(foreign(lambda **given: Returned((given,))), name="taking", open=True)
    assert result({"v": at("value", v=1), "t": at("taking", extra=from_("v"), more=2)}, more=[taking]) == (
        {"extra": 1, "more": 2},
    )


def test_an_optional_input_that_is_left_out_has_the_default_of_the_function():
    asking = replace(foreign(lambda v, w="mine": Returned((w,)), ["v"]), name="asking")
    asking = replace(asking, inputs=(*asking.inputs, Input("w", str, "STRING", None, options={})))
    assert result({"a": at("asking", v=1)}, more=[asking]) == ("mine",)


@pytest.mark.parametrize("aside", [False, True])
def test_progress_of_a_foreign_node_is_told_and_at_once_where_somebody_listens(aside):
    def working():
        CALLING.get().report(Progress(1, 2))
        calls.append([e.progress.done for e in heard])
        return Returned((1,))

    heard: list[Any] = []
    run = a_run({"w": at("working")}, more=[foreign(working)])
    run.aside = heard.append if aside else None
    found = [e for _, e in drive([run], None)]
    assert [e.progress.done for e in [*heard, *found] if isinstance(e, Moved)] == [1]
    assert calls == [[1] if aside else []]


def test_a_foreign_node_that_reports_is_stopped_there():
    def working():
        run.stop()
        CALLING.get().report(Progress(1, 2))

    run = a_run({"w": at("working")}, more=[foreign(working)])
    assert [e for _, e in drive([run], None)][-1] == Stopped("w")


@pytest.mark.parametrize("returned", [Returned(()), (), None])
def test_a_node_that_returns_too_little_is_told(returned):
    short = replace(foreign(lambda: returned, outputs=2), name="short")
    last = events({"s": at("short")}, more=[short])[-1]
    assert isinstance(last, Failed)
    assert "declares 2 outputs" in str(last.error)


def test_a_node_of_our_own_refuses_a_foreign_model_in_a_sentence():
    from limner.nodes import NODES

    made = replace(foreign(object, outputs=[Output("MODEL", "MODEL")]), name="theirs")
    graph = {"m": at("theirs"), "e": at("limner.EmptyLatent", model=from_("m"))}
    last = events(graph, more=[made, NODES["limner.EmptyLatent"]])[-1]
    assert isinstance(last, Failed)
    assert str(last.error) == "'model' takes a MODEL of Limner's own kind, not object"


def test_a_foreign_value_that_our_nodes_know_is_adapted():
    from limner.nodes import NODES

    made = replace(
        foreign(lambda: Returned((torch.zeros(1, 4, 4, 3),)), outputs=[Output("IMAGE", "IMAGE")]), name="raw"
    )
    graph = {"m": at("raw"), "e": at("limner.ResizeImage", image=from_("m"), width=2, height=2)}
    found = events(graph, more=[made, NODES["limner.ResizeImage"]], adapted=lambda v, wire: Image(v))
    assert found[-1].outputs[0].pixels.shape == (1, 2, 2, 3)
