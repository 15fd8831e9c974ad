"""Why a node will run, or not: each reason, and that it is what then happens."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pytest
from limner.core.cache import Cache
from limner.core.drive import drive
from limner.core.event import Finished
from limner.core.explain import explain, records
from limner.core.graph import Instance, Link
from limner.core.plan import Fingerprint, by_name, plan
from limner.core.run import Run
from limner.core.schema import Context, InputFile, node
from limner.core.store import Store
from limner.core.values import Files


@node("test")
def number(value: int = 1, more: str = "") -> int:
    return value


@node("test")
def add(a: int, b: int = 0) -> int:
    return a + b


@node("test")
def picture(name: Annotated[str, InputFile()] = "a") -> int:
    return 0


@node("test", cached=False)
def clock() -> int:
    return 0


@node("test", delivers=True)
def save(value: int) -> Files:
    return Files(())


NODES = {n.id: n for n in (number, add, picture, clock, save)}


def at(kind, **inputs):
    return Instance(f"limner.{kind}", inputs)


GRAPH = {"n": at("Number"), "sum": at("Add", a=Link("n", 0)), "out": at("Save", value=Link("sum", 0))}


class Past:
    """A workflow that was run, and what is known of it afterwards."""

    def __init__(self, cache=None):
        self.cache = cache or Cache()
        self.seen: dict[str, object] = {}

    def planned(self, graph, registry=NODES, fingerprints=by_name, salt: Callable = lambda _: "salt"):
        return plan(graph, registry, [i for i, n in graph.items() if n.type == "limner.Save"], fingerprints, salt)

    def run(self, graph=GRAPH, **options):
        planned = self.planned(graph, **options)
        run = Run(planned, self.cache, Context(None, None, Path(), Path()))
        done = [e.node for _, e in drive([run], None) if isinstance(e, Finished) and not e.cached]
        self.seen |= records(planned.steps.values())
        return done

    def explained(self, graph=GRAPH, forced=(), **options):
        return {
            e.node: (e.verdict, e.reason)
            for e in explain(self.planned(graph, **options), self.cache, self.seen, frozenset(forced))
        }


@pytest.fixture
def past():
    past = Past()
    past.run()
    return past


def test_before_the_first_run_everything_is_to_be_made():
    assert Past().explained() == {
        "n": ("MISS", "first run"),
        "sum": ("MISS", "first run"),
        "out": ("RUN", "output node"),
    }


def test_after_a_run_its_last_result_is_in_memory_and_the_rest_is_not_needed(past):
    assert past.explained() == {
        "n": ("SKIP", "not needed: what it is for is cached"),
        "sum": ("HIT", "in memory"),
        "out": ("RUN", "output node"),
    }


def test_what_another_process_kept_is_on_disk(tmp_path):
    past = Past(Cache(store=Store(tmp_path)))
    past.run()
    past.cache = Cache(store=Store(tmp_path))
    assert past.explained()["sum"] == ("HIT", "on disk")


def test_a_setting_that_changed_is_named_and_below_it_the_node(past):
    changed = GRAPH | {"n": at("Number", value=2, more="x")}
    assert past.explained(changed) == {
        "n": ("MISS", "value, more changed"),
        "sum": ("MISS", "upstream n"),
        "out": ("RUN", "output node"),
    }
    assert past.explained(GRAPH | {"sum": at("Add", a=Link("n", 0), b=1)})["sum"] == ("MISS", "b changed")


def test_plugging_in_another_node_is_a_change_of_that_input(past):
    changed = GRAPH | {"m": at("Number", value=7), "sum": at("Add", a=Link("m", 0))}
    assert past.explained(changed)["sum"] == ("MISS", "a changed")
    assert past.explained(changed)["m"] == ("MISS", "first run")


def test_a_file_that_changed_is_said_to_have(past):
    graph = GRAPH | {"n": at("Picture")}
    past.run(graph, fingerprints=lambda *_: Fingerprint("cat"))
    found = past.explained(graph, fingerprints=lambda *_: Fingerprint("dog"))
    assert found["n"] == ("MISS", "the node or a file that it names changed")
    assert found["sum"] == ("MISS", "upstream n")


def test_a_node_whose_version_was_raised_is_said_to_have_changed(past):
    found = past.explained(registry=NODES | {number.id: replace(number, version=2)})
    assert found["n"] == ("MISS", "the node or a file that it names changed")


def test_other_code_or_another_device_is_told_where_memory_has_gone(past):
    assert past.explained(salt=lambda _: "other")["sum"] == ("HIT", "in memory")
    past.cache = Cache()
    assert past.explained(salt=lambda _: "other")["sum"] == ("MISS", "code, libraries or device changed")
    assert past.explained(salt=lambda _: None)["sum"] == ("MISS", "not known yet: the device, or what a file holds")


def test_what_was_not_kept_says_so(past):
    past.cache = Cache()
    assert past.explained()["sum"] == ("MISS", "not kept: quick to make again, or dropped for room")


def test_what_always_runs_says_so_and_so_does_what_is_below_it():
    graph = GRAPH | {"n": at("Clock")}
    past = Past()
    past.run(graph)
    assert past.explained(graph) == {
        "n": ("RUN", "always runs"),
        "sum": ("RUN", "below a node that always runs"),
        "out": ("RUN", "output node"),
    }


def test_what_is_forced_says_so_and_so_does_what_is_below_it(past):
    assert past.explained(forced=["n"]) == {
        "n": ("RUN", "forced"),
        "sum": ("RUN", "below a forced node"),
        "out": ("RUN", "output node"),
    }
    assert past.explained(forced=["sum"])["n"] == ("HIT", "in memory")


def test_explaining_runs_nothing_and_changes_nothing(past):
    assert past.explained() == past.explained()
    assert past.run() == ["out"]


@pytest.mark.parametrize(
    "graph",
    [
        GRAPH,
        GRAPH | {"n": at("Number", value=3)},
        GRAPH | {"sum": at("Add", a=Link("n", 0), b=4)},
        GRAPH | {"n": at("Clock")},
    ],
)
def test_what_is_explained_is_what_then_happens(past, graph):
    verdicts = past.explained(graph)
    assert past.run(graph) == [i for i, (verdict, _) in verdicts.items() if verdict in ("RUN", "MISS")]


def test_keys_are_shown_short(past):
    planned = past.planned(GRAPH)
    assert [e.key for e in explain(planned, past.cache, {})] == [s.key[:8] for s in planned.steps.values()]
