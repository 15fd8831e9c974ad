"""A server that is killed, for real: nothing that was accepted is lost, and what kills it is set aside."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SERVER = """
import asyncio, json, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import job_toys
from job_office import Office, the_backend

async def main(folder, jobs):
    office = Office(folder, the_backend(sys.argv[5], folder), None)
    office.events.listen(lambda event: print(json.dumps(event), flush=True))
    await office.dispatcher.start()
    for name, graph in jobs:
        office.submit(graph, id=name)
    await asyncio.to_thread(sys.stdin.read)
    await office.close()

asyncio.run(main(Path(sys.argv[3]), json.loads(sys.argv[4])))
"""
HERE = Path(__file__).parent
SHOW = {"1": ["Number", {}], "2": ["Show", {"value": ["1", 0]}]}


class Server:
    """A process with a dispatcher in it."""

    def __init__(self, folder, kind, jobs=()):
        tools = HERE.parents[1] / "tools"
        command = [sys.executable, "-c", SERVER, str(HERE), str(tools), str(folder), json.dumps(jobs), kind]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.heard = []

    def until(self, name, job):
        """Read events up to that one."""
        for line in self.process.stdout:
            self.heard.append(json.loads(line))
            if (self.heard[-1]["event"], self.heard[-1]["job"]) == (name, job):
                return self.heard[-1]
        raise AssertionError(f"the server has ended: {[e['event'] for e in self.heard]}")

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def close(self):
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0


def wait_for(path):
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def the_queue(folder):
    from limner.core.jobs.queue import Queue

    return Queue(folder / "limner.db")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["thread", "processes"])
def test_after_a_kill_the_job_that_ran_is_retried_once_and_those_that_waited_run_in_order(tmp_path, kind):
    running = {"1": ["Walk", {"folder": str(tmp_path), "hold": 1}]}
    jobs = [["done", SHOW], ["running", running], ["a", SHOW], ["b", SHOW], ["c", SHOW]]
    server = Server(tmp_path, kind, jobs)
    server.until("finished", "done")
    wait_for(tmp_path / "begun")
    server.kill()

    queue = the_queue(tmp_path)
    assert [job.id for job in queue.running()] == ["running"]
    assert [job.id for job in queue.pending()] == ["a", "b", "c"]
    done = queue.get("done")
    assert (done.state, done.outputs["2"]["images"][0]["filename"]) == ("done", "shown_1.txt")
    queue.close()

    server = Server(tmp_path, kind)
    again = server.until("queued", "running")
    assert again["attempt"] == 1
    (tmp_path / "go").touch()
    server.until("finished", "c")
    ends = [(event["job"], event["state"]) for event in server.heard if event["event"] == "finished"]
    assert ends == [("running", "done"), ("a", "done"), ("b", "done"), ("c", "done")]
    server.close()

    queue = the_queue(tmp_path)
    job = queue.get("running")
    assert (job.state, job.attempt) == ("done", 2)
    assert [(cut["attempt"], cut["state"]) for cut in job.past] == [(1, "interrupted")]
    assert queue.get("done") == done
    queue.close()


@pytest.mark.long
def test_a_job_that_kills_the_server_twice_is_quarantined_at_the_third_start(tmp_path):
    poison = {"1": ["Die", {"folder": str(tmp_path)}]}
    server = Server(tmp_path, "thread", [["poison", poison], ["next", SHOW]])
    assert server.process.wait(60) == -signal.SIGKILL
    server.kill()
    server = Server(tmp_path, "thread")
    assert server.process.wait(60) == -signal.SIGKILL
    server.kill()
    server = Server(tmp_path, "thread")
    assert server.until("finished", "poison")["state"] == "quarantined"
    assert server.until("finished", "next")["state"] == "done"
    server.close()
    assert (tmp_path / "deaths").read_text() == "xx"


@pytest.mark.long
def test_a_server_that_ends_in_good_order_runs_its_job_again_and_counts_nothing(tmp_path):
    server = Server(tmp_path, "thread", [["running", {"1": ["Walk", {"folder": str(tmp_path), "hold": 1}]}]])
    wait_for(tmp_path / "begun")
    server.close()
    queue = the_queue(tmp_path)
    job = queue.get("running")
    assert (job.state, job.attempt, job.past[0]["reason"]) == ("pending", 0, "the server was shut down")
    queue.close()
