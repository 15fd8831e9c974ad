"""What is wrong with a posted graph, in the words that ComfyUI's clients know."""

from __future__ import annotations

import time
from typing import Any

import pytest
import serving as tools
from limner.core import host
from limner.core.server.refusal import Refused
from limner.core.server.submission import understood
from limner.core.server.verdict import Verdict, judged
from serving import chain, entry


@pytest.fixture
def here(tmp_path):
    return host.Host(tools.TOYS, host.Settings(base=tmp_path, disk_cache=False))


def errors(here: host.Host, prompt: dict[str, Any], *outputs: str) -> dict[str, Any]:
    return dict(judged(here, prompt, outputs or ("show",)).errors)


def only_error(here: host.Host, **inputs: Any) -> dict[str, Any]:
    """The one thing wrong with a Join of these inputs."""
    whole = {"first": ["t", 0], "second": "b", **inputs}
    prompt = {"t": entry("Text", text="a"), "n": entry("Join", **whole), "show": entry("Show", source=["n", 0])}
    found = errors(here, {**prompt, **{k: entry("Pick", way=v) for k, v in inputs.items() if k == "way"}})
    assert list(found) == ["n"]
    (error,) = found["n"]["errors"]
    return error


def test_a_good_graph_has_no_errors(here):
    verdict = judged(here, chain("a", "b", "c"), ("show",))
    assert (verdict.good, verdict.errors) == (("show",), {})


def test_a_missing_input_is_told_exactly_as_comfyui_does_it(here):
    prompt = {"2": entry("Join", first="a"), "3": entry("Show", source=["2", 0])}
    assert errors(here, prompt, "3") == {
        "2": {
            "errors": [
                {
                    "type": "required_input_missing",
                    "message": "Required input is missing",
                    "details": "second",
                    "extra_info": {"input_name": "second"},
                }
            ],
            "dependent_outputs": ["3"],
            "class_type": "Join",
        }
    }


@pytest.mark.parametrize(
    ("inputs", "kind", "details"),
    [
        ({"times": 10}, "value_bigger_than_max", "times - must be from 1 to 9, not 10"),
        ({"times": 0}, "value_smaller_than_min", "times - must be from 1 to 9, not 0"),
        ({"times": "many"}, "invalid_input_type", "times - takes INT, not 'many'"),
        ({"times": ["t", 0]}, "return_type_mismatch", "times - takes INT, not STRING"),
        ({"first": ["t", 1]}, "bad_linked_input", "first - is plugged into output 1 of 't', which has 1"),
        (
            {"first": ["gone", 0]},
            "bad_linked_input",
            "first - is plugged into the node 'gone', which is not in the graph",
        ),
    ],
)
def test_each_fault_has_comfyuis_type_the_input_and_a_sentence(here, inputs, kind, details):
    error = only_error(here, **inputs)
    assert (error["type"], error["details"]) == (kind, details)
    ((name, value),) = inputs.items()
    assert error["extra_info"]["input_name"] == name
    assert error["extra_info"]["received_value"] == value
    assert error["message"]


def test_a_link_of_the_wrong_type_says_what_comes_and_from_where(here):
    extra = only_error(here, times=["t", 0])["extra_info"]
    assert (extra["received_type"], extra["linked_node"]) == ("STRING", ["t", 0])
    assert extra["input_config"] == ["INT", {"default": 1, "min": 1, "max": 9, "step": 1}]


def test_a_value_of_the_wrong_type_says_why(here):
    assert only_error(here, times="many")["extra_info"]["exception_message"] == "takes INT, not 'many'"


def test_what_is_no_choice_is_told_with_the_choices_if_they_are_few(here, tmp_path):
    prompt = {"p": entry("Pick", way="left"), "show": entry("Show", source=["p", 0])}
    (error,) = errors(here, prompt)["p"]["errors"]
    assert error["type"] == "value_not_in_list"
    assert error["extra_info"] == {
        "input_name": "way",
        "input_config": [["up", "down"], {"default": "up"}],
        "received_value": "left",
    }
    (tmp_path / "models" / "loras").mkdir(parents=True)
    for k in range(21):
        (tmp_path / "models" / "loras" / f"{k}.safetensors").touch()
    prompt = {"f": entry("File", model="x", picture="x.png"), "show": entry("Show", source=["f", 0])}
    model, picture = errors(here, prompt)["f"]["errors"]
    assert model["extra_info"]["input_config"] is None
    assert picture["extra_info"]["input_config"] == [[], {"image_upload": True}]


