"""`kill -9` of the whole server, over its own API: what was accepted runs, and what kills it is set aside."""

import signal

import pytest
from server_process import entry, picture, serving, until

pytestmark = pytest.mark.long
KINDS = pytest.mark.parametrize("words", [(), ("--workers", "1")], ids=["in process", "a worker"])


@KINDS
def test_after_a_kill_the_job_that_ran_is_tried_again_and_those_that_waited_run_in_their_order(tmp_path, words):
    (gate := tmp_path / "gate").mkdir()
    with serving(tmp_path, *words) as server:
        done = server.run(picture("earlier"))
        running = server.post({"1": entry("FaultyGate", folder=str(gate), steps=1, pause=0.01)})
        waiting = [server.post(picture("later")) for _ in range(3)]
        until((gate / "begun").exists)
        server.kill()
        server.begin()
        again = until(lambda: job if (job := server.job(running))["attempt"] == 2 else None)
        assert [(cut["attempt"], cut["state"]) for cut in again["past"]] == [(1, "interrupted")]
        (gate / "go").touch()
        jobs = [server.ended(name) for name in (running, *waiting)]
        assert [(job["state"], job["attempt"]) for job in jobs] == [("done", 2), *[("done", 1)] * 3]
        assert list(server.ask("/history")[1]) == [done["id"], running, *waiting]
        assert server.job(done["id"])["outputs"] == done["outputs"]
        assert len(list((tmp_path / "output").glob("later*"))) == 3
        server.well()


def test_a_job_that_takes_the_server_down_twice_is_set_aside_and_the_queue_goes_on(tmp_path):
    with serving(tmp_path) as server:
        poison, following = server.post({"1": entry("FaultyDie", folder=str(tmp_path))}), server.post(picture())
        assert server.process.wait(60) == -signal.SIGKILL
        server.kill()
        server.begin()
        assert server.process.wait(60) == -signal.SIGKILL
        server.kill()
        server.begin()
        job = server.ended(poison)
        assert (job["state"], job["attempt"], job["error"]["code"]) == ("quarantined", 2, "quarantined")
        assert server.ended(following)["state"] == "done"
        assert (tmp_path / "deaths").read_text() == "xx"
        server.well()


def test_a_job_that_takes_its_worker_down_twice_is_set_aside_and_the_server_never_stops(tmp_path):
    with serving(tmp_path, "--workers", "1") as server:
        poison, following = server.post({"1": entry("FaultyDie", folder=str(tmp_path))}), server.post(picture())
        assert server.ended(poison)["state"] == "quarantined"
        assert server.ended(following)["state"] == "done"
        assert (tmp_path / "deaths").read_text() == "xx"
        server.well()
