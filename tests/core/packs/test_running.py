"""Graphs of foreign nodes, run: every sentence of the V1 protocol that needs the runner."""

import threading

import pytest
import torch
from limner.core.event import Failed, Finished, Moved, Refused, Started, Stopped, Warned
from limner.core.graph import Instance, Link
from limner.core.values import Image


def graph(**nodes):
    """`name=(type, {inputs})`; ("id", 0) is a link."""
    return {
        name: Instance(kind, {k: Link(*v) if isinstance(v, tuple) else v for k, v in inputs.items()})
        for name, (kind, inputs) in nodes.items()
    }


@pytest.fixture
def run(host, module):
    """Run a graph to its end: all events."""

    def begin(nodes, only=None, **settings):
        return [event for _, event in host.drive([host.run(nodes, only=only, **settings)])]

    return begin


def value(events, node):
    failed = [event.error for event in events if isinstance(event, Failed)]
    assert not failed, failed
    (outputs,) = (event.outputs for event in events if isinstance(event, Finished) and event.node == node)
    return outputs[0]


def error(events):
    (found,) = (event for event in events if isinstance(event, Failed))
    return found


def ran(events):
    return [event.node for event in events if isinstance(event, Started)]


def shown(events, node):
    (ui,) = (event.ui for event in events if isinstance(event, Finished) and event.node == node)
    return ui


def test_what_a_node_shows_is_told_the_second_time_too(run):
    nodes = graph(a=("ToyNumber", {"value": 3}), show=("ToyShow", {"value": ("a", 0)}))
    assert shown(run(nodes), "show") == {"text": ["3"]}
    again = run(nodes)
    assert shown(again, "show") == {"text": ["3"]}
    assert ran(again) == []


def test_a_node_runs_for_each_item_of_a_list_and_the_shorter_list_repeats_its_last(run, module):
    nodes = graph(
        long=("ToyNumbers", {"text": "1 2 3"}),
        short=("ToyNumbers", {"text": "10 20"}),
        add=("ToyAdd", {"a": ("long", 0), "b": ("short", 0)}),
        show=("ToyShow", {"value": ("add", 0)}),
        sum=("ToySum", {"values": ("add", 0), "times": 2}),
        last=("ToyShow", {"value": ("sum", 0)}),
    )
    events = run(nodes)
    assert [call for call in module.CALLS if call[0] == "Add"] == [("Add", 1, 10), ("Add", 2, 20), ("Add", 3, 20)]
    assert shown(events, "show") == {"text": ["11", "22", "23"]}
    assert shown(events, "last") == {"text": ["112"]}


@pytest.mark.parametrize("kind", ["ToyEither", "ToyEitherLater"])
def test_a_lazy_input_is_evaluated_only_if_it_is_asked_for(run, kind):
    nodes = graph(
        a=("ToyNumber", {"value": 1}),
        b=("ToyNumber", {"value": 2}),
        either=(kind, {"first": False, "a": ("a", 0), "b": ("b", 0)}),
    )
    events = run(nodes, only=["either"])
    assert value(events, "either") == 2
    assert "a" not in ran(events)


def test_async_nodes_run_side_by_side(run):
    nodes = graph(
        a=("ToyMeet", {"value": 1, "people": 2}),
        b=("ToyMeet", {"value": 2, "people": 2}),
        add=("ToyAdd", {"a": ("a", 0), "b": ("b", 0)}),
    )
    assert value(run(nodes, only=["add"]), "add") == 3


def test_the_items_of_an_async_node_run_side_by_side(run):
    nodes = graph(
        list=("ToyNumbers", {"text": "1 2 3"}),
        meet=("ToyMeet", {"value": ("list", 0), "people": 3}),
        sum=("ToySum", {"values": ("meet", 0)}),
    )
    assert value(run(nodes, only=["sum"]), "sum") == 6


def test_an_expansion_does_the_work_in_its_nodes_place(run):
    nodes = graph(a=("ToyTwice", {"value": 4}), show=("ToyShow", {"value": ("a", 0)}))
    events = run(nodes)
    assert shown(events, "show") == {"text": ["10"]}
    inside = [event for event in events if isinstance(event, Started) and event.node.startswith("a.")]
    assert [event.node for event in inside] == ["a.0.0.1", "a.0.0.last"]
    assert {event.display for event in inside} == {"a"}


