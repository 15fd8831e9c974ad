"""Users and settings."""

from __future__ import annotations

import asyncio
import json

import pytest


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_settings_are_kept_one_by_one_and_together(serving, tmp_path, prefix):
    async def check():
        async with serving() as client:
            assert await (await client.get(f"{prefix}/settings")).json() == {}
            assert await (await client.get(f"{prefix}/settings/Theirs.x")).json() is None
            for path, value in (("", {"a": 1, "b": [2]}), ("/Theirs.x", {"deep": True}), ("", {"a": 3})):
                answer = await client.post(f"{prefix}/settings{path}", data=json.dumps(value))
                assert (answer.status, await answer.read()) == (200, b"")
            assert await (await client.get(f"{prefix}/settings/Theirs.x")).json() == {"deep": True}
        async with serving() as client:  # another time
            told = await (await client.get(f"{prefix}/settings")).json()
            assert told == {"a": 3, "b": [2], "Theirs.x": {"deep": True}}

    asyncio.run(check())


def test_changes_at_the_same_time_are_all_kept(serving):
    async def check():
        async with serving() as client:
            await asyncio.gather(*(client.post(f"/settings/k{k}", json=k) for k in range(20)))
            assert await (await client.get("/settings")).json() == {f"k{k}": k for k in range(20)}

    asyncio.run(check())


def test_settings_that_are_damaged_count_as_none(serving, tmp_path):
    async def check():
        async with serving() as client:
            await client.post("/settings", json={"a": 1})
            (file,) = tmp_path.rglob("comfy.settings.json")
            for junk in (b"{", b"[]", b"\xff"):
                file.write_bytes(junk)
                assert await (await client.get("/settings")).json() == {}
            assert (await client.post("/settings", json=[1])).status == 400

    asyncio.run(check())


def test_there_is_one_user_and_names_are_kept_once(serving):
    async def check():
        async with serving() as client:
            assert await (await client.get("/users")).json() == {"storage": "server", "migrated": True}
            made = await (await client.post("/users", json={"username": "Ada L."})).json()
            assert made.startswith("Ada-L-_")
            for name in ("Ada L.", " Ada L. ", "default"):
                again = await client.post("/users", json={"username": name})
                assert (again.status, await again.json()) == (400, {"error": "Duplicate username."})
            for bad in (None, "", " ", 7, "x" * 101):
                assert (await client.post("/users", json={"username": bad})).status == 400

    asyncio.run(check())
