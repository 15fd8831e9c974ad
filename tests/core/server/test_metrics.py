"""What is counted, as Prometheus reads it."""

from __future__ import annotations

import asyncio

import serving as tools
from described import ask
from limner.core.server.metrics import METRICS
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families
from serving import chain, entry


async def counted(client):
    """Every sample: name and labels, and its value."""
    text = (await ask(client, "GET", "/metrics")).body.decode()
    return {(s.name, *sorted(s.labels.values())): s.value for family in families(text) for s in family.samples}


def test_jobs_and_nodes_are_counted(serving):
    async def go():
        async with serving() as client:
            for prompt in (chain("a", "b"), chain("a", "b"), {"f": entry("Fail"), "s": entry("Show", source=["f", 0])}):
                await tools.ended(client, (await tools.submit(client, prompt))["prompt_id"])
            found = await counted(client)
            assert found["limner_jobs_total", "done"] == 2
            assert found["limner_jobs_total", "failed"] == 1
            assert found["limner_nodes_total", "executed"] == 5  # four, and the output node once more
            assert found["limner_nodes_total", "cached"] >= 1
            assert found["limner_node_seconds_count", "Join"] == 1
            assert found["limner_node_seconds_count", "Show"] == 2
            assert ("limner_node_seconds_count", "Fail") not in found
            assert found["limner_cache_bytes", "memory"] > 0
            assert found["limner_worker_alive",] == 1

    asyncio.run(go())


def test_the_queue_is_measured(serving):
    async def go():
        gate = tools.Gate()
        async with serving(nodes=gate.nodes()) as client:
            nodes = {"wait": entry("Wait"), "show": entry("Show", source=["wait", 0])}
            name = (await tools.submit(client, nodes))["prompt_id"]
            await gate.until_reached()
            await tools.submit(client, chain("a"))
            found = await counted(client)
            assert (found["limner_queue_jobs", "running"], found["limner_queue_jobs", "pending"]) == (1, 1)
            gate.released.set()
            await tools.ended(client, name)

    asyncio.run(go())


def test_requests_are_counted_by_route_not_by_what_people_make_up(serving):
    async def go():
        async with serving() as client:
            for path in ("/history/a", "/history/b", "/made/up/1", "/made/up/2"):
                async with client.get(path):
                    pass
            async with client.request("PROPFIND", "/history/a"):
                pass
            async with client.get("/prompt", headers={"Host": "evil.example"}) as refused:
                assert refused.status == 403
            found = await counted(client)
            requests = {key[1:]: value for key, value in found.items() if key[0] == "limner_http_requests_total"}
            assert requests[tuple(sorted(("GET", "/history/{prompt_id}", "200")))] == 2
            assert requests[tuple(sorted(("GET", "none", "404")))] == 2
            assert requests[tuple(sorted(("other", "none", "405")))] == 1
            assert requests[tuple(sorted(("GET", "/prompt", "403")))] == 1

    asyncio.run(go())


def test_openmetrics_is_spoken_to_who_asks_for_it(serving):
    async def go():
        async with serving() as client:
            headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
            async with client.get("/metrics", headers=headers) as found:
                assert found.headers["Content-Type"].startswith("application/openmetrics-text")
                assert "limner_queue_jobs" in {f.name for f in open_families(await found.text())}

    asyncio.run(go())


def test_two_servers_in_one_process_count_apart(serving, tmp_path):
    async def go():
        async with serving() as one, tools.serving(tmp_path / "other") as two:
            assert one.app[METRICS].registry is not two.app[METRICS].registry
            await tools.ended(one, (await tools.submit(one, chain("a")))["prompt_id"])
            assert (await counted(one))["limner_jobs_total", "done"] == 1
            assert ("limner_jobs_total", "done") not in await counted(two)

    asyncio.run(go())
