"""Devices that are not there, that are full, and that are lost while a job uses them."""

import pytest
from server_process import entry, picture, serving, until

pytestmark = pytest.mark.long

LOST = {"1": entry("FaultyRaise", kind="lost device")}


def test_a_worker_that_loses_its_device_is_replaced_and_its_job_tried_once_more(tmp_path):
    with serving(tmp_path, "--workers", "1") as server:
        server.well()
        name, following = server.post(LOST), server.post(picture())
        job = server.ended(name)
        assert (job["state"], job["attempt"]) == ("quarantined", 2)
        assert "CUDA error: device-side assert triggered" in job["error"]["message"]
        assert [(cut["attempt"], cut["state"]) for cut in job["past"]] == [(1, "interrupted"), (2, "interrupted")]
        assert server.ended(following)["state"] == "done"
        server.well()
        assert sum("was lost: its device has failed" in line for line in server.log) == 2


def test_a_server_that_loses_its_device_says_so_keeps_what_waits_and_goes_on_when_it_is_restarted(tmp_path):
    with serving(tmp_path) as server:
        name, following = server.post(LOST), server.post(picture())
        until(lambda: server.health()["status"] == "dead")
        assert server.ask("/health")[0] == 503
        assert [server.job(i)["state"] for i in (name, following)] == ["pending", "pending"]
        assert server.post(picture())
        server.end()
        assert any("until the server is restarted" in line for line in server.log)
        server.begin()
        job = server.ended(name)
        assert (job["state"], job["attempt"]) == ("quarantined", 2)
        until(lambda: server.health()["status"] == "dead")
        server.end()
        server.begin()
        assert server.ended(following)["state"] == "done"
        server.well()


def test_a_job_that_does_not_fit_fails_with_a_code_of_its_own_and_the_next_one_fits(tmp_path):
    with serving(tmp_path) as server:
        huge = {
            "1": entry("EmptyImage", width=8192, height=8192, batch_size=1, color=1),
            "2": entry("ImageScale", image=["1", 0]),
        }
        huge["2"]["inputs"] |= {"upscale_method": "nearest-exact", "width": 16384, "height": 16384, "crop": "disabled"}
        huge["3"] = entry("SaveImage", images=["2", 0], filename_prefix="huge")
        import resource

        server.well()
        limits = resource.prlimit(server.pid, resource.RLIMIT_AS)
        resource.prlimit(server.pid, resource.RLIMIT_AS, (8 << 30, limits[1]))
        job = server.run(huge)
        assert (job["state"], job["error"]["code"]) == ("failed", "out_of_memory"), job["error"]
        server.well()


def test_without_a_device_everything_runs_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with serving(tmp_path, "--device", "auto") as server:
        graph = {
            "0": entry("CheckpointLoaderSimple", ckpt_name="limner-64"),
            "1": entry("EmptyImage", width=64, height=64, batch_size=1, color=255),
            "2": entry("VAEEncode", pixels=["1", 0], vae=["0", 2]),
            "3": entry("VAEDecode", samples=["2", 0], vae=["0", 2]),
            "4": entry("SaveImage", images=["3", 0], filename_prefix="cpu"),
        }
        job = server.run(graph)
        assert job["state"] == "done", job["error"]
        assert server.health()["workers"][0]["device"] == "cpu"
        server.well()
        assert server.end() == 143
        assert "Traceback" not in "".join(server.log)


def test_a_device_that_is_asked_for_and_not_there_is_said_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with serving(tmp_path, "--device", "cuda") as server:
        graph = {
            "0": entry("CheckpointLoaderSimple", ckpt_name="limner-64"),
            "1": entry("EmptyImage", width=64, height=64, batch_size=1, color=255),
            "2": entry("VAEEncode", pixels=["1", 0], vae=["0", 2]),
            "3": entry("VAEDecode", samples=["2", 0], vae=["0", 2]),
            "4": entry("SaveImage", images=["3", 0], filename_prefix="cuda"),
        }
        job = server.run(graph)
        assert (job["state"], job["error"]["code"]) == ("failed", "no_device"), job["error"]
        assert "cuda" in job["error"]["message"].lower()
        assert server.health()["status"] == "ok"
