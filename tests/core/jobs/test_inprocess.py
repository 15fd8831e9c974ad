"""The thread that runs jobs in this process: started anew when it ends, and honest about what it cannot stop."""

import threading

import pytest
from job_office import Office, denoising, the_backend
from limner.core.jobs.inprocess import InProcess


@pytest.fixture
def office(opened, tmp_path):
    return opened(the_backend("thread", tmp_path, patience=0.05))


SHOW = {"1": ("Number", {}), "2": ("Show", {"value": ["1", 0]})}


def test_a_thread_that_ends_is_replaced_its_job_runs_again_and_health_tells(office, monkeypatch, caplog):
    """Nothing that a node raises does that: here it is a fault of our own."""
    bench = office.backend._bench
    work, seen = bench.work, []

    def fail(orders):
        seen.append(threading.current_thread())
        if len(seen) == 1:
            raise SystemExit("a fault of our own")
        return work(orders)

    monkeypatch.setattr(bench, "work", fail)

    async def scenario():
        name = office.submit(SHOW)
        job = await office.end(name)
        assert (job.state, job.attempt) == ("done", 2)
        assert "thread" in job.past[0]["reason"]
        assert seen[0] is not seen[1]
        (worker,) = office.backend.workers()
        assert (worker.alive, worker.restarts) == (True, 1)
        assert office.dispatcher.alive

    office.run(scenario())
    assert "a fault of our own" in caplog.text


def test_a_process_that_has_lost_its_device_runs_nothing_more_says_so_and_loses_no_job(office, tmp_path, caplog):
    async def scenario():
        name = office.submit({"1": ("Die", {"folder": str(tmp_path), "how": "device once"})})
        following = office.submit(SHOW)
        again = await office.seen("queued", name, attempt=1)
        assert again["reason"] == "its device has failed (CUDA error: device-side assert triggered)"
        assert not office.dispatcher.alive
        assert [job.id for job in office.queue.pending()] == [name, following]
        return name, following

    names = office.run(scenario())
    assert "until the server is restarted" in caplog.text

    async def after_the_restart():
        assert [(await office.end(name)).state for name in names] == ["done", "done"]

    office.run(office.close())
    office = Office(tmp_path, the_backend("thread", tmp_path), office.runner)
    office.run(office.dispatcher.start())
    office.run(after_the_restart())
    office.run(office.close())


def test_a_stop_that_comes_while_the_host_is_made_keeps_the_job_from_beginning(opened, tmp_path):
    made = threading.Event()
    host = the_backend("thread", tmp_path)._bench._make
    office = opened(InProcess(lambda: made.wait() and host()))

    async def scenario():
        name, following = office.submit(SHOW), office.submit(SHOW)
        await office.seen("started", name)
        assert await office.dispatcher.interrupt(name)
        made.set()
        job = await office.end(name)
        assert (job.state, job.executed, job.error["message"]) == ("interrupted", (), "stopped before it began")
        assert (await office.end(following)).state == "done"

    office.run(scenario())


def test_a_node_that_does_not_stop_is_told_of_while_all_else_goes_on(office, tmp_path, caplog):
    async def scenario():
        name = office.submit({"1": ("Stubborn", {"folder": str(tmp_path)})})
        await office.until((tmp_path / "begun").exists)
        await office.dispatcher.interrupt(name)
        warning = await office.seen("warning", name)
        assert warning["node"] == "1"
        assert "does not stop" in warning["text"]
        assert office.dispatcher.alive
        office.submit(SHOW)
        (tmp_path / "go").touch()
        await office.end(name)

    office.run(scenario())
    assert "does not stop" in caplog.text


def test_jobs_that_run_side_by_side_fail_alone(opened, tmp_path):
    office = opened(the_backend("thread", tmp_path), together=3, paused=True)

    async def scenario():
        names = [
            office.submit({"1": ("Walk", {"folder": str(tmp_path), "steps": 20})}),
            office.submit({"1": ("FailLate", {"kind": "GeneratorExit"})}),
            office.submit(SHOW),
        ]
        office.dispatcher.paused = False
        states = [(await office.end(name)).state for name in names]
        assert states == ["done", "failed", "done"]
        started = [event["seq"] for event in office.heard if event["event"] == "started"]
        ended = [event["seq"] for event in office.heard if event["event"] == "finished"]
        assert max(started) < min(ended)

    office.run(scenario())


def test_a_stop_of_one_of_several_leaves_the_others(opened, tmp_path):
    office = opened(the_backend("thread", tmp_path), together=2, paused=True)

    async def scenario():
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        names = [office.submit(denoising(tmp_path / k, hold=1)) for k in "ab"]
        office.dispatcher.paused = False
        await office.until(lambda: all((tmp_path / k / "calls").exists() for k in "ab"))
        await office.dispatcher.interrupt(names[0])
        assert (await office.end(names[0])).state == "interrupted"
        assert office.queue.get(names[1]).state == "running"
        (tmp_path / "b" / "go").touch()
        assert (await office.end(names[1])).state == "done"

    office.run(scenario())


def test_two_jobs_that_want_the_same_compute_it_once(opened, tmp_path):
    office = opened(the_backend("thread", tmp_path), together=2, paused=True)

    async def scenario():
        graph = {"1": ("Number", {"value": 77}), "2": ("Add", {"a": ["1", 0]}), "3": ("Show", {"value": ["2", 0]})}
        names = [office.submit(graph) for _ in range(2)]
        office.dispatcher.paused = False
        jobs = [await office.end(name) for name in names]
        assert [job.state for job in jobs] == ["done", "done"]
        assert sorted(len(job.executed) for job in jobs) == [1, 3]
        assert {*jobs[0].executed, *jobs[0].cached} == {*jobs[1].executed, *jobs[1].cached} == {"1", "2", "3"}

    office.run(scenario())


def test_ten_thousand_events_leave_the_loop_time_for_others(opened, tmp_path):
    import asyncio
    import time

    office = opened(the_backend("thread", tmp_path))

    async def scenario():
        graph = {"0": ("Number", {})} | {f"{k}": ("Add", {"a": [f"{k - 1}", 0], "b": k}) for k in range(1, 3000)}
        graph["show"] = ("Show", {"value": ["2999", 0]})
        name = office.submit(graph)
        longest, end = 0.0, asyncio.create_task(office.end(name))
        while not end.done():
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - before)
        assert (await end).state == "done"
        assert office.told(name).count("node_finished") == 3001
        assert longest < 1.0

    office.run(scenario())
