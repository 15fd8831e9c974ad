"""--set, --set-file, --params and --seed: what they make of a workflow, and what they refuse."""

from __future__ import annotations

import json

import pytest
import tiny
from limner.core import workflow
from limner.core.cli import parser
from limner.core.cli.settings import variants
from limner.core.errors import UsageError
from limner.core.host import Host, Settings
from limner.nodes import NODES


@pytest.fixture
def made(tmp_path):
    """The variants of a workflow, by what is said on the command line."""

    def variants_of(*words, nodes=None, **rest):
        document = workflow.parse(json.dumps({"limner": 1, "graph": nodes or tiny.text_to_image()} | rest))
        options = parser().parse_args(["run", "workflow.json", *(str(word) for word in words)])
        return variants(document, Host(NODES, Settings(base=tmp_path)), options)

    return variants_of


def one(found):
    (variant,) = found
    return variant.made


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("sample.seed=7", 7),
        ("sample.seed=007", 7),
        (" sample.seed = 7 ", 7),
        ("guide.scale=3", 3.0),
        ("guide.scale=1e1", 10.0),
        ("sample.eta=-1", -1.0),
        ("sample.add_noise=False", False),
        ("sample.add_noise=true", True),
        ("sample.sampler=euler", "euler"),
        ("prompt.value=007", "007"),
        ("prompt.value=no", "no"),
        ("prompt.value=a cat, a dog; 1..4", "a cat, a dog; 1..4"),
        ("prompt.value=a=b=c", "a=b=c"),
        ("prompt.value=", ""),
        ("prompt.value='quoted'", "'quoted'"),
        ("prompt.value=ein grüner Frosch, 青蛙 🐸", "ein grüner Frosch, 青蛙 🐸"),
    ],
)
def test_a_value_is_read_as_the_type_of_its_input(made, text, value):
    ((variant,)) = made("--set", text)
    (found,) = variant.made.values()
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("sample.seed=1..4", [1, 2, 3, 4]),
        ("sample.seed=3..1", [3, 2, 1]),
        ("schedule.steps=2,4..6,9", [2, 4, 5, 6, 9]),
        ("sample.eta=-1..1", None),
        ("guide.scale=5,7.5", [5.0, 7.5]),
        ("sample.sampler=euler, heun", ["euler", "heun"]),
        ("sample.add_noise=true,false", [True, False]),
    ],
)
def test_numbers_and_choices_may_be_several(made, text, values):
    if values is None:
        with pytest.raises(UsageError, match=r"takes FLOAT, not '-1\.\.1'"):
            made("--set", text)
    else:
        assert [v for variant in made("--set", text) for v in variant.made.values()] == values


def test_several_values_of_several_inputs_make_their_product_the_last_one_changing_fastest(made):
    found = made("--set", "guide.scale=1,2", "--set", "sample.seed=5..6")
    assert [(v.made["guide.scale"], v.made["sample.seed"]) for v in found] == [(1, 5), (1, 6), (2, 5), (2, 6)]
    assert [v.graph["sample"].inputs["seed"] for v in found] == [5, 6, 5, 6]


@pytest.mark.parametrize("key", ["sample", "Sample", "limner.Sample", "My sampler"])
def test_a_node_is_named_by_its_id_its_type_or_its_title(made, key):
    nodes = tiny.text_to_image()
    nodes["sample"]["_meta"] = {"title": "My sampler"}
    assert one(made("--set", f"{key}.seed=3", nodes=nodes)) == {"sample.seed": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sampel.seed=1", "there is no node 'sampel'; there are: .*; did you mean 'sample'"),
        ("sample.sede=1", "sample has no input 'sede'; it has: seed, .*; did you mean 'seed'"),
        ("EncodeText.text=x", "'EncodeText' is what several nodes are called: say encode or nothing"),
        ("encode.text=x", "encode.text is plugged into prompt: set it there"),
        ("sample.guider=1", "sample.guider is plugged into guide"),
        ("sample.seeds=1", "sample.seeds takes SEEDS from another node"),
        ("sample.seed", "--set takes KEY=VALUE, not 'sample.seed'"),
        ("steps=4", "'steps' must be ID.input, as schedule.steps"),
        ("sample.seed=-1", "sample.seed: must be from 0 to 9007199254740991, not -1"),
        ("sample.seed=two", "sample.seed: takes INT, not 'two'"),
        ("sample.seed=1.5", "sample.seed: takes INT, not '1.5'"),
        ("sample.seed=", "sample.seed: takes INT, not ''"),
        ("sample.seed=1..100000", "1..100000 is more than 10000 values"),
        ("guide.scale=nan", "guide.scale: takes FLOAT, not 'nan'"),
        ("sample.add_noise=perhaps", "sample.add_noise: takes BOOLEAN, not 'perhaps'"),
        ("sample.sampler=eulr", "is 'eulr', but must be one of: euler, .*; did you mean 'euler'"),
    ],
)
def test_what_cannot_be_set_is_refused_with_what_could_be(made, text, said):
    with pytest.raises(UsageError, match=said):
        made("--set", text)