def test_inside_of_an_expansion_results_are_cached(run, module):
    def nodes(count):
        return graph(a=("ToyTwice", {"value": 4}), b=("ToyAdd", {"a": ("a", 0), "b": count}))

    run(nodes(1), only=["b"])
    module.CALLS.clear()
    assert value(run(nodes(2), only=["b"]), "b") == 12
    assert module.CALLS == [("Add", 10, 2)]


def test_a_node_may_put_itself_in_its_own_place_many_times(run):
    nodes = graph(a=("ToyCountdown", {"value": 30}))
    assert value(run(nodes, only=["a"]), "a") == 30 * 31 // 2


def test_each_item_of_a_list_is_expanded_by_itself(run):
    nodes = graph(
        list=("ToyNumbers", {"text": "1 2 3"}),
        twice=("ToyTwice", {"value": ("list", 0)}),
        sum=("ToySum", {"values": ("twice", 0)}),
    )
    assert value(run(nodes, only=["sum"]), "sum") == 4 + 6 + 8


def test_a_loop_that_an_expansion_makes_is_its_nodes_error(run):
    failed = error(run(graph(a=("ToyCircle", {})), only=["a"]))
    assert (failed.display or failed.node) == "a"
    assert "loop" in str(failed.error)


def test_a_blocker_silently_stops_what_depends_on_it(run, module):
    nodes = graph(
        block=("ToyBlock", {"value": 0}),
        below=("ToyAdd", {"a": ("block", 0), "b": 1}),
        show=("ToyShow", {"value": ("below", 0)}),
        other=("ToyShow", {"value": 5}),
    )
    events = run(nodes)
    assert shown(events, "other") == {"text": ["5"]}
    assert not [call for call in module.CALLS if call[0] == "Add"]
    assert not [event for event in events if isinstance(event, Failed | Refused)]


def test_a_blocker_with_a_message_is_told_of_and_the_run_goes_on(run):
    nodes = graph(
        block=("ToyBlock", {"value": 0, "message": "too small"}),
        show=("ToyShow", {"value": ("block", 0)}),
        other=("ToyShow", {"value": 5}),
    )
    events = run(nodes)
    assert [(e.node, e.message) for e in events if isinstance(e, Refused)] == [("show", "too small")]
    assert shown(events, "other") == {"text": ["5"]}


def test_a_blocker_stops_one_item_of_a_list(run, module):
    nodes = graph(
        list=("ToyNumbers", {"text": "1 0 2"}),
        block=("ToyBlock", {"value": ("list", 0)}),
        add=("ToyAdd", {"a": ("block", 0), "b": 10}),
    )
    run(nodes, only=["add"])
    assert [call for call in module.CALLS if call[0] == "Add"] == [("Add", 1, 10), ("Add", 2, 10)]


