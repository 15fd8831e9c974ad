"""Hours in minutes: jobs of every kind and of several clients, stops, cancellations, and `kill -9` at any moment.

LIMNER_SOAK is how many seconds each of the two servers is driven, LIMNER_SOAK_SEED what is done to it.
"""

# ruff: noqa: T201 - what was done is said, so that it can be done again

from __future__ import annotations

import http.client
import os
import random
import statistics
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from server_process import ServerProcess, entry, serving, temporary, until

LENGTH = float(os.environ.get("LIMNER_SOAK", "90"))  # seconds
SEED = int(os.environ.get("LIMNER_SOAK_SEED", "1"))
KILL_EVERY = 15.0  # seconds, about
QUIET = 0.4  # the last part of the time, in which nobody kills it and its memory is watched
GROWTH = 24 << 20  # bytes by which its memory may grow in the second half of that
MOST_WAITING = 25
FINAL = {"done", "failed", "interrupted", "cancelled", "quarantined"}
GONE = OSError, http.client.HTTPException


@dataclass
class Soak:
    """What was accepted, and what has become of it."""

    server: ServerProcess
    chance: random.Random
    accepted: dict[str, str] = field(default_factory=dict)  # job: its kind
    placed: set[str] = field(default_factory=set)  # jobs that were put before others
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    kills: int = 0
    killing: threading.Timer | None = None
    memory: list[int] = field(default_factory=list)

    def run(self) -> None:
        """All of it."""
        began = time.monotonic()
        self._kill_later()
        while (at := time.monotonic() - began) < LENGTH:
            try:
                self._something()
                if not self.killing and at > LENGTH * (1 - QUIET):
                    self.memory.append(self.server.rss(workers=True))
            except GONE:
                self._restart()
            if self.killing and at > LENGTH * (1 - QUIET):
                self.killing.cancel()
                self.killing = None
            time.sleep(self.chance.uniform(0, 0.1))
        until(self._all_ended, 120)

    def _kill_later(self) -> None:
        process = self.server.process
        assert process is not None
        self.killing = threading.Timer(self.chance.uniform(0.5, 1.5) * KILL_EVERY, process.kill)
        self.killing.daemon = True
        self.killing.start()

    def _restart(self) -> None:
        process = self.server.process
        assert process is not None
        process.wait(10)  # else it hung up by itself
        assert process.returncode == -9, "".join(self.server.log[-50:])
        self.server.kill()
        self.kills += 1
        self.server.begin()
        if self.killing:
            self._kill_later()

    def _something(self) -> None:
        """One thing that a client does."""
        what = self.chance.choices(("submit", "interrupt", "cancel", "move", "look", "clear"), (70, 6, 8, 4, 12, 0.5))[
            0
        ]
        waiting = [name for name in self.accepted if name not in self.ended]
        if what == "submit" and len(waiting) < MOST_WAITING:
            self._submit()
        elif what == "clear":
            self.server.ask("/queue", {"clear": True})
        elif what == "interrupt" and waiting:
            assert self.server.ask("/interrupt", {"prompt_id": waiting[0]})[0] == 200
        elif what == "cancel" and waiting:
            status, answer = self.server.ask(f"/limner/jobs/{self.chance.choice(waiting)}", method="DELETE")
            assert status in (200, 202, 204, 409), (status, answer)
        elif what == "move" and waiting:
            name = self.chance.choice(waiting)
            self.placed.add(name)
            status, answer = self.server.ask(f"/limner/jobs/{name}", {"priority": 3}, "PATCH")
            assert status in (200, 409), (status, answer)
        else:
            self._look()

    def _submit(self) -> None:
        name = str(UUID(int=self.chance.getrandbits(128), version=4))
        kind = self.chance.choice(("good", "good", "picture", "failing", "slow", "late"))
        front = self.chance.random() < 0.05
        if front:
            self.placed.add(name)
        body = {
            "prompt": self._prompt(kind, name),
            "prompt_id": name,
            "client_id": self.chance.choice("abc"),
            "priority": self.chance.choice((0, 0, 0, 2)),
            "front": front,
        }
        while True:
            try:
                status, answer = self.server.ask("/prompt", body)
            except GONE:  # whether it was accepted is not known: who posts the same again gets the same job
                self._restart()
                continue
            assert (status, answer.get("prompt_id")) == (200, name), answer
            self.accepted[name] = kind
            return

    def _prompt(self, kind: str, name: str) -> dict[str, Any]:
        walk = {"folder": str(self.server.base / "left"), "name": name, "steps": 1, "pause": 0.01, "fails": False}
        match kind:
            case "picture":
                noise = entry("FaultyNoise", size=256, seed=self.chance.getrandbits(30))
                return {"1": noise, "2": entry("SaveImage", images=["1", 0], filename_prefix=f"soak-{name}")}
            case "failing":
                walk |= {"fails": True}
            case "slow":
                walk |= {"steps": self.chance.randint(20, 80), "pause": 0.02}
            case "late":
                walk |= {"steps": 1, "pause": 0.4}
        return {"1": entry("FaultyWalk", **walk)}

    def _look(self) -> None:
        """Note what has ended: once, and for ever."""
        page: str | None = "/limner/jobs?limit=100"
        while page is not None:
            status, found = self.server.ask(page)
            assert status == 200, found
            for job in found["jobs"]:
                before = self.ended.get(job["id"])
                if job["state"] in FINAL:
                    assert before is None or (before["state"], before["ended"]) == (job["state"], job["ended"])
                    self.ended[job["id"]] = job
                else:
                    assert before is None, f"{job['id']} had ended: {before}"
            last = found["jobs"][-1]["sequence"] if len(found["jobs"]) == 100 else 0
            known = all(job["id"] in self.ended for job in found["jobs"])
            page = f"/limner/jobs?limit=100&before={last}" if last and not known else None

    def _all_ended(self) -> bool:
        self._look()
        return self.accepted.keys() <= self.ended.keys()


