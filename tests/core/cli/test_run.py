"""`limner run`: what it draws, prints and leaves beside the pictures, and what it does not do twice."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import tiny
from limner.core import pictures


def plain(text: str) -> str:
    """A transcript without what differs from run to run."""
    return re.sub(r"\d+\.\d+ (s|MB)\b", r"0.0 \1", text)


def record(picture: str) -> dict:
    return json.loads(Path(picture).with_suffix(".run.json").read_text("utf-8"))


def embedded(picture: str) -> dict:
    return json.loads(pictures.texts(Path(picture))["limner"])


TRANSCRIPT = """\
run 1: sample.seed=3
load 0.0 s
prompt 0.0 s
loaded text encoder, 0.0 MB: first use
encode 0.0 s
nothing 0.0 s
guide 0.0 s
schedule 0.0 s
latent 0.0 s
loaded unet, 0.0 MB: first use
sample 0.0 s
loaded patch autoencoder, 0.0 MB: first use
decode 0.0 s
save 0.0 s
ran 10, cached 0, 0.0 s
"""


def test_paths_go_to_standard_output_and_what_people_read_to_standard_error(limner, workflow, out):
    said = limner("run", workflow, "--out", out, "--set", "sample.seed=3")
    assert said.code == 0
    assert said.out == f"{out}/limner_00001.png\n"
    assert plain(said.err) == TRANSCRIPT
    assert pictures.load(out / "limner_00001.png")[0].shape == (1, 32, 32, 3)


def test_runs_beside_each_other_are_told_apart(limner, workflow, out):
    limner("run", workflow, "--out", out, "--set", "sample.seed=3")
    said = limner("run", workflow, "--out", out, "--set", "sample.seed=3..4")
    assert [Path(path).name for path in said.out.split()] == ["limner_00002.png", "limner_00003.png"]
    lines = plain(said.err).splitlines()
    assert lines[:2] == ["run 1: sample.seed=3", "run 2: sample.seed=4"]
    assert {"sample #2 0.0 s", "decode #2 0.0 s", "save 0.0 s", "save #2 0.0 s"} <= set(lines)
    assert "sample 0.0 s" not in lines  # the first of them was there already


def test_quiet_says_nothing_but_the_paths(limner, workflow, out):
    said = limner("run", workflow, "--out", out, "--quiet")
    assert (said.code, said.out, said.err) == (0, f"{out}/limner_00001.png\n", "")


def test_json_is_an_object_a_line_and_the_last_one_sums_up(limner, workflow, out):
    said = limner("run", workflow, "--out", out, "--json", "--set", "sample.seed=3")
    assert said.err == ""
    first, *_, last = said.objects
    assert first == {"event": "begun", "run": 0, "set": {"sample.seed": 3}}
    assert list(last) == ["event", "status", "outputs", "executed", "cached", "seconds"]
    assert last | {"seconds": 0} == {
        "event": "done",
        "status": "ok",
        "outputs": [f"{out}/limner_00001.png"],
        "executed": ["load", "prompt", "encode", "nothing", "guide", "schedule", "latent", "sample", "decode", "save"],
        "cached": [],
        "seconds": 0,
    }
    by_kind = {name: [o for o in said.objects if o["event"] == name] for name in ("loaded", "moved", "finished")}
    assert [o["kind"] for o in by_kind["loaded"]] == ["text_encoder", "unet", "patch_autoencoder"]
    assert [(o["node"], o["done"], o["total"]) for o in by_kind["moved"]] == [("sample", 1, 2), ("sample", 2, 2)]
    assert by_kind["finished"][-1]["files"] == last["outputs"]


def test_json_of_a_command_that_fails_ends_in_its_error(limner, workflow, out):
    said = limner("run", workflow, "--out", out, "--json", "--set", "latent.width=36")
    assert said.code == 1
    assert list(said.done) == ["event", "status", "outputs", "executed", "cached", "seconds", "error"]
    assert said.done["status"] == "failed"
    message = "width and height must be multiples of 8 for this model, not 36 x 32"
    assert said.done["error"] == {"code": "failed", "message": message, "node": "latent"}
    assert said.err == f"limner: latent: {message}\n"


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["--set", "sample.sed=1"], "usage", 2),
        (["--set", "load.name=none"], "invalid_graph", 3),
        (["--device", "gpu"], "no_device", 2),
        (["--timeout", "0"], "usage", 2),
    ],
)
def test_json_of_a_command_that_cannot_begin_ends_in_its_error_too(limner, workflow, words, status, code):
    said = limner("run", workflow, "--json", *words)
    assert (said.code, said.done["status"], said.done["error"]["code"]) == (code, status, status)
    assert said.done["outputs"] == said.done["executed"] == said.done["cached"] == []


def test_the_record_beside_the_first_picture_tells_all_of_the_run(limner, workflow, base, out):
    (picture,) = limner("run", workflow, "--out", out, "--set", "sample.seed=3").out.split()
    found = record(picture)
    assert found["graph"]["sample"]["inputs"]["seed"] == 3
    run = found["run"]
    assert (run["status"], run["set"], run["outputs"]) == ("ok", {"sample.seed": 3}, [picture])
    assert run["environment"] == {
        "device": "cpu",
        "dtype": "float32",
        "attention": "sdpa",
        "limner": version("limner"),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "python": platform.python_version(),
    }
    (digest,) = run["files"].values()
    assert list(run["files"]) == ["models/checkpoints/tiny"]
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert run["seconds"].keys() == run["keys"].keys() == found["graph"].keys()
    assert str(base) not in Path(picture).with_suffix(".run.json").read_text("utf-8")


def test_a_record_is_a_workflow_that_draws_the_same_picture(limner, workflow, out):
    (picture,) = limner("run", workflow, "--out", out, "--seed", "random").out.split()
    (again,) = limner("run", Path(picture).with_suffix(".run.json"), "--out", out, "--no-cache").out.split()
    assert pictures.load(Path(again))[0].equal(pictures.load(Path(picture))[0])
    assert "run" not in embedded(again)


def test_a_picture_is_a_workflow_that_draws_the_same_picture(limner, workflow, out):
    (picture,) = limner("run", workflow, "--out", out, "--set", "prompt.value=a green frog").out.split()
    (again,) = limner("run", picture, "--out", out, "--no-cache").out.split()
    assert Path(again).read_bytes() == Path(picture).read_bytes()


def test_a_picture_of_ones_own_is_worked_on(limner, base, out, tmp_path):
    from PIL import Image

    Image.new("RGB", (9, 7), (0, 0, 255)).save(tmp_path / "mine.webp", lossless=True)
    nodes = {
        "load": {"class_type": "limner.LoadImage", "inputs": {"name": "none.png"}},
        "save": {"class_type": "limner.SaveImage", "inputs": {"image": ["load", 0]}},
    }
    file = tiny.write(tmp_path / "copy.json", nodes)
    assert limner("run", file, "--out", out).code == 3
    (path,) = limner("run", file, "--out", out, "--set-file", f"load.name={tmp_path}/mine.webp").out.split()
    assert pictures.load(Path(path))[0].shape == (1, 7, 9, 3)
    assert list(record(path)["run"]["files"]) == [f"input/{record(path)['graph']['load']['inputs']['name']}"]


def test_a_webp_that_carries_a_workflow_is_run(limner, workflow, out, tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0110] = "prompt:" + json.dumps(tiny.text_to_image())
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.webp", exif=exif)
    assert limner("run", tmp_path / "picture.webp", "--out", out).code == 0


def test_a_file_in_comfyuis_api_format_is_run(limner, out, tmp_path):
    (tmp_path / "api.json").write_text(json.dumps(tiny.text_to_image()))
    assert limner("run", tmp_path / "api.json", "--out", out).code == 0


def test_pictures_carry_what_was_set_in_both_formats(limner, workflow, out):
    (picture,) = limner("run", workflow, "--out", out, "--set", "sample.seed=3").out.split()
    texts = pictures.texts(Path(picture))
    assert json.loads(texts["limner"])["graph"]["sample"]["inputs"]["seed"] == 3
    assert json.loads(texts["prompt"])["sample"]["inputs"]["seed"] == 3


def test_no_metadata_leaves_the_workflow_out_of_the_pictures(limner, workflow, out):
    (picture,) = limner("run", workflow, "--out", out, "--no-metadata").out.split()
    assert pictures.texts(Path(picture)) == {}


def test_a_seed_that_is_drawn_is_said_recorded_and_in_the_picture(limner, out, tmp_path):
    nodes = tiny.text_to_image()
    nodes["sample"]["_meta"] = {"control": "randomize"}
    said = limner("run", tiny.write(tmp_path / "random.json", nodes), "--out", out)
    (picture,) = said.out.split()
    seed = record(picture)["graph"]["sample"]["inputs"]["seed"]
    assert said.err.startswith(f"run 1: sample.seed={seed}\n")
    assert embedded(picture)["graph"]["sample"]["inputs"] == record(picture)["graph"]["sample"]["inputs"]
    assert record(picture)["run"]["set"] == {"sample.seed": seed}


def test_without_out_pictures_go_to_the_base_directory(limner, workflow, base, tmp_path):
    assert limner("run", workflow).out == f"{base}/output/limner_00001.png\n"
    other = tmp_path / "elsewhere"
    assert limner("run", workflow, "--base-directory", other).code == 3  # it has no model tiny
    base.rename(other)
    assert limner("run", workflow, "--base-directory", other).out == f"{other}/output/limner_00001.png\n".replace(
        "_00001", "_00002"
    )


def test_a_second_run_executes_the_saving_only_in_another_process_too(limner, workflow, out):
    first = limner("run", workflow, "--out", out, "--json")
    assert first.done["cached"] == []
    second = limner("run", workflow, "--out", out, "--json")
    command = [sys.executable, "-m", "limner", "run", workflow, "--out", out, "--json"]
    third = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for objects in (second.objects, [json.loads(line) for line in third]):
        assert objects[-1]["executed"] == ["save"]
        assert set(objects[-1]["cached"]) == set(first.done["executed"]) - {"save"}
        assert "loaded" not in {o["event"] for o in objects}
    pixels = [pictures.load(path)[0] for path in sorted(out.glob("*.png"))]
    assert len(pixels) == 3
    assert all(p.equal(pixels[0]) for p in pixels)


def test_going_back_to_what_was_set_before_executes_the_saving_only(limner, workflow, out):
    for setting in ("prompt.value=a cat", "prompt.value=a frog"):
        assert limner("run", workflow, "--out", out, "--json", "--set", setting).done["executed"] != ["save"]
    back = limner("run", workflow, "--out", out, "--json", "--set", "prompt.value=a cat")
    assert back.done["executed"] == ["save"]


def test_another_seed_neither_loads_nor_runs_the_text_encoder(limner, workflow, out):
    limner("run", workflow, "--out", out)
    said = limner("run", workflow, "--out", out, "--json", "--seed", "77")
    assert "text_encoder" not in {o["kind"] for o in said.objects if o["event"] == "loaded"}
    assert {"encode", "nothing", "prompt"}.isdisjoint(said.done["executed"])
    assert {"sample", "decode", "save"} <= set(said.done["executed"])


def test_a_folder_that_is_new_gets_the_picture_though_all_above_it_is_cached(limner, workflow, tmp_path):
    limner("run", workflow, "--out", tmp_path / "one")
    said = limner("run", workflow, "--out", tmp_path / "two", "--json")
    assert said.done["executed"] == ["save"]
    assert (tmp_path / "two" / "limner_00001.png").is_file()


def test_force_runs_a_node_or_all_of_them_though_they_are_cached(limner, workflow, out):
    limner("run", workflow, "--out", out)
    one = limner("run", workflow, "--out", out, "--json", "--force=decode")
    assert {"decode", "save"} <= set(one.done["executed"])
    assert "sample" not in one.done["executed"]
    everything = limner("run", workflow, "--out", out, "--json", "--force")
    assert everything.done["cached"] == []


def test_no_cache_reads_and_writes_nothing_on_disk(limner, workflow, base, out):
    for _ in range(2):
        assert limner("run", workflow, "--out", out, "--json", "--no-cache").done["cached"] == []
    assert not (base / "cache" / "results").exists()
    limner("run", workflow, "--out", out)
    assert limner("run", workflow, "--out", out, "--json", "--no-cache").done["cached"] == []


def test_only_runs_what_is_asked_for(limner, workflow, out):
    said = limner("run", workflow, "--out", out, "--json", "--only", "schedule", "--only", "latent")
    assert (said.code, said.done["outputs"]) == (0, [])
    assert set(said.done["executed"]) == {"load", "schedule", "latent"}
    assert not out.exists()


def test_only_looks_at_nothing_else_be_it_ever_so_wrong(limner, out, tmp_path):
    nodes = tiny.text_to_image() | {"broken": {"class_type": "Nonsense", "inputs": {"x": ["nowhere", 3]}}}
    assert limner("run", tiny.write(tmp_path / "part.json", nodes), "--out", out, "--only", "save").code == 0


def test_a_dry_run_says_what_would_run_and_runs_nothing(limner, workflow, out):
    said = limner("run", workflow, "--out", out, "--dry-run", "--set", "sample.seed=1..2", "--json")
    assert [o["set"]["sample.seed"] for o in said.objects] == [1, 2]
    assert {row["verdict"] for row in said.objects[0]["nodes"]} == {"MISS", "RUN"}
    assert not out.exists()
    limner("run", workflow, "--out", out, "--set", "sample.seed=1")
    dry = ["run", workflow, "--dry-run", "--json", "--set", "sample.seed=1"]
    verdicts = {row["node"]: row["verdict"] for row in limner(*dry).objects[0]["nodes"]}
    assert (verdicts["decode"], verdicts["sample"], verdicts["save"]) == ("HIT", "SKIP", "RUN")
    forced = {row["node"]: row["reason"] for row in limner(*dry, "--force=decode").objects[0]["nodes"]}
    assert (forced["decode"], forced["save"]) == ("forced", "output node")
    uncached = {row["node"]: row["verdict"] for row in limner(*dry, "--no-cache").objects[0]["nodes"]}
    assert uncached["decode"] == "MISS"


def test_a_sweep_is_run_side_by_side_and_gives_what_each_gives_alone(limner, workflow, out, tmp_path):
    together = limner("run", workflow, "--out", out, "--seed", "1..3", "--json", "--no-cache").done["outputs"]
    for k, path in enumerate(together):
        (alone,) = limner("run", workflow, "--out", tmp_path / "alone", "--seed", k + 1, "--no-cache").out.split()
        difference = (pictures.load(Path(path))[0] - pictures.load(Path(alone))[0]).abs().max()
        assert difference <= 1 / 255 + 1e-6  # a rounding


def test_many_runs_go_on_in_lots_and_each_has_its_record(limner, workflow, out):
    paths = limner("run", workflow, "--out", out, "--seed", "1..11", "--quiet").out.split()
    assert len(paths) == 11
    assert sorted(record(path)["run"]["set"]["sample.seed"] for path in paths) == list(range(1, 12))


def test_one_run_that_fails_leaves_the_pictures_of_those_beside_it(limner, workflow, out):
    said = limner("run", workflow, "--out", out, "--set", "latent.width=32,36,40", "--json")
    assert said.code == 1
    assert said.done["error"]["node"] == "latent"
    assert len(said.done["outputs"]) == 2


@pytest.mark.parametrize(("budget", "unloaded"), [("1B", 2), ("0.2 MB", 2), ("800MB", 0), ("1.5 GiB", 0)])
def test_a_budget_of_memory_unloads_networks_and_changes_no_picture(budget, unloaded, limner, workflow, out):
    (free,) = limner("run", workflow, "--out", out).out.split()
    said = limner("run", workflow, "--out", out, "--no-cache", "--vram-budget", budget, "--json")
    assert len([o for o in said.objects if o["event"] == "unloaded"]) == unloaded
    (tight,) = said.done["outputs"]
    assert Path(tight).read_bytes() == Path(free).read_bytes()


def test_half_precision_is_another_result_not_the_cached_one(limner, workflow, out):
    limner("run", workflow, "--out", out)
    said = limner("run", workflow, "--out", out, "--dtype", "bfloat16", "--json")
    assert "sample" in said.done["executed"]
    assert record(said.done["outputs"][0])["run"]["environment"]["dtype"] == "bfloat16"


def test_a_prefix_that_names_a_folder_makes_one(limner, workflow, out):
    said = limner("run", workflow, "--out", out, "--set", "save.prefix=fruit/a red apple")
    assert said.out == f"{out}/fruit/a red apple_00001.png\n"
    assert (out / "fruit" / "a red apple_00001.run.json").is_file()


def test_a_prompt_that_is_too_long_is_warned_about(limner, workflow, out):
    said = limner("run", workflow, "--out", out, "--set", f"prompt.value={'red ' * 20}")
    assert "encode warning: the text is too long: its last 14 tokens are not read" in said.err


def test_a_name_without_a_file_is_that_of_a_workflow_that_comes_along(limner, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--set", "load.name=tiny", "--set", "schedule.steps=1"]
    assert limner("run", "text-to-image", *small).code == 0
    (tmp_path / "text-to-image").write_text("mine")
    assert limner("run", "text-to-image", *small).code == 3  # a file goes first


def test_a_name_that_is_nothing_is_answered_with_those_that_are(limner):
    said = limner("run", "text-to-imag")
    assert said.code == 3
    assert "there is no workflow 'text-to-imag'; those that come along are: " in said.err
    assert "did you mean 'text-to-image'?" in said.err
