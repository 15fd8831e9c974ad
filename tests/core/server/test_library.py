"""Workflows kept on the server, over HTTP: seen before they are replaced, with their versions; and those shipped."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from described import ask
from hostile_paths import SENDABLE
from limner.core import workflow
from limner.core.host import WORKFLOWS
from PIL import Image
from serving import chain, entry

ROOT = "/limner/workflows"


async def put(client, path, nodes, status=None, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    found = await ask(client, "PUT", f"{ROOT}/{path}", json={"limner": 1, "graph": nodes}, headers=named)
    assert status is None or found.status == status, found.body
    return found


async def read(client, path):
    return await ask(client, "GET", f"{ROOT}/{path}")


def test_a_workflow_is_kept_and_read_again(serving, tmp_path):
    async def go():
        async with serving() as client:
            made = await put(client, "cats/red.json", chain("a"), 201)
            assert made.data["path"] == "cats/red.json"
            assert made.data["name"] == "red"
            found = await read(client, "cats/red.json")
            assert found.headers["ETag"] == made.headers["ETag"] == f'"{made.data["revision"]}"'
            assert found.data == {"limner": 1, "graph": chain("a")}
            assert (await ask(client, "GET", ROOT)).data == {"workflows": [made.data]}
            kept = tmp_path / "workflows" / "cats" / "red.json"
            assert kept.read_text("utf-8") == workflow.dumps(workflow.read(kept))  # as our files are written
            again = await ask(client, "GET", f"{ROOT}/cats/red.json", headers={"If-None-Match": made.headers["ETag"]})
            assert again.status == 304

    asyncio.run(go())


def test_every_form_of_a_workflow_can_be_kept(serving):
    async def go():
        async with serving() as client:
            for k, body in enumerate((chain("a"), {"prompt": chain("a")}, {"limner": 1, "graph": chain("a")})):
                found = await ask(client, "PUT", f"{ROOT}/{k}.json", json=body)
                assert found.status == 201
                assert (await read(client, f"{k}.json")).data["graph"] == chain("a")
            half = {
                "a": entry("NobodyKnows", x=["b", 0])
            }  # that a workflow cannot run yet does not keep it from being kept
            assert (await put(client, "half.json", half)).status == 201

    asyncio.run(go())


def test_of_two_who_change_one_file_the_second_is_told(serving):
    async def go():
        async with serving() as client:
            seen = (await put(client, "a.json", chain("a"))).headers["ETag"]
            first = await put(client, "a.json", chain("mine"), 200, If_Match=seen)
            second = await put(client, "a.json", chain("yours"), 412, If_Match=seen)
            assert second.data["error"]["current"] == first.data["revision"]
            assert second.headers["ETag"] == first.headers["ETag"]
            assert (await read(client, "a.json")).data["graph"] == chain("mine")
            await put(client, "a.json", chain("both"), 200, If_Match=first.headers["ETag"])

    asyncio.run(go())


def test_nothing_is_overwritten_unseen(serving):
    async def go():
        async with serving() as client:
            made = await put(client, "a.json", chain("a"))
            for found in (await put(client, "a.json", chain("b")), await ask(client, "DELETE", f"{ROOT}/a.json")):
                assert (found.status, found.data["error"]["code"]) == (428, "revision_needed")
                assert found.data["error"]["current"] == made.data["revision"]
            found = await put(client, "a.json", chain("b"), 412, If_None_Match="*")
            assert found.data["error"]["current"] == made.data["revision"]
            assert (await read(client, "a.json")).data["graph"] == chain("a")
            await put(client, "a.json", chain("b"), 200, If_Match="*")
            await put(client, "b.json", chain("b"), 412, If_Match="*")
            await put(client, "b.json", chain("b"), 201, If_None_Match="*")

    asyncio.run(go())


def test_who_did_not_hear_the_answer_may_ask_again(serving):
    async def go():
        async with serving() as client:
            seen = (await put(client, "a.json", chain("a"), 201, If_None_Match="*")).headers["ETag"]
            await put(client, "a.json", chain("a"), 200, If_None_Match="*")
            for _ in range(2):
                await put(client, "a.json", chain("b"), 200, If_Match=seen)
            assert len((await read(client, "a.json/versions")).data["versions"]) == 1

    asyncio.run(go())


@pytest.mark.parametrize("header", [{"If_Match": "unquoted"}, {"If_Match": '"a", "b"'}, {"If_None_Match": '"a"'}])
def test_a_revision_that_is_none_is_refused(serving, header):
    async def go():
        async with serving() as client:
            found = await put(client, "a.json", chain("a"), **header)
            assert (found.status, found.data["error"]["code"]) == (400, "bad_revision")

    asyncio.run(go())


def test_what_a_workflow_was_can_be_looked_at_and_put_back(serving):
    async def go():
        async with serving() as client:
            tag = (await put(client, "deep/er/a.json", chain("0"))).headers["ETag"]
            for k in range(1, 25):
                tag = (await put(client, "deep/er/a.json", chain(str(k)), 200, If_Match=tag)).headers["ETag"]
            found = (await read(client, "deep/er/a.json/versions")).data["versions"]
            assert [version["number"] for version in found] == [*range(24, 4, -1)]
            old = await read(client, "deep/er/a.json/versions/10")
            assert old.data["graph"] == chain("9")
            assert (await read(client, "deep/er/a.json/versions/3")).status == 404
            back = await ask(client, "PUT", f"{ROOT}/deep/er/a.json", data=old.body, headers={"If-Match": tag})
            assert f'"{back.data["revision"]}"' == old.headers["ETag"]
            assert (await read(client, "deep/er/a.json")).data["graph"] == chain("9")

    asyncio.run(go())


def test_a_workflow_that_was_deleted_can_be_had_again(serving):
    async def go():
        async with serving() as client:
            tag = (await put(client, "a.json", chain("a"))).headers["ETag"]
            assert (await ask(client, "DELETE", f"{ROOT}/a.json", headers={"If-Match": '"other"'})).status == 412
            assert (await ask(client, "DELETE", f"{ROOT}/a.json", headers={"If-Match": tag})).status == 204
            assert (await read(client, "a.json")).status == 404
            assert (await ask(client, "DELETE", f"{ROOT}/a.json", headers={"If-Match": tag})).status == 404
            (version,) = (await read(client, "a.json/versions")).data["versions"]
            old = await read(client, f"a.json/versions/{version['number']}")
            assert (await ask(client, "PUT", f"{ROOT}/a.json", data=old.body)).status == 201

    asyncio.run(go())


@pytest.mark.parametrize("body", [b"", b"no", b"[]", b'{"limner": 1}', b'{"a": {"class_type": 1}}', b'{"limner": 9}'])
def test_what_is_no_workflow_is_not_kept(serving, tmp_path, body):
    async def go():
        async with serving() as client:
            found = await ask(client, "PUT", f"{ROOT}/a.json", data=body)
            assert (found.status, found.data["error"]["code"]) == (400, "bad_workflow")
            assert not (tmp_path / "workflows").exists()

    asyncio.run(go())


def test_what_does_not_change_what_runs_is_kept_too(serving):
    async def go():
        async with serving() as client:
            whole = {
                "limner": 1,
                "graph": chain("a") | {"odd": {"class_type": "X", "inputs": {"big": 2**64 - 1}, "own": [1.5]}},
                "canvas": {"nodes": {"t0": [1, 2]}},
                "requires": {"packs": {}},
                "definitions": {"d": {"graph": {}, "name": "D"}},
                "about": "Ünïcode 猫.",
            }
            await ask(client, "PUT", f"{ROOT}/a.json", json=whole)
            assert (await read(client, "a.json")).data == whole

    asyncio.run(go())


@pytest.mark.parametrize("name", SENDABLE)
def test_no_name_leads_out_of_the_folder(serving, tmp_path, name):
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps(chain("a")))
    before = sorted(tmp_path.rglob("*.json"))

    async def go():
        from urllib.parse import quote

        async with serving() as client:
            for path in (quote(name, safe=""), f"{quote(name, safe='')}.json", quote(f"{name}/x.json", safe="")):
                for method, body in (("GET", None), ("PUT", chain("b")), ("DELETE", None)):
                    url = client.make_url("/").with_path(f"{ROOT}/{path}", encoded=True)
                    async with client.session.request(method, url, json=body, headers={"If-Match": "*"}) as found:
                        assert found.status in (400, 404, 412), (method, path, found.status)
                        assert str(tmp_path) not in await found.text()
                        await found.json()

    asyncio.run(go())
    assert sorted(p for p in tmp_path.rglob("*.json") if "user" not in p.parts) == before


# ------------------------------------------------------------------------------------------------------------- examples


def test_the_workflows_that_come_along_are_told_with_their_pictures(serving):
    async def go():
        async with serving() as client:
            found = (await ask(client, "GET", "/limner/examples")).data["examples"]
            assert [each["name"] for each in found] == sorted(path.stem for path in WORKFLOWS.glob("*.json"))
            for each in found:
                assert each["about"].endswith(".")
                document = await ask(client, "GET", f"/limner/examples/{each['name']}")
                assert len(document.data["graph"]) == each["nodes"]
                picture = await ask(client, "GET", each["picture"])
                assert max(Image.open(io.BytesIO(picture.body)).size) >= 256

    asyncio.run(go())


@pytest.mark.parametrize("path", ["nothing", "nothing/picture", "..%2Ftext-to-image", "text-to-imag"])
def test_an_example_that_there_is_not_is_not_there(serving, path):
    async def go():
        async with serving() as client:
            url = client.make_url("/").with_path(f"/limner/examples/{path}", encoded=True)
            async with client.session.get(url) as found:
                data = await found.json()
                assert (found.status, data["error"]["code"]) == (404, "not_found")
                assert ("text-to-image" in data["error"]["message"]) == ("text" in path)

    asyncio.run(go())
