"""Which nodes a run calls, in which order, what it says of them, and what it makes of those that misbehave."""

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest
import torch
from limner.core import files
from limner.core.cache import Cache
from limner.core.drive import drive
from limner.core.errors import BadReturn, Interrupted, UsageError
from limner.core.evaluation import will_run
from limner.core.event import Failed, Finished, Moved, Started, Stopped, Warned
from limner.core.graph import Instance, Link
from limner.core.plan import plan
from limner.core.run import Run
from limner.core.schema import Context, Lazy, Need, node
from limner.core.store import Store
from limner.core.values import Files, Image, Progress
from limner.nodes import NODES as NATIVE

calls: list[str] = []


@pytest.fixture(autouse=True)
def nothing_called():
    calls.clear()


@node("test")
def number(value: int = 1) -> int:
    calls.append(f"number {value}")
    return value


@node("test")
def add(a: int, b: int = 0) -> int:
    calls.append("add")
    return a + b


@node("test")
def picture(value: float = 0.5) -> Image:
    calls.append("picture")
    return Image(torch.full((1, 2, 2, 3), value))


@node("test")
def darker(image: Image) -> Image:
    calls.append("darker")
    return Image(image.pixels / 2)


@node("test", delivers=True)
def save(image: Image, prefix: str = "x", *, context: Context) -> Files:
    calls.append("save")
    return Files((str(context.output / prefix),))


@node("test", cached=False)
def clock() -> int:
    calls.append("clock")
    return len(calls)


@node("test", returns=int)
def slow(steps: int = 3) -> Generator[Progress, Any, int]:
    for k in range(steps):
        yield Progress(k + 1, steps)
    return steps


@node("test")
def wordy(*, context: Context) -> int:
    context.warn("mind the gap")
    context.warn("and the step")
    return 1


NODES = {n.id: n for n in (number, add, picture, darker, save, clock, slow, wordy)}
NODES["limner.Switch"] = NATIVE["limner.Switch"]


def at(kind, **inputs):
    return Instance(f"limner.{kind}", inputs)


def context(output="/output"):
    return Context(networks=None, library=None, output=Path(output), temp=Path("/temp"))


def a_run(graph, cache=None, *targets, registry=NODES, output="/output", forced=()):
    planned = plan(graph, registry, targets or list(graph)[-1:], salt=lambda _: "salt")
    return Run(planned, Cache() if cache is None else cache, context(output), frozenset(forced))


def events(*arguments, **options):
    """Everything that a run says, to its end."""
    return [event for _, event in drive([a_run(*arguments, **options)], None)]


def ran(*arguments, **options):
    """The nodes that a run executed, in order."""
    return [e.node for e in events(*arguments, **options) if isinstance(e, Finished) and not e.cached]


def outcome(function, *, returns=int, **inputs):
    """What becomes of a run of one node that is made of `function`."""
    one = node("test", name="One", returns=returns)(function)
    *_, last = events({"one": at("One", **inputs)}, registry=NODES | {one.id: one})
    return last


def summing(a, b):
    return {"x": at("Number", value=a), "y": at("Number", value=b), "sum": at("Add", a=Link("x", 0), b=Link("y", 0))}


SAVED = {"p": at("Picture"), "d": at("Darker", image=Link("p", 0)), "s": at("Save", image=Link("d", 0))}


# ------------------------------------------------------------------------------------------ what is run, and when


def test_a_second_run_reruns_only_what_is_downstream_of_a_change():
    cache = Cache()
    assert ran(summing(1, 2), cache) == ["x", "y", "sum"]
    assert ran(summing(1, 2), cache) == []
    assert ran(summing(1, 3), cache) == ["y", "sum"]
    assert ran(summing(1, 2), cache) == []  # going back costs nothing


def test_only_what_the_target_needs_is_run():
    assert ran(summing(1, 2), None, "x") == ["x"]


def test_nodes_set_up_alike_share_one_result():
    assert ran(summing(5, 5)) == ["x", "sum"]
    assert calls == ["number 5", "add"]


def test_what_a_cached_result_was_made_of_is_not_even_looked_up():
    cache = Cache()
    events(SAVED, cache, "d")
    assert [type(e) for e in events(SAVED, cache, "d")] == [Finished]


def test_a_result_that_is_needed_again_is_made_again_if_only_what_is_above_it_is_kept():
    cache = Cache()
    events(SAVED, cache, "d")
    cache.drop(a_run(SAVED, cache).plan.steps["d"])
    assert ran(SAVED, cache, "d") == ["d"]