@pytest.mark.long
@pytest.mark.timeout(LENGTH + 300)
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("words", [(), ("--workers", "1")], ids=["in process", "a worker"])
def test_whatever_happens_each_job_comes_to_one_end_and_nothing_is_left_about(tmp_path, words):
    print(f"LIMNER_SOAK_SEED={SEED} LIMNER_SOAK={LENGTH:g}")
    (left := tmp_path / "left").mkdir()
    with serving(tmp_path, "--cache-lru", 10, *words) as server:  # else results fill the memory that they may
        server.well()
        soak = Soak(server, random.Random(SEED))
        soak.run()
        full = {name: server.job(name) for name in list(soak.accepted)[-500:]}  # the last ones are remembered
        server.well()
        check_memory(soak.memory)
        assert server.end() == 143
    states = Counter(job["state"] for name, job in soak.ended.items() if name in soak.accepted)
    print(f"{len(soak.accepted)} jobs, {soak.kills} kills: {dict(states)}")
    assert sum(states.values()) == len(soak.accepted)
    assert soak.kills >= LENGTH * (1 - QUIET) // (2 * KILL_EVERY)
    check_files(soak, full, [path.name for path in left.iterdir()], "left")
    check_files(soak, full, [path.name for path in (tmp_path / "output").glob("soak-*")], "saved")
    check_order(soak)
    assert not temporary(tmp_path)


def check_files(soak: Soak, full: dict[str, dict[str, Any]], names: list[str], how: str) -> None:
    """Each job that is done has left what it leaves, once for each attempt at most, and no other has."""
    counts: Counter[str] = Counter()
    for name in names:
        counts[name.removeprefix("soak-")[:36]] += 1
    for name, job in full.items():
        makes = soak.accepted[name] != "failing" and (soak.accepted[name] == "picture") == (how == "saved")
        attempts = 1 + len(job["past"])
        if job["state"] == "done" and makes:
            assert 1 <= counts[name] <= attempts, (job, counts[name])
        elif not makes or job["attempt"] == 0:
            assert counts[name] == 0, job
        else:
            assert counts[name] <= attempts, job
        if job["state"] == "failed":
            assert soak.accepted[name] == "failing", job
        if job["state"] == "quarantined":
            assert job["attempt"] == 2, job


def check_order(soak: Soak) -> None:
    """Jobs of one client and priority, which nobody has moved, have begun in the order in which they were accepted."""
    lines: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for name, job in soak.ended.items():
        if name in soak.accepted and name not in soak.placed and job["started"] is not None:
            lines.setdefault((job["client"], job["priority"]), []).append(job)
    assert lines
    for jobs in lines.values():
        jobs.sort(key=lambda job: job["sequence"])
        assert all(one["started"] <= other["started"] for one, other in pairwise(jobs))


def check_memory(memory: list[int]) -> None:
    """No growth over the second half of the time in which nobody killed the server."""
    quarter = len(memory) // 4
    assert quarter, "it was watched"
    third, last = memory[2 * quarter : 3 * quarter], memory[3 * quarter :]
    print(
        f"memory: {memory[0] >> 20} MB, {statistics.median(third) / 2**20:.0f}, {statistics.median(last) / 2**20:.0f}"
    )
    assert statistics.median(last) - statistics.median(third) < GROWTH