def test_a_text_may_come_from_a_file(made, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("a cat,\nasleep = content\n", "utf-8")
    assert one(made("--set-file", f"prompt.value={file}")) == {"prompt.value": "a cat,\nasleep = content"}


def test_a_picture_is_copied_to_where_nodes_look_for_pictures(made, tmp_path):
    nodes = {"load": {"class_type": "limner.LoadImage", "inputs": {"name": "none.png"}}}
    (tmp_path / "photo.png").write_bytes(b"a picture")
    found = [one(made("--set-file", f"load.name={tmp_path}/photo.png", nodes=nodes)) for _ in range(2)]
    assert found[0] == found[1]
    (copy,) = (tmp_path / "input").iterdir()
    assert {"load.name": copy.name} == found[0]
    assert copy.read_bytes() == b"a picture"


def test_params_come_from_a_file_and_a_list_runs_each_of_its_values(made, tmp_path):
    file = tmp_path / "params.json"
    file.write_text(json.dumps({"prompt.value": ["a, b", "c"], "Sample.seed": 4, "guide.scale": 2}))
    texts = [v.made["prompt.value"] for v in made("--params", file)]
    assert texts == ["a, b", "c"]
    assert {"sample.seed": 4, "guide.scale": 2.0}.items() <= made("--params", file)[0].made.items()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1]", "must hold an object of settings"),
        ("{", "is not JSON"),
        ('{"sample.seed": []}', "the list of values for sample.seed is empty"),
        ('{"sample.seed": null}', "sample.seed: takes INT, not None"),
        ('{"prompt.value": {}}', "prompt.value: takes STRING"),
        (b"\xff\xfe", "is not text in UTF-8"),
    ],
)
def test_a_file_of_params_that_makes_no_sense_is_refused(made, tmp_path, content, said):
    file = tmp_path / "params.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=said):
        made("--params", file)


def test_a_file_that_is_not_there_is_named(made):
    with pytest.raises(UsageError, match=r"cannot read nowhere.txt: no such file"):
        made("--set-file", "prompt.value=nowhere.txt")


def test_later_settings_win_params_then_seed_then_set(made, tmp_path):
    file = tmp_path / "params.json"
    file.write_text('{"sample.seed": [1, 2], "guide.scale": 2}')
    assert one(made("--set", "sample.seed=9", "--params", file)) == {"guide.scale": 2.0, "sample.seed": 9}
    assert [v.made["sample.seed"] for v in made("--params", file, "--seed", "5..6")] == [5, 6]
    assert one(made("--set", "sample.seed=1", "--set", "sample.seed=2")) == {"sample.seed": 2}


def test_seed_is_for_every_seed_that_nothing_is_plugged_into(made):
    nodes = tiny.text_to_image()
    nodes["again"] = json.loads(json.dumps(nodes["sample"]))
    nodes["plugged"] = json.loads(json.dumps(nodes["sample"]))
    nodes["number"] = {"class_type": "limner.WholeNumber", "inputs": {"value": 3}}
    nodes["plugged"]["inputs"]["seed"] = ["number", 0]
    found = made("--seed", "1..2", nodes=nodes)
    assert [v.made for v in found] == [{"sample.seed": 1, "again.seed": 1}, {"sample.seed": 2, "again.seed": 2}]


def test_seed_without_a_seed_in_the_workflow_is_refused(made):
    nodes = {"text": {"class_type": "limner.Text", "inputs": {}}}
    with pytest.raises(UsageError, match="the workflow has no seed"):
        made("--seed", "1", nodes=nodes)


