"""Clients that other people have written for ComfyUI, unchanged, from a workflow to a picture."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

HERE = Path(__file__).parent


# ---------------------------------------------------------------------------------------------------------- comfy-cli


@pytest.fixture(scope="module")
def comfy(from_pypi):
    return from_pypi("comfy-cli==1.23.0") / "comfy"


@pytest.fixture
def says(comfy, run, server):
    """What a command of comfy-cli says of this server, as data."""

    def call(*command: object, code: int = 0):
        where = ["--host", "127.0.0.1", "--port", server.port]
        done = run(comfy, "--skip-prompt", "--json", *command, *where, code=code)
        return json.loads(done.stdout.splitlines()[-1])

    return call


@pytest.fixture
def comfy_run(says, file):
    """What `comfy run` says of the workflow."""
    return lambda code=0: says("run", "--workflow", file(), "--wait", "--timeout", 100, code=code)


def test_comfy_cli_runs_a_workflow_and_downloads_the_picture(comfy_run, comfy, run, tmp_path, is_our_picture):
    said = comfy_run()
    assert (said["ok"], said["data"]["status"]) == (True, "completed")
    assert {*said["data"]["executed_node_ids"], *said["data"]["cached_node_ids"]} >= {"3", "4", "5", "6", "7", "8", "9"}
    run(comfy, "--skip-prompt", "download", "--where", "local", "--out-dir", tmp_path, said["data"]["prompt_id"])
    (picture,) = tmp_path.glob("*.png")
    is_our_picture(picture.read_bytes())


def test_comfy_cli_hears_what_is_wrong_with_a_workflow(comfy_run, workflow):
    workflow["3"]["inputs"]["steps"] = 0
    said = comfy_run(code=1)
    assert said["ok"] is False
    assert "steps" in json.dumps(said["error"])


def test_comfy_cli_hears_which_node_has_failed_and_why(comfy_run, workflow):
    """A picture too small for a latent's cells, which only the node itself can see."""
    workflow["10"] = {
        "class_type": "EmptyImage",
        "inputs": {"width": 4, "height": 4, "batch_size": 1, "color": 0},
    }
    workflow["5"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    error = comfy_run(code=1)["error"]
    assert "at least 8 pixels wide" in error["message"]
    assert error["details"]["class_type"] == "VAEEncode"


def test_comfy_cli_cancels_a_job_that_runs(says, file, workflow):
    workflow["3"]["inputs"]["steps"] = 10000
    job = says("run", "--workflow", file())["data"]["prompt_id"]
    assert says("jobs", "cancel", job)["data"]["found"]
    error = says("jobs", "wait", job, "--timeout", 60, code=130)["error"]
    assert (error["code"], error["details"]["cancelled"]) == ("cancelled", 1)
    workflow["3"]["inputs"]["steps"] = 2
    assert says("run", "--workflow", file(), "--wait")["data"]["status"] == "completed"  # and the next one is not


# ---------------------------------------------------------------------------------------------- comfy-api-simplified


def test_comfy_api_simplified_draws_a_picture_sends_it_back_and_draws_on_in_it(
    from_pypi, run, server, file, workflow, tmp_path, is_our_picture
):
    python = from_pypi("comfy-api-simplified==1.6.0") / "python"
    first = file()
    workflow["10"] = {"class_type": "LoadImage", "inputs": {"image": ""}, "_meta": {"title": "LoadImage 10"}}
    workflow["5"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    workflow["5"]["_meta"] = {"title": "VAEEncode 5"}
    workflow["3"]["inputs"]["denoise"] = 0.5
    again = first.rename(tmp_path / "first.json"), file()
    told = json.loads(run(python, HERE / "simplified.py", f"{server.url}/", *again, tmp_path).stdout)
    drawn, on = sorted(tmp_path.glob("*.png"), key=lambda path: path.name.startswith("again-"))
    is_our_picture(drawn.read_bytes())
    is_our_picture(on.read_bytes())
    assert drawn.read_bytes() != on.read_bytes()
    assert told["sent"]["type"] == "input"
    assert (server.base / "input" / told["sent"]["subfolder"] / drawn.name).read_bytes() == drawn.read_bytes()
    assert told["queue"] == {"queue_running": [], "queue_pending": []}
    assert (told["nodes"], told["os"]) == (["KSampler"], os.name)


# ------------------------------------------------------------------------------------------------ @saintno/comfyui-sdk


@pytest.fixture
def sdk(from_npm, run, server, file, tmp_path):
    """What the script beside this file tells, and the picture that it got."""
    folder = from_npm("@saintno/comfyui-sdk@0.3.1")

    def call(seed: int):
        script, out = folder / "sdk.mjs", tmp_path / "out.png"
        script.write_text((HERE / "sdk.mjs").read_text("utf-8"), "utf-8")  # imports are looked up beside the script
        told = json.loads(run("node", script, server.url, file(), seed, out).stdout.splitlines()[-1])
        return told, out

    return call


def test_the_sdk_follows_a_workflow_to_its_picture(sdk, is_our_picture):
    told, picture = sdk(9)
    is_our_picture(picture.read_bytes())
    assert told["failed"] is None
    assert told["progress"][-1] == [2, 2]
    assert "limner-64" in told["checkpoints"]
    assert {"euler", "dpmpp_2m"} <= set(told["samplers"])
    assert told["os"] == os.name


def test_the_sdk_gets_a_picture_again_whose_latent_is_known(sdk, is_our_picture):
    sdk(10)
    told, picture = sdk(10)
    is_our_picture(picture.read_bytes())
    assert (told["failed"], told["progress"]) == (None, [])


def test_the_sdk_hears_that_a_workflow_is_refused(sdk, workflow):
    workflow["3"]["inputs"]["sampler_name"] = "eulr"
    told, _ = sdk(9)
    assert told["failed"]["message"] == "Failed to queue prompt"
    (error,) = told["failed"]["cause"]["node_errors"]["3"]["errors"]
    assert error["extra_info"]["input_name"] == "sampler_name"
