"""The application as a whole: every route of ComfyUI's that clients use is there, under both of its addresses."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.test_utils import make_mocked_request
from limner.core.server.keys import OFFICE
from serving import chain, ended, submit

BOTH = """
GET /ws
GET /embeddings
GET /models
GET /models/loras
GET /extensions
GET /extensions/pack/x.js
POST /upload/image
POST /upload/mask
GET /view
GET /view_metadata/loras
GET /system_stats
GET /features
GET /prompt
POST /prompt
GET /object_info
GET /object_info/KSampler
GET /history
GET /history/x
POST /history
GET /queue
POST /queue
POST /interrupt
POST /free
POST /jobs/x/cancel
GET /users
POST /users
GET /userdata
GET /v2/userdata
GET /userdata/x.json
POST /userdata/x.json
DELETE /userdata/x.json
POST /userdata/x.json/move/y.json
GET /settings
GET /settings/x
POST /settings
POST /settings/x
GET /experiment/models
GET /experiment/models/loras
GET /experiment/models/preview/loras/0/x.safetensors
GET /workflow_templates
GET /workflow_templates/pack/x.json
GET /i18n
"""
ONE = """
GET /
GET /internal/logs
GET /internal/logs/raw
PATCH /internal/logs/subscribe
GET /internal/folder_paths
GET /internal/files/output
GET /templates/index.json
GET /docs/x.md
GET /health
GET /metrics
GET /limner/jobs
GET /limner/events
"""


def rows(table):
    return [tuple(line.split()) for line in table.strip().splitlines()]


def test_every_route_is_there(serving):
    async def check():
        async with serving() as client:

            async def known(method, path):
                found = await client.app.router.resolve(make_mocked_request(method, path))
                return found.http_exception is None

            for method, path in rows(BOTH):
                assert await known(method, path), path
                assert await known(method, f"/api{path}"), f"/api{path}"
            for method, path in rows(ONE):
                assert await known(method, path), path
                assert not await known(method, f"/api{path}"), f"/api{path}"

    asyncio.run(check())


@pytest.mark.parametrize("path", ["/", "/history", "/queue", "/prompt", "/system_stats", "/object_info"])
def test_what_clients_ask_as_a_sign_of_life_answers(serving, path):
    async def check():
        async with serving() as client:
            assert (await client.get(path)).status == 200

    asyncio.run(check())


def test_jobs_that_waited_when_the_server_ended_run_when_it_is_back(serving):
    async def check():
        async with serving(paused=True) as client:
            await submit(client, chain("a"), prompt_id="x")
            assert await (await client.get("/history/x")).json() == {}
        async with serving() as client:
            assert (await ended(client, "x"))["outputs"] == {"show": {"text": ["a"]}}

    asyncio.run(check())


def test_an_error_of_ours_names_no_file_of_the_machine(serving, tmp_path, monkeypatch):
    async def check():
        async with serving() as client:
            queue = client.app[OFFICE].dispatcher.queue

            def refuse(**job):
                from limner.core.errors import StorageError

                raise StorageError(queue.path, "the disk is full")

            monkeypatch.setattr(queue, "submit", refuse)
            answer = await client.post("/prompt", json={"prompt": chain("a")})
            assert answer.status == 507
            text = await answer.text()
            assert "the disk is full" in text
            assert str(tmp_path) not in text

    asyncio.run(check())