def test_a_random_seed_is_drawn_anew_each_time(made):
    seeds = {one(made("--seed", "random"))["sample.seed"] for _ in range(4)}
    seeds |= {one(made("--set", "sample.seed=random"))["sample.seed"] for _ in range(4)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**53 for seed in seeds)


def randomized(**rest):
    nodes = tiny.text_to_image(sample__seed=5)
    nodes["sample"]["_meta"] = {"title": "draw", "control": "randomize"} | rest
    return nodes


def test_a_node_that_wants_its_seed_drawn_gets_one_and_the_document_keeps_it(made):
    (first,), (second,) = made(nodes=randomized()), made(nodes=randomized())
    assert first.made["sample.seed"] not in (5, second.made["sample.seed"])
    assert first.graph["sample"].inputs["seed"] == first.made["sample.seed"]
    entry = first.document.graph["sample"]
    assert entry["inputs"]["seed"] == first.made["sample.seed"]
    assert entry["_meta"] == {"title": "draw"}  # made again, it is the same picture


def test_a_seed_that_is_set_is_not_drawn(made):
    assert one(made("--set", "sample.seed=3", nodes=randomized())) == {"sample.seed": 3}


@pytest.mark.parametrize("control", ["fixed", "increment", ""])
def test_a_node_that_wants_something_else_keeps_its_seed(made, control):
    (variant,) = made(nodes=randomized(control=control))
    assert variant.made == {}
    assert variant.document.graph["sample"]["_meta"] == {"title": "draw", "control": control}


def test_a_seed_that_is_plugged_in_is_not_drawn(made):
    nodes = randomized()
    nodes["number"] = {"class_type": "limner.WholeNumber", "inputs": {"value": 3}}
    nodes["sample"]["inputs"]["seed"] = ["number", 0]
    assert one(made(nodes=nodes)) == {}


INNER = {
    "graph": {
        "sample": {"class_type": "limner.Sample", "inputs": {"seed": 1}, "_meta": {"control": "randomize"}},
    },
    "inputs": [],
    "outputs": [],
}


def test_drawing_seeds_leaves_the_document_that_was_read_as_it_is(tmp_path):
    document = workflow.parse(json.dumps({"limner": 1, "graph": randomized()}))
    options = parser().parse_args(["run", "workflow.json", "--seed", "3"])
    variants(document, Host(NODES, Settings(base=tmp_path)), options)
    assert document.graph == randomized()


def test_a_seed_that_stood_at_its_default_is_drawn_too(made):
    nodes = {"sample": {"class_type": "limner.Sample", "_meta": {"control": "randomize"}}}
    (variant,) = made(nodes=nodes)
    assert variant.graph["sample"].inputs["seed"] == variant.made["sample.seed"]


def test_seeds_inside_a_definition_are_drawn_and_set_as_well(made):
    nodes = {"mine": {"class_type": "Mine", "inputs": {}}}
    (drawn,) = made(nodes=nodes, definitions={"Mine": INNER})
    assert drawn.graph["mine:sample"].inputs["seed"] == drawn.made["Mine:sample.seed"]
    (variant,) = made("--set", "mine:sample.seed=4", nodes=nodes, definitions={"Mine": INNER})
    assert variant.graph["mine:sample"].inputs["seed"] == 4
    assert variant.document.graph["mine:sample"]["inputs"]["seed"] == 4


def test_what_is_set_stands_in_the_document_and_what_it_had_besides_stays(made):
    rest = {"canvas": {"nodes": {"sample": [1, 2]}}, "about": "mine"}
    (variant,) = made("--set", "sample.seed=3", **rest)
    assert variant.document.graph["sample"]["inputs"]["seed"] == 3
    assert variant.document.canvas == rest["canvas"]
    assert variant.document.rest == {"about": "mine"}


def test_more_runs_than_anybody_wants_are_refused_before_they_are_made(made):
    with pytest.raises(UsageError, match="more than 10000 runs"):
        made("--set", "sample.seed=1..9000", "--set", "schedule.steps=1..9000")


def test_a_node_type_that_is_not_there_cannot_be_set(made):
    nodes = tiny.text_to_image()
    nodes["theirs"] = {"class_type": "SomebodyElses", "inputs": {"a": 1}}
    with pytest.raises(UsageError, match="there is no node type 'SomebodyElses'"):
        made("--set", "theirs.a=1", nodes=nodes)