def test_several_targets_are_run_one_after_the_other_and_share_what_they_need():
    for cache in (Cache(), Cache(0)):
        assert ran(summing(1, 2), cache, "y", "sum", "x") == ["y", "x", "sum"]


def test_an_output_node_delivers_each_time():
    cache = Cache()
    assert ran(SAVED, cache) == ["p", "d", "s"]
    assert ran(SAVED, cache) == ["s"]


def test_saving_into_another_folder_runs_though_everything_above_is_cached():
    cache = Cache()
    events(SAVED, cache)
    *_, last = events(SAVED, cache, output="/elsewhere")
    assert (last.node, last.files) == ("s", ("/elsewhere/x",))
    assert calls == ["picture", "darker", "save", "save"]


def test_what_is_below_a_node_that_always_runs_runs_each_time():
    graph = {"n": at("Number"), "now": at("Clock"), "sum": at("Add", a=Link("now", 0), b=Link("n", 0))}
    cache = Cache()
    assert ran(graph, cache) == ["now", "n", "sum"]
    assert ran(graph, cache) == ["now", "sum"]


def test_forcing_a_node_reruns_it_and_what_is_below_it():
    cache = Cache()
    events(SAVED, cache)
    assert ran(SAVED, cache, forced=["d"]) == ["d", "s"]
    assert ran(SAVED, cache, forced=["p"]) == ["p", "d", "s"]
    assert ran(SAVED, cache) == ["s"]


@pytest.mark.parametrize("forced", [[], ["d"], ["p"]])
def test_what_will_run_is_what_then_runs(forced):
    cache = Cache()
    events(SAVED, cache, "d")
    run = a_run(SAVED, cache, forced=forced)
    runs, hits = will_run(run.plan, cache, frozenset(forced))
    done = {e.node: e.cached for _, e in drive([run], None) if isinstance(e, Finished)}
    assert runs == {n for n, cached in done.items() if not cached}
    assert hits == {n for n, cached in done.items() if cached}


def test_a_shown_result_is_on_disk_however_quick_it_was(tmp_path):
    store = Store(tmp_path)
    events(SAVED, Cache(store=store))
    assert ran(SAVED, Cache(store=store)) == ["s"]
    store.close()


def test_a_result_whose_file_turns_out_damaged_is_made_again_with_all_that_it_needs(tmp_path):
    store = Store(tmp_path)
    events(SAVED, Cache(store=store))
    for path in tmp_path.glob("??/*.safetensors"):
        path.write_bytes(b"damaged")
    assert ran(SAVED, Cache(store=store)) == ["p", "d", "s"]
    store.close()


# --------------------------------------------------------------------------------------------------- what it says


def test_a_run_tells_what_starts_and_what_is_finished_in_order():
    assert [(type(e), e.node) for e in events(summing(1, 2))] == [
        (Started, "x"), (Finished, "x"), (Started, "y"), (Finished, "y"), (Started, "sum"), (Finished, "sum"),
    ]  # fmt: skip


def test_a_finished_node_tells_its_results_how_long_it_took_and_what_it_delivered():
    *_, last = events(summing(1, 2))
    assert (last.outputs, last.cached, last.files) == ((3,), False, ())
    assert 0 < last.seconds < 1
    *_, last = events(SAVED)
    assert (last.outputs, last.files) == ((), ("/output/x",))


def test_a_result_from_the_cache_is_told_as_such():
    cache = Cache()
    events(summing(1, 2), cache, "sum")
    assert events(summing(1, 2), cache, "sum") == [Finished("sum", (3,), cached=True)]


def test_the_progress_of_a_long_node_is_told():
    assert events({"s": at("Slow", steps=2)})[:-1] == [
        Started("s"), Moved("s", Progress(1, 2)), Moved("s", Progress(2, 2)),
    ]  # fmt: skip


def test_what_a_node_warns_of_is_told_before_its_result_and_not_when_it_is_cached():
    cache = Cache()
    assert [type(e) for e in events({"w": at("Wordy")}, cache)] == [Started, Warned, Warned, Finished]
    assert [type(e) for e in events({"w": at("Wordy")}, cache)] == [Finished]
    assert events({"w": at("Wordy")})[1] == Warned("w", "mind the gap")


def test_named_outputs_are_plugged_in_by_their_number():
    class Pair(NamedTuple):
        first: int
        second: int

    @node("test")
    def pair() -> Pair:
        return Pair(1, 20)

    graph = {"p": at("Pair"), "sum": at("Add", a=Link("p", 1), b=Link("p", 0))}
    *_, last = events(graph, registry=NODES | {pair.id: pair})
    assert last.outputs == (21,)


