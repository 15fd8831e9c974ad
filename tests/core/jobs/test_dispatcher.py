"""The dispatcher: what it does when workers, disks and servers end at the wrong moment.  Its backend here is a toy."""

import asyncio

import pytest
from job_office import Office
from limner.core.errors import StorageError, WorkerLost
from limner.core.jobs import dispatcher as module
from limner.core.jobs.backend import Result, Worker


class Toy:
    """A backend whose jobs end when the test says so."""

    def __init__(self, workers=1):
        self.names = [f"worker-{k}" for k in range(1, workers + 1)]
        self.lots = {}  # worker -> (ids, future)
        self.begun = []  # every lot of ids
        self.interrupted = []
        self.down = set()
        self.closed = False

    async def start(self, emit):
        self.emit = emit

    async def run(self, jobs, worker):
        assert worker not in self.lots
        future = asyncio.get_running_loop().create_future()
        self.lots[worker] = ([job.id for job in jobs], future)
        self.begun.append([job.id for job in jobs])
        try:
            return await future
        finally:
            del self.lots[worker]

    def end(self, state="done", worker="worker-1", **more):
        ids, future = self.lots[worker]
        future.set_result([Result(name, state, **more) for name in ids])

    def lose(self, error, worker="worker-1"):
        self.lots[worker][1].set_exception(error)

    async def interrupt(self, job):
        self.interrupted.append(job)

    async def free(self, **what):
        pass

    def show_previews(self, wanted):
        pass

    def workers(self):
        return [
            Worker(name, "cpu", name not in self.down, tuple(self.lots.get(name, ((), None))[0])) for name in self.names
        ]

    async def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "RETRY", 0.01)
    monkeypatch.setattr(module, "GOODBYE", 0.1)


def submit(office, *names, **options):
    for name in names:
        office.dispatcher.submit(prompt={}, targets=[], id=name, **options)


async def begun(office, count):
    await office.until(lambda: len(office.backend.begun) == count)


def test_each_worker_gets_a_job_as_soon_as_it_is_free(opened):
    office = opened(Toy(workers=2))

    async def scenario():
        submit(office, *"abc")
        await begun(office, 2)
        assert office.backend.begun == [["a"], ["b"]]
        office.backend.end(worker="worker-2")
        await begun(office, 3)
        assert office.backend.begun[2] == ["c"]
        assert (await office.end("b")).state == "done"
        assert [job.id for job in office.queue.running()] == ["a", "c"]
        office.backend.end()
        office.backend.end(worker="worker-2")
        await office.end("a")

    office.run(scenario())


def test_several_jobs_run_side_by_side_in_the_order_of_turns(opened):
    office = opened(Toy(), together=3, paused=True)

    async def scenario():
        submit(office, "a1", "a2", "a3", client="a")
        submit(office, "b1", client="b")
        office.dispatcher.paused = False
        await begun(office, 1)
        assert office.backend.begun == [["a1", "b1", "a2"]]
        office.backend.end()
        await begun(office, 2)
        assert office.backend.begun[1] == ["a3"]
        office.backend.end()
        await office.end("a3")

    office.run(scenario())


def test_one_of_several_that_has_ended_is_told_at_once(opened):
    office = opened(Toy(), together=2, paused=True)

    async def scenario():
        submit(office, "quick", "slow")
        office.dispatcher.paused = False
        await begun(office, 1)
        result = Result("quick", "done", executed=("1",))
        office.backend.emit({"event": "ended", "job": "quick", "result": result.as_json()})
        assert office.queue.get("quick").state == "done"
        assert office.queue.get("slow").state == "running"
        assert not await office.dispatcher.interrupt("quick")
        office.backend.end()
        await office.end("slow")
        assert office.told("quick").count("finished") == 1

    office.run(scenario())


def test_a_worker_that_is_not_there_gets_nothing_until_it_says_that_it_is(opened):
    toy = Toy()
    toy.down.add("worker-1")
    office = opened(toy)

    async def scenario():
        submit(office, "a")
        await asyncio.sleep(0.02)
        assert toy.begun == []
        assert not office.dispatcher.alive
        toy.down.clear()
        toy.emit({"event": "worker"})
        await begun(office, 1)
        assert office.dispatcher.alive
        toy.end()
        await office.end("a")

    office.run(scenario())


def test_jobs_of_a_lost_worker_run_again_one_by_one(opened):
    office = opened(Toy(), together=3, paused=True)

    async def scenario():
        submit(office, "a", "b", "c")
        office.dispatcher.paused = False
        await begun(office, 1)
        office.backend.lose(WorkerLost("it fell over"))
        await begun(office, 2)
        assert office.backend.begun == [["a", "b", "c"], ["a"]]
        office.backend.lose(WorkerLost("it fell over"))
        job = await office.end("a")
        assert job.state == "quarantined"
        assert "it fell over" in job.error["message"]
        for name in "bc":
            await office.until(lambda: "worker-1" in office.backend.lots)
            assert office.backend.begun[-1] == [name]
            office.backend.end()
            assert (await office.end(name)).attempt == 2

    office.run(scenario())


def test_a_job_that_was_to_be_stopped_when_its_worker_was_lost_has_been(opened):
    office = opened(Toy(), together=2, paused=True)

    async def scenario():
        submit(office, "stuck", "beside")
        office.dispatcher.paused = False
        await begun(office, 1)
        assert await office.dispatcher.interrupt("stuck")
        assert office.backend.interrupted == ["stuck"]
        office.backend.lose(WorkerLost("its node did not stop"))
        job = await office.end("stuck")
        assert (job.state, job.error["message"]) == ("interrupted", "stopped: its node did not stop")
        assert [name for name, _ in job.messages] == ["execution_start", "execution_interrupted"]
        await begun(office, 2)
        assert office.queue.get("beside").attempt == 1
        office.backend.end()
        await office.end("beside")

    office.run(scenario())