def test_good_outputs_run_though_others_cannot(here):
    prompt = chain("a") | {"bad": entry("Join", first="a"), "worse": entry("Show", source=["bad", 0])}
    verdict = judged(here, prompt, ("show", "worse"))
    assert verdict.good == ("show",)
    assert verdict.errors["bad"]["dependent_outputs"] == ["worse"]


def test_what_no_output_needs_is_not_looked_at(here):
    assert errors(here, chain("a") | {"odd": entry("Join")}) == {}


def test_a_loop_is_told_with_its_nodes(here):
    prompt = {
        "a": entry("Join", first=["c", 0], second="x"),
        "b": entry("Join", first=["a", 0], second="x"),
        "c": entry("Join", first=["b", 0], second="x"),
        "show": entry("Show", source=["c", 0]),
    }
    found = errors(here, prompt)
    assert set(found) == {"a", "b", "c"}
    texts = {e["details"] for node in found.values() for e in node["errors"]}
    assert {node["errors"][0]["type"] for node in found.values()} == {"dependency_cycle"}
    assert all(node["dependent_outputs"] == ["show"] for node in found.values())
    (text,) = texts
    assert text in {"a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c"}


def test_a_node_that_feeds_itself_is_a_loop(here):
    prompt = {"a": entry("Join", first=["a", 0], second="x"), "show": entry("Show", source=["a", 0])}
    (error,) = errors(here, prompt)["a"]["errors"]
    assert error["details"] == "a -> a"


def ladder(depth: int) -> dict[str, Any]:
    """2 ** depth ways from top to bottom."""
    nodes = {"0": entry("Text", text="a")}
    for k in range(depth):
        nodes[f"{k + 1}"] = entry("Join", first=[f"{k}", 0], second=[f"{k}", 0])
    return {**nodes, "show": entry("Show", source=[f"{depth}", 0])}


def fan(count: int) -> dict[str, Any]:
    """Many that show one text."""
    return {"t": entry("Text", text="a"), **{f"s{k}": entry("Show", source=["t", 0]) for k in range(count)}}


SHAPES = {"chain": chain(*["a"] * 5_000), "fan": fan(10_000), "ladder": ladder(40)}


def timed(here: host.Host, prompt: dict[str, Any]) -> Verdict:
    began = time.perf_counter()
    _, verdict = understood({"prompt": prompt}, here)
    assert time.perf_counter() - began < 2
    return verdict


@pytest.mark.parametrize("shape", SHAPES)
def test_ten_thousand_good_nodes_are_judged_in_a_moment(here, shape):
    assert timed(here, SHAPES[shape]).errors == {}


@pytest.mark.parametrize("shape", SHAPES)
def test_ten_thousand_bad_nodes_are_judged_in_a_moment(here, shape):
    spoil = {"Join": {"times": 0}, "Text": {"text": ["gone", 0]}}
    prompt = {i: n | {"inputs": n["inputs"] | spoil.get(n["class_type"], {})} for i, n in SHAPES[shape].items()}
    verdict = timed(here, prompt)
    assert verdict.good == ()
    assert len(verdict.errors) == sum(n["class_type"] in spoil for n in prompt.values())
    assert all(found["dependent_outputs"] for found in verdict.errors.values())


def test_a_loop_of_ten_thousand_nodes_is_told_in_a_moment(here):
    count = 10_000
    prompt = {f"{k}": entry("Join", first=[f"{(k + 1) % count}", 0], second="x") for k in range(count)}
    verdict = timed(here, prompt | {"show": entry("Show", source=["0", 0])})
    assert len(verdict.errors) == count
    assert " -> ... -> " in verdict.errors["0"]["errors"][0]["details"]


