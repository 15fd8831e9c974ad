"""The commands that look and run nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import tiny
from limner.core import workflow as documents
from limner.core.pictures import texts
from limner.nodes import ALL


def columns(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_params_lists_every_value_that_can_be_set(limner, workflow):
    rows = {row["key"]: row for row in json.loads(limner("params", workflow, "--json").out)}
    seed = {"key": "sample.seed", "title": "", "type": "INT", "value": 1, "range": "0..9007199254740991"}
    assert rows["sample.seed"] == seed
    assert rows["schedule.steps"]["range"] == "1..10000"
    assert rows["guide.rescale"]["value"] == 0.0  # of its default
    assert rows["sample.sampler"]["range"].startswith("euler, ")
    assert rows["load.name"]["range"] == "limner-64, tiny"
    assert "encode.text" not in rows  # is plugged in
    assert "sample.seeds" not in rows  # takes a wire only


def test_every_value_that_params_lists_can_be_set_to_what_it_says(limner, workflow):
    for row in json.loads(limner("params", workflow, "--json").out):
        value = row["value"] if isinstance(row["value"], str) else json.dumps(row["value"])
        assert limner("explain", workflow, "--set", f"{row['key']}={value}").code == 0, row


def test_params_for_people_is_a_table(limner, workflow):
    found = columns(limner("params", workflow).out)
    assert ["sample.seed", "INT", "1", "0..9007199254740991"] in found
    assert ["prompt.value", "STRING", '"a', "red", "apple,", "3d", 'style"'] in found


def test_a_terminal_that_knows_few_letters_is_told_what_it_can_show(base, tmp_path):
    file = tiny.write(tmp_path / "x.json", tiny.text_to_image(prompt__value="ein grüner 🐸"))
    said = subprocess.run(
        [sys.executable, "-m", "limner", "params", file],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert r'"ein gr\xfcner \U0001f438"' in said.stdout


def test_validate_says_what_can_run_and_what_cannot(limner, workflow, tmp_path):
    assert limner("validate", workflow) == (0, f"{workflow} can run\n", "")
    assert limner("validate", workflow, "--json") == (0, "[]\n", "")
    bad = tiny.write(tmp_path / "bad.json", tiny.text_to_image(schedule__steps=0))
    said = limner("validate", bad, "--json")
    assert said.code == 3
    assert json.loads(said.out) == [
        {
            "node": "schedule",
            "input": "steps",
            "code": "out_of_range",
            "values": {"low": "1", "high": "10000", "found": "0"},
            "message": "must be from 1 to 10000, not 0",
        }
    ]


def test_explain_says_of_each_node_whether_it_would_run_and_why(limner, workflow, out):
    before = columns(limner("explain", workflow).out)
    assert before[0][:5] == ["load", "limner.LoadCheckpoint", "MISS", "first", "run"]
    limner("run", workflow, "--out", out)
    after = {row[0]: row[2:] for row in columns(limner("explain", workflow).out)}
    assert after["decode"][:3] == ["HIT", "on", "disk"]
    assert after["sample"][:3] == ["SKIP", "not", "needed:"]
    changed = {row[0]: row[2:] for row in columns(limner("explain", workflow, "--set", "sample.seed=8").out)[1:]}
    assert changed["sample"][:3] == ["MISS", "seed", "changed"]
    assert changed["decode"][:3] == ["MISS", "upstream", "sample"]
    assert changed["encode"][:3] == ["HIT", "on", "disk"]


def test_explain_before_a_first_run_says_what_it_does_not_know(limner, workflow):
    assert "is not known before a first run" in limner("explain", workflow).err


def test_nodes_lists_them_all_and_tells_all_about_one(limner):
    assert [row[0] for row in columns(limner("nodes").out)] == list(ALL)
    assert list(json.loads(limner("nodes", "--json").out)) == list(ALL)
    for name in ("Sample", "limner.Sample"):
        assert "| sampler | euler, " in limner("nodes", name).out
    assert json.loads(limner("nodes", "Sample", "--json").out)["outputs"] == [{"name": "latent", "wire": "LATENT"}]


def test_a_node_that_is_not_there_is_answered_with_the_nearest(limner):
    said = limner("nodes", "Smaple")
    assert (said.code, said.err) == (2, "limner: there is no node 'Smaple'; did you mean 'Sample'?\n")


def test_models_lists_what_comes_along_and_what_was_put_there(limner, base):
    found = json.loads(limner("models", "--json").out)
    assert found["checkpoints"] == ["limner-64", "tiny"]
    rows = limner("models").out.splitlines()
    assert rows[0].split() == ["checkpoints", "limner-64", "comes", "with", "Limner"]
    assert rows[-1] == f"put your own into {base}/models/<folder>"


def test_the_cache_says_how_full_it_is_and_can_be_cleared(limner, workflow, out):
    assert limner("cache").out.startswith("0 results, 0.0 of ")
    limner("run", workflow, "--out", out)
    count = int(limner("cache").out.split()[0])
    assert count >= 3
    assert limner("cache", "clear").out.startswith(f"cleared {count} results, ")
    assert limner("run", workflow, "--out", out, "--json").done["cached"] == []


def test_convert_writes_what_runs_the_same(limner, workflow, tmp_path):
    api, back = tmp_path / "x.api.json", tmp_path / "folder" / "x.json"
    assert limner("convert", workflow, api) == (0, f"{api}\n", "")
    assert json.loads(api.read_text("utf-8")) == json.loads(workflow.read_text("utf-8"))["graph"]
    assert limner("convert", api, back) == (0, f"{back}\n", "")
    assert documents.read(back).graph == documents.read(workflow).graph
    assert limner("validate", back).code == 0


def test_convert_keeps_what_it_does_not_know(limner, tmp_path):
    file = tiny.write(tmp_path / "mine.json", tiny.text_to_image(), canvas={"zoom": 2}, mine={"x": "é"})
    limner("convert", file, tmp_path / "copy.json")
    assert json.loads((tmp_path / "copy.json").read_text("utf-8")) == json.loads(file.read_text("utf-8"))


def test_convert_writes_for_comfyuis_editor_and_reads_that_again(limner, workflow, tmp_path):
    editor, back = tmp_path / "x.ui.json", tmp_path / "x.json"
    assert limner("convert", workflow, editor) == (0, f"{editor}\n", "")
    written = json.loads(editor.read_text("utf-8"))
    assert (written["version"], len(written["nodes"])) == (0.4, len(documents.read(workflow).graph))
    assert limner("validate", editor).code == 0
    assert limner("convert", editor, back) == (0, f"{back}\n", "")
    for node_id, entry in documents.read(workflow).graph.items():
        assert entry["inputs"].items() <= documents.read(back).graph[node_id]["inputs"].items()


def test_convert_copies_a_picture_with_every_form_of_its_workflow_in_it(limner, workflow, out, tmp_path):
    (saved,) = limner("run", workflow, "--out", out).out.splitlines()
    assert limner("convert", saved, tmp_path / "copy.png") == (0, f"{tmp_path / 'copy.png'}\n", "")
    assert texts(tmp_path / "copy.png").keys() == {"limner", "prompt", "workflow"}
    assert limner("convert", workflow, tmp_path / "none.png").code == 1


def test_what_a_person_should_know_of_a_file_is_said(limner, tmp_path, caplog):
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"nodes": [{"id": 1, "type": "Foreign", "widgets_values": [1]}]}))
    assert limner("validate", file).code == 3
    assert "their values have no names yet: Foreign" in caplog.text


@pytest.mark.parametrize("name", ["x.txt", "x", "x.json.jpg"])
def test_convert_knows_formats_by_their_names(name, limner, workflow, tmp_path):
    said = limner("convert", workflow, tmp_path / name)
    ways = ".api.json, .ui.json, .json, .png"
    assert (said.code, said.err) == (2, f"limner: {tmp_path / name} must end in one of: {ways}\n")
    assert not (tmp_path / name).exists()
