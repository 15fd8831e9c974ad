"""Workers in processes of their own: they can be killed, they die with their server, and the queue goes on."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from job_office import the_backend
from limner.core.jobs.subprocesses import Setup, Subprocesses

HERE = Path(__file__).parent


def pid_of(office):
    return office.backend._workers["worker-1"]._process.pid


def gone(pid):
    """Whether a process has ended; one whose parent has not looked yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def office(opened, tmp_path):
    office = opened(the_backend("processes", tmp_path, grace=0.3, patience=2.0))
    office.run(office.until(lambda: office.dispatcher.alive))
    return office


@pytest.mark.long
@pytest.mark.parametrize("toy", ["Stubborn", "Wedged"])
def test_a_node_that_ignores_its_stop_is_killed_and_the_queue_goes_on(office, tmp_path, toy):
    async def scenario():
        stuck = office.submit({"1": (toy, {"folder": str(tmp_path)})})
        following = office.submit({"1": ("Number", {}), "2": ("Show", {"value": ["1", 0]})})
        await office.until((tmp_path / "begun").exists)
        before = pid_of(office)
        await office.dispatcher.interrupt(stuck)
        job = await office.end(stuck)
        assert job.state == "interrupted"
        assert "did not stop within 0.3 s" in job.error["message"]
        assert job.messages[-1][0] == "execution_interrupted"
        assert gone(before)
        assert (await office.end(following)).state == "done"
        assert office.backend.workers()[0].restarts == 1
        assert not (tmp_path / "ended").exists()

    office.run(scenario())


@pytest.mark.long
def test_a_job_beside_one_that_is_killed_runs_again_and_is_not_to_blame(opened, tmp_path):
    office = opened(the_backend("processes", tmp_path, grace=0.3), together=2, paused=True)

    async def scenario():
        stuck = office.submit({"1": ("Stubborn", {"folder": str(tmp_path)})})
        beside = office.submit({"1": ("Number", {}), "2": ("Show", {"value": ["1", 0]})})
        office.dispatcher.paused = False
        await office.until((tmp_path / "begun").exists)
        await office.dispatcher.interrupt(stuck)
        assert (await office.end(stuck)).state == "interrupted"
        job = await office.end(beside)
        assert (job.state, job.attempt) == ("done", 1)
        assert len(job.past) in (0, 1)  # 0: it had ended before

    office.run(scenario())


@pytest.mark.long
def test_a_job_that_takes_its_worker_down_twice_is_quarantined_and_the_queue_goes_on(office, tmp_path):
    async def scenario():
        poison = office.submit({"1": ("Die", {"folder": str(tmp_path)})})
        following = office.submit({"1": ("Number", {}), "2": ("Show", {"value": ["1", 0]})})
        job = await office.end(poison)
        assert (job.state, job.attempt) == ("quarantined", 2)
        assert (tmp_path / "deaths").read_text() == "xx"
        assert "signal 9" in job.error["message"]
        assert [cut["attempt"] for cut in job.past] == [1, 2]
        assert office.told(poison).count("started") == 2
        assert (await office.end(following)).state == "done"

    office.run(scenario())


@pytest.mark.long
@pytest.mark.parametrize(("how", "ends"), [("device", ("quarantined", 2)), ("device once", ("done", 2))])
def test_a_job_whose_device_is_lost_runs_once_more_in_another_process(office, tmp_path, how, ends):
    """What a process asks of a device after that fails, whoever asks."""

    async def scenario():
        before = pid_of(office)
        name = office.submit({"1": ("Die", {"folder": str(tmp_path), "how": how})})
        following = office.submit({"1": ("Number", {}), "2": ("Show", {"value": ["1", 0]})})
        job = await office.end(name)
        assert (job.state, job.attempt) == ends
        cuts = [(cut["attempt"], cut["state"], cut["reason"]) for cut in job.past]
        reason = "its device has failed (CUDA error: device-side assert triggered)"
        assert cuts == [(k, "interrupted", reason) for k in range(1, 3 if ends[0] == "quarantined" else 2)]
        assert (job.error or {"message": reason})["message"].count(reason) == 1
        assert (await office.end(following)).state == "done"
        assert office.told(name).count("finished") == 1
        assert (tmp_path / "deaths").read_text() == "xx"
        assert gone(before)
        assert office.backend.workers()[0].restarts == len(cuts)

    office.run(scenario())


@pytest.mark.long
def test_a_worker_that_is_killed_from_outside_runs_its_job_again(office, tmp_path):
    async def scenario():
        name = office.submit({"1": ("Walk", {"folder": str(tmp_path), "hold": 1})})
        following = office.submit({"1": ("Number", {}), "2": ("Show", {"value": ["1", 0]})})
        await office.until((tmp_path / "begun").exists)
        os.kill(pid_of(office), signal.SIGKILL)
        again = await office.seen("queued", name, attempt=1)
        assert "signal 9" in again["reason"]
        (tmp_path / "go").touch()
        job = await office.end(name)
        assert (job.state, job.attempt) == ("done", 2)
        assert (await office.end(following)).state == "done"
        ends = [event["job"] for event in office.heard if event["event"] == "finished"]
        assert ends == [name, following]

    office.run(scenario())


