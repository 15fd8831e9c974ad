"""Runs that need the same result: one makes it, the others wait for it, and nobody waits for one that failed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from limner.core.cache import Cache
from limner.core.drive import drive
from limner.core.event import Failed, Finished, Stopped
from limner.core.graph import Instance, Link
from limner.core.plan import plan
from limner.core.run import Run
from limner.core.schema import Context, node
from limner.core.values import Progress

COUNT = Counter()


@node("test", returns=int)
def long(value: int = 0):
    COUNT["long"] += 1
    for k in range(3):
        yield Progress(k, 3)
    return value + 1


@node("test", returns=int)
def hopeless(value: int = 0):
    COUNT["hopeless"] += 1
    yield Progress(0, 1)
    raise ValueError(f"{value} will not do")


@node("test")
def add(a: int, b: int = 0) -> int:
    COUNT["add"] += 1
    return a + b


NODES = {n.id: n for n in (long, hopeless, add)}


@pytest.fixture(autouse=True)
def _from_zero():
    COUNT.clear()


def run(cache, b, maker="long", forced=frozenset()):
    graph = {"l": Instance(f"limner.{maker.title()}", {}), "s": Instance("limner.Add", {"a": Link("l", 0), "b": b})}
    return Run(plan(graph, NODES, ["s"]), cache, Context(None, None, Path(), Path()), forced)


def waiting(run):
    """Whether a run that is advanced has nothing to ask for now."""
    while (said := next(run.work)) != []:
        assert not isinstance(said, Finished)
    return True


def test_what_several_runs_need_is_made_once():
    cache = Cache()
    runs = [run(cache, b) for b in range(5)]
    first = next(runs[0].work), next(runs[0].work)  # it has begun
    assert all(waiting(each) for each in runs[1:])
    ends = dict(drive(runs, None))
    assert first
    assert [e.outputs for e in ends.values()] == [(1 + b,) for b in range(5)]
    assert COUNT == {"long": 1, "add": 5}


def test_the_runs_that_waited_say_that_they_found_it():
    cache = Cache()
    runs = [run(cache, b) for b in range(3)]
    next(runs[0].work), next(runs[0].work)
    found = [(k, e.cached) for k, e in drive(runs, None) if isinstance(e, Finished) and e.node == "l"]
    assert sorted(found) == [(0, False), (1, True), (2, True)]


def test_when_the_maker_fails_the_next_one_tries():
    cache = Cache()
    runs = [run(cache, b, "hopeless") for b in range(3)]
    next(runs[0].work), next(runs[0].work)
    ends = dict(drive(runs, None))
    assert all(isinstance(e, Failed) for e in ends.values())
    assert COUNT["hopeless"] == 3


def test_when_the_maker_is_stopped_the_next_one_goes_on():
    cache = Cache()
    runs = [run(cache, b) for b in range(2)]
    next(runs[0].work), next(runs[0].work)
    assert waiting(runs[1])
    runs[0].stop()
    ends = dict(drive(runs, None))
    assert isinstance(ends[0], Stopped)
    assert ends[1].outputs == (2,)


def test_a_run_that_waits_can_be_stopped():
    cache = Cache()
    maker, other = run(cache, 0), run(cache, 1)
    next(maker.work), next(maker.work)
    assert waiting(other)
    other.stop()
    assert next(other.work) == Stopped("l")


def test_a_run_that_is_dropped_leaves_nothing_begun():
    cache = Cache()
    dropped, other = run(cache, 0), run(cache, 1)
    next(dropped.work), next(dropped.work)
    dropped.work.close()
    assert dict(drive([other], None))[0].outputs == (2,)


def test_a_run_that_is_forced_waits_for_nobody():
    cache = Cache()
    maker, forced = run(cache, 0), run(cache, 1, forced=frozenset({"l"}))
    next(maker.work), next(maker.work)
    assert dict(drive([forced], None))[0].outputs == (2,)
    assert COUNT["long"] == 2


def test_runs_of_two_threads_share_what_one_of_them_makes():
    cache, ends = Cache(), {}

    @node("test", name="Long", returns=int)
    def slow(value: int = 0):
        COUNT["long"] += 1
        for k in range(5):
            time.sleep(0.01)
            yield Progress(k, 5)
        return value + 1

    def drives(b):
        graph = {"l": Instance(slow.id, {}), "s": Instance("limner.Add", {"a": Link("l", 0), "b": b})}
        one = Run(plan(graph, NODES | {slow.id: slow}, ["s"]), cache, Context(None, None, Path(), Path()))
        ends[b] = dict(drive([one], None))[0].outputs

    threads = [threading.Thread(target=drives, args=[b]) for b in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert ends == {0: (1,), 1: (2,), 2: (3,)}
    assert COUNT["long"] == 1