def test_a_backend_that_forgets_a_job_or_fails_in_its_own_way_loses_none(opened, caplog):
    office = opened(Toy())

    async def scenario():
        submit(office, "a")
        await begun(office, 1)
        office.backend.lots["worker-1"][1].set_result([])
        await begun(office, 2)
        office.backend.lose(ZeroDivisionError())
        assert (await office.end("a")).state == "quarantined"
        submit(office, "b")
        await begun(office, 3)
        office.backend.end()
        assert (await office.end("b")).state == "done"

    office.run(scenario())
    assert "ZeroDivisionError" in caplog.text


def test_events_of_a_job_that_is_not_there_are_not_told(opened):
    office = opened(Toy())

    async def scenario():
        office.backend.emit({"event": "progress", "job": "ghost", "client": "", "node": "1"})
        office.backend.emit({"event": "model", "job": "", "client": "", "text": "loaded"})

    office.run(scenario())
    assert [event["event"] for event in office.heard] == ["queue", "model"]


def test_a_result_is_recorded_when_the_disk_has_room_again(opened, monkeypatch, caplog):
    office = opened(Toy())
    finish, refusals = office.queue.finish, []

    def refuse(*arguments, **named):
        if len(refusals) < 3:
            refusals.append(office.dispatcher.alive)
            raise StorageError("limner.db", "the disk is full")
        return finish(*arguments, **named)

    monkeypatch.setattr(office.queue, "finish", refuse)

    async def scenario():
        submit(office, "a")
        await begun(office, 1)
        office.backend.end(outputs={"1": {"text": ["kept"]}})
        job = await office.end("a")
        assert job.outputs == {"1": {"text": ["kept"]}}
        assert refusals == [True, False, False]
        await office.until(lambda: office.dispatcher.alive)

    office.run(scenario())
    assert "the disk is full" in caplog.text


def test_a_lane_that_ends_is_begun_anew_and_health_tells(opened, monkeypatch, caplog):
    office = opened(Toy())
    claim, alive = office.queue.claim, []

    def fail(most):
        if len(alive) < 3:
            alive.append(office.dispatcher.alive)
            raise RuntimeError("a fault of our own")
        return claim(most)

    monkeypatch.setattr(office.queue, "claim", fail)

    async def scenario():
        submit(office, "a")
        await begun(office, 1)
        assert alive == [True, False, False]
        assert office.dispatcher.alive
        office.backend.end()
        assert (await office.end("a")).state == "done"

    office.run(scenario())
    assert "a fault of our own" in caplog.text


def test_a_server_that_ends_well_runs_its_job_again_at_the_next_start_and_does_not_count_it(opened):
    office = opened(Toy())

    async def scenario():
        submit(office, "a", "b")
        await begun(office, 1)
        closing = asyncio.create_task(office.dispatcher.close())
        await office.until(lambda: office.backend.interrupted == ["a"])
        office.backend.end("interrupted")
        await closing
        assert office.backend.closed
        assert not office.dispatcher.alive
        assert [job.id for job in office.queue.pending()] == ["a", "b"]
        job = office.queue.get("a")
        assert (job.attempt, job.past[0]["reason"]) == (0, "the server was shut down")
        assert "finished" not in office.told("a")

    office.run(scenario())


def test_a_server_ends_though_a_job_does_not_stop(opened):
    office = opened(Toy())

    async def scenario():
        submit(office, "a")
        await begun(office, 1)
        await office.dispatcher.close()
        assert office.queue.get("a").state == "pending"

    office.run(scenario())


def test_a_job_whose_client_stopped_it_is_not_run_again_because_the_server_ends(opened):
    office = opened(Toy())

    async def scenario():
        submit(office, "a")
        await begun(office, 1)
        await office.dispatcher.interrupt("a")
        closing = asyncio.create_task(office.dispatcher.close())
        await office.until(lambda: len(office.backend.interrupted) == 2)
        office.backend.end("interrupted")
        await closing
        assert office.queue.get("a").state == "interrupted"

    office.run(scenario())


def test_after_a_kill_jobs_are_told_of_again_and_run_in_their_order(tmp_path, opened):
    from limner.core.jobs.queue import Queue

    queue = Queue(tmp_path / "limner.db")
    for name in ("poison", "cut", "next"):
        queue.submit(prompt={}, targets=[], id=name)
    queue.claim()
    queue.recover()
    queue.claim()
    with queue._changing() as db:
        db.execute("UPDATE jobs SET state = 'running', attempt = 1, begun = 99 WHERE id = 'cut'")
    queue.close()
    office = opened(Toy())

    async def scenario():
        assert office.queue.get("poison").state == "quarantined"
        assert office.told("poison") == ["finished"]
        again = await office.seen("queued", "cut")
        assert (again["attempt"], again["reason"]) == (1, "the server was ended while it ran")
        for name in ("cut", "next"):
            await office.until(lambda: "worker-1" in office.backend.lots)
            assert office.backend.begun[-1] == [name]
            office.backend.end()
            await office.end(name)

    office.run(scenario())


def test_two_dispatchers_are_never_on_one_queue(opened, tmp_path):
    from limner.core.errors import Busy

    opened(Toy())
    with pytest.raises(Busy):
        Office(tmp_path, Toy(), None)
