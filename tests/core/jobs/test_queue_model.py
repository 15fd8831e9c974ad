"""The queue against a model of it in twenty lines: whatever is asked of it, in whatever order, over any restarts."""

import shutil
import tempfile
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from limner.core.errors import Conflict
from limner.core.jobs.job import ATTEMPTS, FINAL
from limner.core.jobs.queue import Queue


class Entry:
    """A job, as the model knows it."""

    def __init__(self, name, client, number, priority, sequence):
        self.name, self.client, self.number, self.priority = name, client, number, priority
        self.sequence, self.state, self.attempt, self.turn = sequence, "pending", 0, None


class Model:
    """Who is next is found by looking at everybody."""

    def __init__(self):
        self.jobs, self.turns, self.ticks, self.ended = {}, {}, count(1), []

    def next(self, jobs, turns):
        again = [job for job in jobs if job.turn is not None]
        if again:
            return min(again, key=lambda job: job.turn)
        highest = max(job.priority for job in jobs)
        jobs = [job for job in jobs if job.priority == highest]
        first = {}
        for job in sorted(jobs, key=lambda job: (job.number, job.sequence)):
            first.setdefault(job.client, job)
        return min(first.values(), key=lambda job: (turns.get(job.client, 0), job.number, job.client))

    def order(self):
        waiting, turns, ticks, found = self.waiting(), dict(self.turns), count(10**9), []
        while waiting:
            job = self.next(waiting, turns)
            waiting.remove(job)
            turns[job.client] = next(ticks)
            found.append(job.name)
        return found

    def waiting(self):
        return [job for job in self.jobs.values() if job.state == "pending"]

    def end(self, name, state):
        self.jobs[name].state = state
        self.ended.append(name)


class Machine(RuleBasedStateMachine):
    names = Bundle("names")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.queue = Queue(self.folder / "q.db")
        self.model = Model()
        self.sequences = count(1)

    def teardown(self):
        self.queue.close()
        shutil.rmtree(self.folder)

    @rule(
        target=names,
        name=st.integers(0, 8),
        client=st.sampled_from("abc"),
        number=st.none() | st.sampled_from([-3, 0, 2.5, 9]),
        front=st.booleans(),
        priority=st.integers(-1, 1),
    )
    def submit(self, name, client, number, front, priority):
        name = f"{name}"
        options = {"id": name, "client": client, "number": number, "front": front, "priority": priority}
        known = self.model.jobs.get(name)
        if known is not None and known.state not in FINAL:
            with pytest.raises(Conflict):
                self.queue.submit(prompt={}, targets=[], **options)
            return name
        job = self.queue.submit(prompt={}, targets=[], **options)
        sequence = next(self.sequences)
        assert job.sequence == sequence
        if known is not None:
            self.model.ended.remove(name)
            self.forget_turn(known)
        number = (-sequence if front else sequence) if number is None else number
        self.model.jobs[name] = Entry(name, client, number, priority, sequence)
        return name

    def forget_turn(self, entry):
        """A turn is remembered as long as its job is."""
        rest = [job.turn for job in self.model.jobs.values() if job.client == entry.client and job is not entry]
        self.model.turns[entry.client] = max((turn for turn in rest if turn is not None), default=0)

    @rule(most=st.integers(1, 3))
    def claim(self, most):
        expected = []
        for _ in range(most):
            waiting = self.model.waiting()
            if not waiting:
                break
            job = self.model.next(waiting, self.model.turns)
            alone = job.turn is not None
            job.state, job.attempt, job.turn = "running", job.attempt + 1, next(self.model.ticks)
            self.model.turns[job.client] = job.turn
            expected.append(job.name)
            if alone:
                break
        claimed = self.queue.claim(most)
        assert [job.id for job in claimed] == expected
        assert [job.attempt for job in claimed] == [self.model.jobs[name].attempt for name in expected]

    @rule(name=names, state=st.sampled_from(["done", "failed", "interrupted"]))
    def finish(self, name, state):
        if self.model.jobs[name].state != "running":
            with pytest.raises(Conflict):
                self.queue.finish(name, state)
            return
        self.queue.finish(name, state)
        self.model.end(name, state)

    @rule(name=names)
    def cancel(self, name):
        waits = self.model.jobs[name].state == "pending"
        assert (self.queue.cancel(name) is not None) == waits
        if waits:
            self.model.end(name, "cancelled")

    @rule()
    def clear(self):
        waiting = sorted(self.model.waiting(), key=lambda job: job.sequence)
        assert self.queue.clear() == len(waiting)
        for job in waiting:
            self.model.end(job.name, "cancelled")

    @rule(name=names, counted=st.booleans())
    def lose_its_worker(self, name, counted):
        if self.model.jobs[name].state != "running":
            with pytest.raises(Conflict):
                self.queue.requeue(name)
            return
        self.queue.requeue(name, counted=counted)
        self.cut_short(name, counted)

    def cut_short(self, name, counted=True):
        job = self.model.jobs[name]
        if counted and job.attempt >= ATTEMPTS:
            self.model.end(name, "quarantined")
        else:
            job.state = "pending"
            job.attempt -= not counted

    @rule(name=names, priority=st.integers(-2, 2))
    def prioritise(self, name, priority):
        job = self.model.jobs[name]
        if job.state != "pending":
            with pytest.raises(Conflict):
                self.queue.prioritise(name, priority=priority)
            return
        self.queue.prioritise(name, priority=priority)
        job.priority = priority

    @rule()
    def restart(self):
        running = sorted((j for j in self.model.jobs.values() if j.state == "running"), key=lambda job: job.turn)
        self.queue.close()
        self.queue = Queue(self.folder / "q.db")
        assert [job.id for job in self.queue.recover()] == [job.name for job in running]
        for job in running:
            self.cut_short(job.name)

    @invariant()
    def both_agree(self):
        assert [job.id for job in self.queue.pending()] == self.model.order()
        for job in self.model.jobs.values():
            found = self.queue.get(job.name)
            assert (found.state, found.attempt, found.client) == (job.state, job.attempt, job.client)
        begun = [name for name in self.model.ended if self.model.jobs[name].state != "cancelled"]
        assert [job.id for job in self.queue.history()] == begun
        assert sum(self.queue.counts().values()) == len(self.model.jobs)


TestQueue = Machine.TestCase
TestQueue.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)
TestQueue.pytestmark = [pytest.mark.long]