# -------------------------------------------------------------------------------------------------- what goes wrong


def test_a_failure_is_an_event_and_ends_the_run():
    def broken(a: int):
        raise ValueError("no")

    one = node("test", name="Broken", returns=int)(broken)
    graph = {"x": at("Number"), "bad": at("Broken", a=Link("x", 0)), "after": at("Add", a=Link("bad", 0))}
    cache = Cache()
    *_, last = events(graph, cache, registry=NODES | {one.id: one})
    assert isinstance(last, Failed)
    assert (last.node, str(last.error)) == ("bad", "no")
    assert calls == ["number 1"]
    assert ran(summing(1, 2), cache) == ["y", "sum"], "what was made before the failure is kept"


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("not even this")


class OutOfTheTree(BaseException):
    pass


@pytest.mark.parametrize(
    "kind", [ValueError, SystemExit, MemoryError, StopIteration, RecursionError, Unspeakable, OutOfTheTree]
)
@pytest.mark.parametrize("long", [False, True])
def test_whatever_a_node_raises_fails_its_run_and_nothing_else(kind, long):
    def plain():
        raise kind

    def generator():
        yield Progress(1, 2)
        raise kind

    last = outcome(generator if long else plain)
    assert isinstance(last, Failed)
    assert isinstance(last.error, kind) or (kind is StopIteration and isinstance(last.error, RuntimeError))


def test_a_keyboard_interrupt_reaches_who_pressed_the_key():
    def pressed():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outcome(pressed)


def test_endless_recursion_in_a_node_is_a_failure():
    def deeper():
        return deeper()

    assert isinstance(outcome(deeper).error, RecursionError)


