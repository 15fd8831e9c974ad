"""A clock that is set back and forth: order, ages and durations do not follow it."""

import asyncio
import time

import pytest
from serving import PATIENCE, chain, ended, serving, submit

HOUR, YEAR = 3600.0, 366 * 86400.0
REAL = time.time


@pytest.mark.parametrize("jumps", [(-HOUR, -HOUR), (YEAR, 0.0), (0.0, -YEAR), (YEAR, -HOUR)])
def test_jobs_run_and_are_told_in_their_order_and_nothing_takes_less_than_no_time(tmp_path, monkeypatch, jumps):
    async def scenario():
        async with serving(tmp_path) as client:
            names = []
            for k, jump in enumerate((0.0, *jumps, 0.0)):
                monkeypatch.setattr(time, "time", lambda jump=jump: REAL() + jump)
                names.append((await submit(client, chain(f"{k}", "x"), client_id="me"))["prompt_id"])
                await ended(client, names[-1])
            history = await (await client.get("/history")).json()
            assert list(history) == names
            page = await (await client.get("/limner/jobs")).json()
            assert [job["id"] for job in page["jobs"]] == names[::-1]
            assert all(0 <= job["seconds"] < PATIENCE for job in page["jobs"])
            health = await (await client.get("/health")).json()
            assert (health["status"], health["uptime"] >= 0) == ("ok", True)
            lines = (await (await client.get("/metrics")).text()).splitlines()
            sums = [float(line.split()[-1]) for line in lines if "_seconds_sum" in line]
            assert sums
            assert all(0 <= value < PATIENCE for value in sums)
            plan = await client.post("/limner/plan", json={"limner": 1, "graph": chain("0", "x")})
            assert plan.status == 200

    asyncio.run(scenario())


def test_jobs_that_wait_keep_their_order_over_a_jump_and_a_restart(tmp_path, monkeypatch):
    async def wait():
        async with serving(tmp_path, paused=True) as client:
            names = []
            for k, jump in enumerate((0.0, -HOUR, YEAR, -YEAR)):
                monkeypatch.setattr(time, "time", lambda jump=jump: REAL() + jump)
                names.append((await submit(client, chain(f"{k}")))["prompt_id"])
            return names

    async def work(names):
        async with serving(tmp_path) as client:
            for name in names:
                await ended(client, name)
            assert list(await (await client.get("/history")).json()) == names

    asyncio.run(work(asyncio.run(wait())))
