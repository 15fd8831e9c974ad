"""How the server is, and what became of other people's packs."""

from __future__ import annotations

import asyncio
import os

import serving as tools
from described import ask
from limner.core import folders
from limner.core.packs.loading import Packs, Report
from limner.core.server.health import _report, resident
from limner.core.server.keys import OFFICE
from serving import chain, entry


def test_a_server_that_is_well_says_so(serving):
    async def go():
        async with serving() as client:
            found = (await ask(client, "GET", "/health")).data
            assert found["status"] == "ok"
            assert found["queue"] == {"pending": 0, "running": 0}
            assert [worker["alive"] for worker in found["workers"]] == [True]
            assert found["versions"]["limner"]
            assert found["memory"]["process"] > 10e6

    asyncio.run(go())


def test_it_says_what_runs_and_what_waits(serving):
    async def go():
        gate = tools.Gate()
        async with serving(nodes=gate.nodes()) as client:
            nodes = {"wait": entry("Wait"), "show": entry("Show", source=["wait", 0])}
            name = (await tools.submit(client, nodes))["prompt_id"]
            await gate.until_reached()
            await tools.submit(client, chain("a"))
            found = (await ask(client, "GET", "/health")).data
            assert found["queue"] == {"pending": 1, "running": 1}
            assert found["workers"][0]["busy"] == [name]
            gate.released.set()
            await tools.ended(client, name)

    asyncio.run(go())


def test_a_server_on_which_no_job_can_run_is_not_well(serving):
    async def go():
        async with serving() as client:
            await client.app[OFFICE].dispatcher.close()
            found = await ask(client, "GET", "/health")
            assert (found.status, found.data["status"]) == (503, "dead")
            assert "limner_worker_alive 0.0" in (await ask(client, "GET", "/metrics")).body.decode()

    asyncio.run(go())


def test_it_counts_what_results_take(serving):
    async def go():
        async with serving() as client:
            before = (await ask(client, "GET", "/health")).data["memory"]["cache"]
            await tools.ended(client, (await tools.submit(client, chain("a", "b")))["prompt_id"])
            assert (await ask(client, "GET", "/health")).data["memory"]["cache"] > before

    asyncio.run(go())


def test_the_memory_of_the_process_is_known():
    assert (resident() or 0) > 10e6


def test_packs_are_told_with_the_reason_why_one_was_left_out(serving):
    reports = (
        Report("good", "/home/me/packs/good", digest="ab", nodes=("A", "B"), seconds=0.25, warnings=("C: no",)),
        Report(
            "bad", "/home/me/packs/bad", error="no module named 'x'", traceback="in /home/me/packs/bad/a.py, line 1"
        ),
    )

    async def go():
        async with serving() as client:
            object.__setattr__(client.app[OFFICE], "packs", Packs({}, reports=reports))
            good, bad = (await ask(client, "GET", "/limner/packs")).data["packs"]
            assert (good["loaded"], good["nodes"], good["error"], good["warnings"]) == (
                True,
                ["A", "B"],
                None,
                ["C: no"],
            )
            assert (bad["loaded"], bad["error"]) == (False, "no module named 'x'")
            assert bad["traceback"] == f"in bad{os.sep}a.py, line 1"

    asyncio.run(go())


def test_a_traceback_names_no_place_of_the_machine_but_the_pack(tmp_path):
    library = folders.__file__
    trace = f'File "{library}", line 3, in load\n  File "/srv/packs/p/__init__.py", line 1, in <module>\n'
    report = Report("p", "/srv/packs/p", error="it failed", traceback=trace)
    told = _report(report, folders.Folders.at(tmp_path))
    assert "/srv" not in told["traceback"]
    assert library not in told["traceback"]
    assert 'File "p/__init__.py", line 1' in told["traceback"]