BAD = {
    "nothing": (None, "declares that int is INT, and returned NoneType"),
    "another type": ("7", "declares that int is INT, and returned str"),
    "too many": ((1, 2), "declares 1 outputs, and returned 2"),
    "too few": ((), "declares 1 outputs, and returned 0"),
    "a list": ([1], "declares that int is INT, and returned list"),
    "files": (Files(()), "declares that int is INT, and returned Files"),
    "an iterator": (iter(()), "declares that int is INT, and returned tuple_iterator"),
    "a function": (outcome, "declares that int is INT, and returned function"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_node_that_returns_what_it_does_not_declare_is_told_so(what):
    returned, sentence = BAD[what]
    last = outcome(lambda: returned)
    assert isinstance(last.error, BadReturn)
    assert str(last.error) == f"limner.One {sentence}"


@pytest.mark.parametrize("said", [3, "calls", [3], (1,), None, Need("what")], ids=repr)
def test_a_long_node_that_yields_something_else_is_told_so(said):
    def strange():
        yield said

    last = outcome(strange)
    assert isinstance(last.error, BadReturn)
    assert str(last.error) == f"limner.One yielded {said!r}, which is neither calls, Progress nor Need of an input"


def test_a_node_that_delivers_returns_files_or_nothing():
    assert isinstance(outcome(lambda: None, returns=Files), Finished)
    assert outcome(lambda: Files(("a",)), returns=Files).files == ("a",)
    assert isinstance(outcome(lambda: 3, returns=Files).error, BadReturn)


def test_a_whole_number_is_a_number_and_anything_is_anything():
    assert outcome(lambda: 3, returns=float).outputs == (3,)
    assert outcome(lambda: None, returns=Any).outputs == (None,)
    assert outcome(lambda: (3,), returns=int).outputs == (3,)


def test_asking_for_nothing_is_answered_with_nothing():
    def polite():
        assert (yield []) == []
        return 7

    assert outcome(polite).outputs == (7,)


def test_what_cannot_be_kept_because_its_tensors_are_broken_fails_the_node_that_made_them(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Cache, "put", refuse)
    *_, last = events(summing(1, 2))
    assert isinstance(last, Failed)
    assert last.node == "x"


def test_a_full_disk_fails_the_node_that_saves(tmp_path, monkeypatch):
    def full(self, *_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.Path, "write_bytes", full)
    last = outcome(lambda: files.write(tmp_path / "a", b"b"), returns=Files)
    assert last.error.code == "cannot_write"
    assert "the disk is full" in str(last.error)


def test_a_name_that_leads_out_of_the_folder_fails_the_node_that_was_given_it(tmp_path):
    last = outcome(lambda: files.numbered(tmp_path, "../x", ".png", Path.touch), returns=Files)
    assert isinstance(last.error, UsageError)


# --------------------------------------------------------------------------------------------------------- stopping


def test_a_run_that_is_stopped_before_it_begins_calls_nothing():
    run = a_run(summing(1, 2))
    run.stop()
    assert [e for _, e in drive([run], None)] == [Stopped("x")]
    assert calls == []


def test_a_run_that_is_stopped_ends_before_the_next_node():
    run = a_run(summing(1, 2))
    seen = []
    for _, event in drive([run], None):
        seen.append(event)
        if event == Finished("x", (1,), cached=False, seconds=getattr(event, "seconds", 0)):
            run.stop()
    assert seen[-1] == Stopped("y")
    assert calls == ["number 1"]


def test_a_long_node_is_stopped_from_another_thread_at_its_next_progress():
    run = a_run({"s": at("Slow", steps=10**9)})
    stopper = threading.Timer(0.05, run.stop)
    stopper.start()
    *_, last = [e for _, e in drive([run], None)][-1:]
    stopper.join()
    assert last == Stopped("s")
    assert run.stopping


def test_a_node_may_clean_up_when_it_is_stopped():
    def tidy():
        try:
            while True:
                yield Progress(1, 2)
        finally:
            calls.append("tidied")

    one = node("test", name="Tidy", returns=int)(tidy)
    run = a_run({"t": at("Tidy")}, registry=NODES | {one.id: one})
    for _, event in drive([run], None):
        if isinstance(event, Moved):
            run.stop()
    assert event == Stopped("t")
    assert calls == ["tidied"]


@pytest.mark.parametrize("last", [Started, Moved, Failed])
def test_a_run_that_nobody_listens_to_any_more_is_over_and_holds_up_no_other(last):
    def fragile():
        try:
            yield Progress(1, 2)
            raise ValueError
        finally:
            calls.append("tidied")

    one = node("test", name="Fragile", returns=int)(fragile)
    cache = Cache()
    dropped, other = (a_run({"f": at("Fragile")}, cache, registry={one.id: one}) for _ in range(2))
    for _, event in drive([dropped], None):
        if isinstance(event, last):
            break  # as where an error is raised, and kept
    assert calls == ([] if last is Started else ["tidied"])
    patience = threading.Timer(5, other.stop)
    patience.start()
    assert isinstance([e for _, e in drive([other], None)][-1], Failed)
    patience.cancel()


def test_stopping_from_inside_a_node_ends_the_run_and_keeps_nothing_of_it():
    def impatient():
        raise Interrupted

    cache = Cache()
    one = node("test", name="Impatient", returns=int)(impatient)
    *_, last = events({"i": at("Impatient")}, cache, registry=NODES | {one.id: one})
    assert last == Stopped("i")
    assert cache.bytes == 0


def test_runs_side_by_side_do_not_stop_or_fail_each_other():
    def broken():
        raise ValueError

    one = node("test", name="Broken", returns=int)(broken)
    runs = [
        a_run({"s": at("Slow")}),
        a_run({"b": at("Broken")}, registry={one.id: one}),
        a_run({"s": at("Slow")}),
        a_run(summing(1, 2)),
    ]
    runs[2].stop()
    last = dict(drive(runs, None))
    assert [type(last[k]) for k in range(4)] == [Finished, Failed, Stopped, Finished]


# ------------------------------------------------------------------------------------------------- lazy inputs


def switching(condition):
    return {
        "yes": at("Number", value=1), "no": at("Number", value=2), "more": at("Add", a=Link("no", 0), b=1),
        "s": at("Switch", condition=condition, if_true=Link("yes", 0), if_false=Link("more", 0)),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "result", "executed"), [(True, 1, ["yes", "s"]), (False, 3, ["no", "more", "s"])]
)
def test_a_switch_runs_only_the_branch_that_it_takes(condition, result, executed):
    cache = Cache()
    assert ran(switching(condition), cache) == executed
    *_, last = events(switching(condition), cache)
    assert last == Finished("s", (result,), cached=True)


def test_a_switch_with_nothing_plugged_in_where_it_looks_says_so():
    *_, last = events({"s": at("Switch", condition=True)})
    assert isinstance(last, Failed)
    assert "nothing is plugged in there" in str(last.error)


def test_a_long_node_goes_on_where_it_was_after_each_thing_that_it_needed():
    @node("test", returns=int)
    def picky(count: int, a: Annotated[Any, Lazy()] = None, b: Annotated[Any, Lazy()] = 5) -> Generator[Any, Any, int]:
        total = count
        yield Progress(1, 2)
        total += yield Need("a")
        total += yield Need("b")
        total += yield Need("a")
        return total

    graph = {
        "n": at("Number", value=100),
        "a": at("Number", value=10),
        "p": at("Picky", count=Link("n", 0), a=Link("a", 0)),
    }
    seen = events(graph, registry=NODES | {picky.id: picky})
    assert seen[-1].outputs == (125,)
    assert [(type(e), e.node) for e in seen if not isinstance(e, Finished)] == [
        (Started, "n"), (Started, "p"), (Moved, "p"), (Started, "a"),
    ]  # fmt: skip


def test_a_chain_of_switches_is_taken_without_recursion():
    graph = {"0": at("Number")} | {
        str(k): at("Switch", condition=True, if_true=Link(str(k - 1), 0)) for k in range(1, 2000)
    }
    *_, last = events(graph)
    assert last.outputs == (1,)


# -------------------------------------------------------------------------------------------- size and memory


def test_a_chain_of_ten_thousand_nodes_runs_with_hardly_any_stack():
    code = """
import sys
from pathlib import Path
from limner.core.cache import Cache
from limner.core.graph import Instance, Link
from limner.core.plan import plan
from limner.core.event import Finished
from limner.core.run import Run
from limner.core.schema import Context, node

@node("test")
def add(a: int, b: int = 1) -> int:
    return a + b

import torch  # before the stack is small
graph = {str(k): Instance("limner.Add", {"a": Link(str(k - 1), 0) if k else 0}) for k in range(10_000)}
context = Context(None, None, Path(), Path())
warm = list(Run(plan({"0": graph["0"]}, {add.id: add}, ["0"]), Cache(), context).work)
sys.setrecursionlimit(60)
for budget in (1 << 30, 0):
    *_, last = Run(plan(graph, {add.id: add}, ["9999"]), Cache(budget), context).work
    assert last.outputs == (10_000,), last
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("budget", [1 << 30, 0])
def test_a_ladder_of_two_to_the_forty_paths_calls_each_node_once(budget):
    graph = {"0": at("Number")} | {
        str(k): at("Add", a=Link(str(k - 1), 0), b=Link(str(k - 1), 0)) for k in range(1, 41)
    }
    *_, last = events(graph, Cache(budget))
    assert last.outputs == (2**40,)
    assert len(calls) == 41


def test_a_node_with_ten_thousand_consumers_is_called_once():
    graph = {"0": at("Number")} | {str(k): at("Add", a=Link("0", 0), b=k) for k in range(1, 10_000)}
    assert len(ran(graph, Cache(0), *graph)) == 10_000
    assert calls.count("number 1") == 1


def test_results_go_when_their_last_consumer_has_run_and_the_cache_does_not_hold_them():
    alive: list[weakref.ref] = []
    seen: list[list[bool]] = []

    @node("test")
    def made(value: int = 0) -> Image:
        look()
        image = Image(torch.zeros(1, 2, 2, 3))
        alive.append(weakref.ref(image.pixels))
        return image

    @node("test")
    def taking(image: Image, other: Image | None = None) -> Image:
        look()
        new = Image(image.pixels + 1)
        alive.append(weakref.ref(new.pixels))
        return new

    def look():
        gc.collect()
        seen.append([ref() is not None for ref in alive])

    graph = {
        "a": at("Made"),
        "b": at("Taking", image=Link("a", 0)),
        "c": at("Taking", image=Link("b", 0), other=Link("a", 0)),
        "d": at("Taking", image=Link("c", 0)),
        "e": at("Taking", image=Link("d", 0)),
    }
    for _ in drive([a_run(graph, Cache(0), registry={n.id: n for n in (made, taking)})], None):
        pass
    assert seen == [
        [],
        [True],
        [True, True],  # a and b, which c takes
        [False, False, True],  # c alone, which d takes
        [False, False, False, True],
    ]


def test_a_result_with_nan_is_handed_on_and_told_of():
    @node("test", name="Blank")
    def blank() -> Image:
        return Image(torch.full((1, 2, 2, 3), float("nan")))

    planned = plan({"b": Instance(blank.id, {})}, {blank.id: blank}, ["b"])
    cache = Cache()
    events = [e for _, e in drive([Run(planned, cache, Context(None, None, Path(), Path()))], None)]
    assert [e.text for e in events if isinstance(e, Warned)] == [
        "its result has values that are no numbers (NaN or infinite); it is not kept"
    ]
    assert isinstance(events[-1], Finished)
    assert cache.where(planned.steps["b"]) is None