def test_a_node_runs_again_when_its_is_changed_says_so(run, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one")
    nodes = graph(a=("ToyChanging", {"path": str(file)}))
    assert value(run(nodes, only=["a"]), "a") == "one"
    assert ran(run(nodes, only=["a"])) == []
    file.write_text("three")
    assert value(run(nodes, only=["a"]), "a") == "three"


@pytest.mark.parametrize("kind", ["ToyAlways", "ToyAlwaysByMistake"])
def test_nan_and_an_exception_mean_every_time(run, kind):
    nodes = graph(a=(kind, {"value": 3}), b=("ToyAdd", {"a": ("a", 0), "b": 1}))
    for _ in range(2):
        assert ran(run(nodes, only=["b"])) == ["a", "b"]


def test_what_a_class_has_against_its_inputs_is_a_problem(host, module):
    nodes = graph(
        even=("ToyEven", {"value": 3}),
        late=("ToyEvenLater", {"value": 5}),
        fine=("ToyEven", {"value": 12}),  # more than its max, which it looks after itself
        both=("ToyTolerant", {"value": ("model", 0), "word": "seven"}),
        model=("ToyHanding", {}),
    )
    found = {(p.node, p.input): p.message for p in host.problems(nodes)}
    assert found.pop(("even", "value")) == "3 is odd"
    assert found.pop(("late", "value")) == "5 is odd"
    assert [(node, text) for (node, _), text in found.items()] == [("both", "no MODEL please")]


def test_hidden_inputs_are_filled_in(run, module):
    nodes = graph(me=("ToyHidden", {"mine": "given"}))
    found = value(run(nodes, only=["me"]), "me")
    assert (found["me"], found["types"], found["node"], found["mine"]) == (
        "me",
        {"me": "ToyHidden"},
        "ToyHidden",
        "given",
    )


def test_a_raw_link_is_given_as_such_and_nothing_behind_it_runs(run):
    nodes = graph(a=("ToyNumber", {"value": 1}), raw=("ToyRaw", {"value": ("a", 0)}))
    events = run(nodes, only=["raw"])
    assert value(events, "raw") == "['a', 0]"
    assert ran(events) == ["raw"]


def test_what_is_plugged_in_and_not_declared_is_passed_on(run):
    nodes = graph(a=("ToyNumber", {"value": 1}), open=("ToyOpen", {"extra": ("a", 0)}))
    assert value(run(nodes, only=["open"]), "open") == "extra=1"


def test_types_that_fit_everything_fit(run, host):
    nodes = graph(
        a=("ToyNumber", {"value": 1}),
        typed=("ToyTyped", {"value": ("a", 0), "number": ("a", 0), "kind": "b"}),
        add=("ToyEither", {"first": True, "a": ("typed", 0), "b": 0}),
    )
    assert host.problems(nodes) == []
    assert value(run(nodes, only=["add"]), "add") == (1, 1, "b")


def test_a_node_that_writes_into_what_it_is_given_is_told_of_and_nobody_else_sees_it(run):
    nodes = graph(
        picture=("ToyPicture", {}),
        vandal=("ToyVandal", {"image": ("picture", 0)}),
    )
    events = run(nodes, only=["vandal"])
    assert [event.node for event in events if isinstance(event, Warned)] == ["vandal"]
    again = run(graph(picture=("ToyPicture", {})), only=["picture"])
    assert ran(again) == ["picture"]  # not what the vandal has left of it
    assert value(again, "picture").pixels.std() > 0.1


def test_foreign_pictures_go_into_our_nodes_and_ours_into_theirs(run):
    nodes = graph(
        picture=("ToyPicture", {"odd": True}),
        size=("limner.ResizeImage", {"image": ("picture", 0), "width": 4, "height": 4}),
        look=("ToyLook", {"image": ("size", 0)}),
    )
    events = run(nodes, only=["look"])
    assert isinstance(value(events, "size"), Image)
    assert value(events, "look") == "image:float32[1, 4, 4, 3]"


def test_foreign_models_are_refused_by_our_nodes_in_a_sentence(run):
    nodes = graph(
        foreign=("ToyHanding", {}),
        latent=("limner.EmptyLatent", {"model": ("foreign", 0), "width": 64, "height": 64}),
    )
    failed = error(run(nodes, only=["latent"]))
    assert failed.node == "latent"
    assert "MODEL" in str(failed.error)
    assert "Limner" in str(failed.error)


def test_progress_is_told_while_a_foreign_node_works(run):
    events = run(graph(slow=("ToySlow", {"steps": 3})), only=["slow"])
    assert [(e.progress.done, e.progress.total) for e in events if isinstance(e, Moved)] == [(1, 3), (2, 3), (3, 3)]


def test_a_stop_ends_a_foreign_node_at_its_next_step(host, module):
    going = host.run(graph(slow=("ToySlow", {"steps": 1000000})), only=["slow"])
    going.aside = lambda event: going.stop()
    events = [event for _, event in host.drive([going])]
    assert isinstance(events[-1], Stopped)
    assert threading.active_count() >= 1


def test_only_what_is_asked_for_runs(run):
    nodes = graph(a=("ToyShow", {"value": 1}), b=("ToyShow", {"value": 2}))
    assert ran(run(nodes, only=["b"])) == ["b"]


def test_tensors_stay_tensors_between_foreign_nodes(run):
    nodes = graph(
        picture=("ToyPicture", {}),
        look=("ToyLook", {"image": ("picture", 0), "mask": ("picture", 1), "sigmas": ("picture", 3)}),
    )
    seen = value(run(nodes, only=["look"]), "look")
    assert seen == "image:float32[1, 8, 8, 3] mask:float32[1, 8, 8] sigmas:float32[2]"
    assert torch.is_grad_enabled()