def refused(here: host.Host, body: dict[str, Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        understood(body, here)
    return caught.value


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ({}, "no_prompt", "there is no prompt"),
        ({"prompt": []}, "invalid_prompt", "must be an object"),
        ({"prompt": {"1": {"inputs": {}}}}, "invalid_prompt", "'1' has no class_type"),
        ({"prompt": {"1": 5}}, "invalid_prompt", "'1' has no class_type"),
        ({"prompt": {"1": {"class_type": "Text", "inputs": []}}}, "invalid_prompt", "inputs of the node '1'"),
        ({"prompt": chain("a") | {"x": entry("Shaw")}}, "invalid_prompt", "no node type 'Shaw', which node 'x' is"),
        ({"prompt": {}}, "prompt_no_outputs", "no node that saves or shows"),
        ({"prompt": {"t": entry("Text")}}, "prompt_no_outputs", "no node that saves or shows"),
        ({"prompt": chain("a"), "partial_execution_targets": []}, "prompt_no_outputs", "partial_execution_targets"),
        ({"prompt": chain("a"), "partial_execution_targets": ["t0"]}, "prompt_no_outputs", "partial_execution"),
        ({"prompt": chain("a"), "partial_execution_targets": "show"}, "invalid_prompt", "must be a list"),
        ({"prompt": chain("a"), "number": "7"}, "invalid_prompt", "number must be a number"),
        ({"prompt": chain("a"), "number": True}, "invalid_prompt", "number must be a number"),
        ({"prompt": chain("a"), "priority": 1.5}, "invalid_prompt", "priority must be a whole number"),
        ({"prompt": chain("a"), "extra_data": 7}, "invalid_prompt", "extra_data must be an object"),
    ],
)
def test_what_is_no_prompt_is_refused_with_its_reason(here, body, kind, words):
    error = refused(here, body)
    assert (error.status, error.kind) == (400, kind)
    assert words in str(error)


def test_an_unknown_node_is_told_with_what_was_perhaps_meant(here):
    error = refused(here, {"prompt": chain("a") | {"x": entry("Shaw")}})
    assert error.details == {"node_id": "x", "class_type": "Shaw"}
    assert "did you mean 'Show'" in str(error)


def test_partial_targets_are_all_that_runs(here):
    prompt = chain("a") | {"other": entry("Show", source=["bad", 0]), "bad": entry("Join")}
    submission, verdict = understood({"prompt": prompt, "partial_execution_targets": ["show"]}, here)
    assert (submission.outputs, verdict.good, verdict.errors) == (("show",), ("show",), {})


def test_the_client_is_named_in_the_extra_data(here):
    body = {"prompt": chain("a"), "client_id": "me", "extra_data": {"extra_pnginfo": {"workflow": {}}}}
    submission, _ = understood(body, here)
    assert submission.client == "me"
    assert submission.extra == {"extra_pnginfo": {"workflow": {}}, "client_id": "me"}
    assert understood({"prompt": chain("a"), "extra_data": {"client_id": "you"}}, here)[0].client == "you"


def test_a_workflow_of_ours_is_taken_too_wherever_it_stands(here):
    document = {"limner": 1, "graph": chain("a"), "canvas": {"zoom": 2}}
    for body in (document, {"prompt": document}):
        submission, verdict = understood(body, here)
        assert verdict.good == ("show",)
        assert submission.document is not None
        assert submission.document["canvas"] == {"zoom": 2}
        assert set(submission.prompt) == {"t0", "show"}


def test_muted_nodes_of_a_prompt_do_not_run(here):
    prompt = chain("a") | {"quiet": entry("Show", source="x") | {"_meta": {"mode": "mute"}}}
    submission, _ = understood({"prompt": prompt}, here)
    assert submission.outputs == ("show",)


def test_a_prompt_is_kept_as_it_was_posted(here):
    prompt = {"10": entry("Show", source="a", upload="image") | {"_meta": {"title": "x"}, "is_changed": 1}}
    submission, verdict = understood({"prompt": prompt}, here)
    assert submission.prompt == prompt
    assert verdict.good == ("10",)
