"""What a run would do: cached, will run, blocked or idle; also while the graph is half built."""

import time

import pytest
from limner.core.errors import UsageError
from limner.core.event import Finished
from limner.core.forecast import forecast
from limner.core.graph import Instance, Link
from limner.core.host import ALL, Host, Settings
from limner.core.schema import node
from limner.core.values import Files


@node("test")
def number(value: int = 1) -> int:
    return value


@node("test")
def add(a: int, b: int = 0) -> int:
    return a + b


@node("test", delivers=True)
def save(value: int) -> Files:
    return Files(())


NODES = {n.id: n for n in (number, add, save)}


def at(kind, **inputs):
    return Instance(f"limner.{kind}", inputs)


CHAIN = {"n": at("Number"), "sum": at("Add", a=Link("n", 0)), "out": at("Save", value=Link("sum", 0))}
BROKEN = CHAIN | {"bad": at("Add", a=Link("sum", 0), b="many"), "out": at("Save", value=Link("bad", 0))}


@pytest.fixture
def host(tmp_path):
    return Host(NODES, Settings(base=tmp_path, device="cpu", dtype="float32"))


def run(host, graph):
    return {e.node for _, e in host.drive([host.run(graph)]) if isinstance(e, Finished) and not e.cached}


def states(found):
    return {each.node: each.state for each in found.nodes}


def reasons(found):
    return {each.node: each.reason for each in found.nodes}


def test_before_the_first_run_everything_will_run_in_that_order(host):
    found = forecast(host, CHAIN)
    assert [(each.node, each.state, each.reason) for each in found.nodes] == [
        ("n", "run", "first run"),
        ("sum", "run", "first run"),
        ("out", "run", "output node"),
    ]
    assert found.counts == {"run": 3, "cached": 0, "skipped": 0, "blocked": 0, "idle": 0, "total": 3}


def test_what_is_forecast_is_what_happens(host):
    run(host, CHAIN)
    changed = CHAIN | {"n": at("Number", value=2), "more": at("Save", value=Link("n", 0))}
    found = forecast(host, changed)
    assert {i for i, state in states(found).items() if state == "run"} == run(host, changed)


def test_what_is_in_the_cache_is_not_run_nor_what_only_that_needs(host):
    run(host, CHAIN)
    assert states(forecast(host, CHAIN)) == {"n": "skipped", "sum": "cached", "out": "run"}


def test_a_problem_blocks_what_is_below_it_and_nothing_else(host):
    graph = BROKEN | {"other": at("Save", value=Link("sum", 0))}
    found = forecast(host, graph)
    assert states(found) == {"n": "run", "sum": "run", "other": "run", "bad": "blocked", "out": "blocked"}
    assert reasons(found)["out"] == "needs bad, which has a problem"
    assert [(p.node, p.input, p.code) for p in found.problems] == [("bad", "b", "wrong_type")]
    assert reasons(found)["bad"] == found.problems[0].message


def test_what_only_blocked_nodes_need_is_idle_or_known_to_be_cached(host):
    assert states(forecast(host, BROKEN)) == {"n": "idle", "sum": "idle", "bad": "blocked", "out": "blocked"}
    run(host, CHAIN)
    assert states(forecast(host, BROKEN)) == {"n": "cached", "sum": "cached", "bad": "blocked", "out": "blocked"}


def test_problems_of_what_no_output_needs_are_left_alone(host):
    graph = CHAIN | {"half": at("Add"), "beside": at("Number", value="x")}
    found = forecast(host, graph)
    assert found.problems == ()
    assert states(found)["half"] == states(found)["beside"] == "idle"
    assert found.counts["total"] == 3


def test_a_graph_without_an_output_is_idle(host):
    found = forecast(host, {"n": at("Number")})
    assert states(found) == {"n": "idle"}
    assert found.targets == ()


def test_a_type_that_nobody_knows_is_told_wherever_it_stands(host):
    graph = {"n": at("Number"), "strange": at("SaveFar", value=Link("n", 0))}
    found = forecast(host, graph)
    assert states(found) == {"n": "idle", "strange": "blocked"}
    assert [p.code for p in found.problems] == ["unknown_node"]


def test_a_loop_is_blocked(host):
    graph = CHAIN | {"n": at("Add", a=Link("sum", 0))}
    assert states(forecast(host, graph)) == dict.fromkeys(CHAIN, "blocked")


def test_one_can_ask_for_a_node_in_the_middle(host):
    found = forecast(host, BROKEN, ["sum"])
    assert states(found) == {"n": "run", "sum": "run", "bad": "idle", "out": "idle"}
    assert found.problems == ()
    assert found.counts["total"] == 2


def test_a_node_that_is_not_there_cannot_be_asked_for(host):
    with pytest.raises(UsageError, match=r"'sun'.*did you mean 'sum'"):
        forecast(host, CHAIN, ["sun"])
    with pytest.raises(UsageError, match="'sun'"):
        forecast(host, CHAIN, forced=frozenset({"sun"}))


def test_what_is_forced_runs_and_all_below_it(host):
    run(host, CHAIN)
    assert states(forecast(host, CHAIN, forced=frozenset({"sum"}))) == {"n": "cached", "sum": "run", "out": "run"}
    assert set(states(forecast(host, CHAIN, forced=ALL)).values()) == {"run"}


def test_seconds_are_those_of_what_will_run_and_what_is_not_known_is_counted(host):
    asked = []

    def expect(kind, inputs):
        asked.append((kind, dict(inputs)))
        return {"limner.Number": 1.5, "limner.Add": 2.0}.get(kind)

    found = forecast(host, CHAIN, expect=expect)
    assert (found.seconds, found.unknown) == (3.5, 1)
    assert ("limner.Add", {"a": ["n", 0]}) in asked
    run(host, CHAIN)
    asked.clear()
    assert forecast(host, CHAIN, expect=expect).seconds == 0
    assert [kind for kind, _ in asked] == ["limner.Save"]


def test_what_takes_a_moment_at_first_can_be_done_before(tmp_path):
    from limner.core import environment
    from limner.core.forecast import warm
    from limner.nodes import NODES

    environment.code.cache_clear()
    warm(Host(NODES, Settings(base=tmp_path)))
    known = environment.code.cache_info().currsize
    assert known >= len({n.function.__module__ for n in NODES.values() if n.function.__module__.startswith("limner.")})


def test_a_thousand_nodes_are_looked_at_in_no_time(host):
    graph = {"0": at("Number")} | {str(k): at("Add", a=Link(str(k - 1), 0)) for k in range(1, 1000)}
    graph |= {"out": at("Save", value=Link("999", 0)), "bad": at("Save", value="x")}
    forecast(host, graph)
    begun = time.process_time()
    forecast(host, graph)
    assert time.process_time() - begun < 0.3