@pytest.mark.long
def test_a_worker_that_gives_no_sign_of_life_is_killed(office, tmp_path):
    async def scenario():
        name = office.submit({"1": ("Walk", {"folder": str(tmp_path), "hold": 1})})
        await office.until((tmp_path / "begun").exists)
        os.kill(pid_of(office), signal.SIGSTOP)
        again = await office.seen("queued", name, attempt=1)
        assert "no sign of life" in again["reason"]
        (tmp_path / "go").touch()
        assert (await office.end(name)).state == "done"

    office.run(scenario())


@pytest.mark.long
def test_workers_work_side_by_side_and_each_job_runs_on_one(opened, tmp_path):
    setup = Setup("cpu", {"base": str(tmp_path)}, "job_toys:host")
    office = opened(Subprocesses([setup, setup]))

    async def scenario():
        names = []
        for k in range(2):
            (tmp_path / f"{k}").mkdir()
            names.append(office.submit({"1": ("Walk", {"folder": str(tmp_path / f"{k}"), "hold": 1})}))
        await office.until(lambda: all((tmp_path / f"{k}" / "begun").exists() for k in range(2)))  # both at once
        for k in range(2):
            (tmp_path / f"{k}" / "go").touch()
        assert {(await office.end(name)).state for name in names} == {"done"}
        workers = {event["worker"] for event in office.heard if event["event"] == "started"}
        assert workers == {"worker-1", "worker-2"}

    office.run(scenario())


@pytest.mark.long
@pytest.mark.parametrize("words", ["hello", {"a": [1]}])
def test_what_a_pack_says_in_a_worker_reaches_those_who_listen_and_is_not_kept(opened, tmp_path, words):
    office = opened(Subprocesses([Setup("cpu", {"base": str(tmp_path), "says": words}, "job_toys:host")]))

    async def scenario():
        await office.end(office.submit({"1": ("Show", {"value": 1})}))
        told = [e for e in office.heard if e["event"] == "said"]
        assert [(e["type"], e["data"], e["to"]) for e in told] == [("greeting", words, None)]
        assert [e for e in office.events.since(0) if e["event"] == "said"] == []

    office.run(scenario())


@pytest.mark.long
def test_a_host_that_cannot_be_had_fails_jobs_and_not_the_worker(opened, tmp_path):
    office = opened(Subprocesses([Setup("cpu", {"base": str(tmp_path), "broken": True}, "job_toys:host")]))

    async def scenario():
        for _ in range(2):
            job = await office.end(office.submit({"1": ("Number", {})}))
            assert (job.state, job.attempt) == ("failed", 1)
            assert "no host can be had" in job.error["message"]
        assert office.backend.workers()[0].restarts == 0

    office.run(scenario())


def test_a_worker_that_cannot_begin_takes_no_job_and_is_tried_again_ever_more_rarely(opened, tmp_path, monkeypatch):
    from limner.core.jobs import subprocesses

    monkeypatch.setattr(subprocesses, "MODULE", "limner.core.jobs.no_such_module")
    monkeypatch.setattr(subprocesses, "SHORTEST_PAUSE", 0.05)
    office = opened(the_backend("processes", tmp_path))

    async def scenario():
        name = office.submit({"1": ("Number", {})})
        await office.until(lambda: office.backend.workers()[0].restarts == 2)
        assert not office.dispatcher.alive
        job = office.queue.get(name)
        assert (job.state, job.attempt) == ("pending", 0)

    office.run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("toy", ["Walk", "Stubborn", "Wedged"])
@pytest.mark.long
def test_a_worker_ends_with_its_server_whatever_its_node_does(tmp_path, toy):
    """Else it would keep the device, and finish a job that runs again elsewhere."""
    code = f"""
    import asyncio, sys
    sys.path[:0] = {[str(place) for place in (HERE, HERE.parents[1] / "tools")]!r}
    from pathlib import Path
    from limner.core.jobs.job import Job
    from limner.core.jobs.subprocesses import Setup, Subprocesses

    async def main():
        backend = Subprocesses([Setup("cpu", {{"base": {str(tmp_path)!r}}}, "job_toys:host")])
        ready = asyncio.Event()
        await backend.start(lambda event: ready.set())
        await ready.wait()
        prompt = {{"1": {{"class_type": "toy.{toy}", "inputs": {{"folder": {str(tmp_path)!r}, "hold": 1}}}}}}
        if "{toy}" != "Walk":
            del prompt["1"]["inputs"]["hold"]
        ended = (0, 0, None, {{}}, {{}}, (), None, (), (), None)
        job = Job("a", 1, 1, 0, "", prompt, ("1",), {{}}, None, "running", 1, *ended)
        print(backend._workers["worker-1"]._process.pid, flush=True)
        await backend.run([job], "worker-1")

    asyncio.run(main())
    """

    async def until(condition):
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)

    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as server:
        try:
            worker = int(server.stdout.readline())
            asyncio.run(until((tmp_path / "begun").exists))
            assert not gone(worker)
        finally:
            server.kill()
    asyncio.run(until(lambda: gone(worker)))
    assert not (tmp_path / "ended").exists()


def test_closing_ends_the_processes(opened, tmp_path):
    backend = the_backend("processes", tmp_path)
    office = opened(backend)
    office.run(office.until(lambda: office.dispatcher.alive))
    pid = pid_of(office)
    office.run(backend.close())
    assert gone(pid)
    assert not backend.workers()[0].alive
