"""What packs bring along for an editor."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from limner.core.packs.loading import Packs


@pytest.fixture
def pack(tmp_path):
    root = tmp_path / "packs" / "my pack"
    texts = {
        "web/js/their.js": "export {}",
        "web/style.css": "x",
        "locales/en/main.json": {"nodeCategories": {"x": "X"}},
        "locales/en/nodeDefs.json": {"Theirs": {"display_name": "Theirs!"}},
        "locales/zh/commands.json": {"c": "命令"},
        "locales/zh/settings.json": "{ damaged",
        "example_workflows/first.json": {},
        "example_workflows/first.jpg": "",
        "secret.txt": "s",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text if isinstance(text, str) else json.dumps(text), "utf-8")
    other = tmp_path / "packs" / "other"
    (other / "locales" / "en").mkdir(parents=True)
    (other / "locales" / "en" / "nodeDefs.json").write_text('{"Theirs": {"display_name": "no"}, "Other": {}}')
    return Packs({}, scripts={"my pack": root / "web"}, folders={"my pack": root, "other": other})


def asked(serving, *paths, **settings):
    async def check():
        async with serving(**settings) as client:
            answers = [await client.get(path) for path in paths]
            return [(a.status, a.content_type, await a.read()) for a in answers]

    return asyncio.run(check())


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_scripts_of_packs_and_of_the_front_end_are_listed_and_served(serving, pack, tmp_path, prefix):
    front = tmp_path / "front"
    (front / "extensions" / "core").mkdir(parents=True)
    (front / "extensions" / "core" / "x.js").write_text("core")
    listed, theirs, core, gone = asked(
        serving,
        f"{prefix}/extensions",
        f"{prefix}/extensions/my%20pack/js/their.js",
        f"{prefix}/extensions/core/x.js",
        f"{prefix}/extensions/core/y.js",
        packs=pack,
        front_end=front,
    )
    assert json.loads(listed[2]) == ["/extensions/core/x.js", "/extensions/my%20pack/js/their.js"]
    assert theirs == (200, "text/javascript", b"export {}")
    assert core[0] == 200
    assert gone[0] == 404


@pytest.mark.parametrize(
    "name", ["..%2fsecret.txt", "%2e%2e/secret.txt", "..%5csecret.txt", "js%2f..%2f..%2fsecret.txt"]
)
def test_nothing_beside_a_packs_scripts_is_served(serving, pack, name):
    ((status, _, body),) = asked(serving, f"/extensions/my%20pack/{name}", packs=pack)
    assert status in (400, 404)
    assert body != b"s"


def test_translations_are_gathered_and_the_first_pack_wins(serving, pack):
    ((_, _, body),) = asked(serving, "/i18n", packs=pack)
    assert json.loads(body) == {
        "en": {
            "nodeCategories": {"x": "X"},
            "nodeDefs": {"Theirs": {"display_name": "Theirs!"}, "Other": {}},
        },
        "zh": {"commands": {"c": "命令"}},
    }


def test_example_workflows_are_listed_and_served(serving, pack):
    listed, file, none = asked(
        serving,
        "/workflow_templates",
        "/api/workflow_templates/my%20pack/first.json",
        "/workflow_templates/other/first.json",
        packs=pack,
    )
    assert json.loads(listed[2]) == {"my pack": ["first"]}
    assert file == (200, "application/json", b"{}")
    assert none[0] == 404


def test_a_front_end_brings_its_own_templates_and_help(serving, tmp_path):
    for name in ("templates/index.json", "docs/KSampler/en.md"):
        (tmp_path / "front" / name).parent.mkdir(parents=True)
        (tmp_path / "front" / name).write_text("[]")
    found = asked(
        serving, "/templates/index.json", "/docs/KSampler/en.md", "/docs/none.md", front_end=tmp_path / "front"
    )
    assert [status for status, _, _ in found] == [200, 200, 404]


def test_a_server_without_packs_has_none_of_it(serving):
    found = asked(serving, "/extensions", "/i18n", "/workflow_templates", "/templates/index.json", "/docs/x.md")
    assert [(status, body) for status, _, body in found[:3]] == [(200, b"[]"), (200, b"{}"), (200, b"{}")]
    assert [status for status, _, _ in found[3:]] == [404, 404]


def test_packs_routes_and_prompt_handlers_are_heard(serving, pack):
    from aiohttp import web
    from limner.core.packs.prompt_server import PromptServer
    from serving import chain, ended, heard, submit

    server = PromptServer()

    @server.routes.get("/their/route")
    async def route(request):
        server.send_sync("their-event", {"x": 1}, request.query.get("clientId"))
        return web.json_response({"theirs": True})

    server.routes.get("/their/route")(route)  # another pack, with the same idea

    server.add_on_prompt_handler(lambda body: body | {"prompt": chain("changed")})

    class House:
        """As far as a server sees of it."""

    house = House()
    house.server = server
    packs = replace(pack, house=house)

    async def check():
        async with serving(packs=packs) as client, client.ws_connect("/ws?clientId=me") as socket:
            for path in ("/their/route", "/api/their/route"):
                assert await (await client.get(f"{path}?clientId=me")).json() == {"theirs": True}
                assert (await heard(socket, "their-event"))[-1]["data"] == {"x": 1}
            answer = await submit(client, chain("posted"))
            assert (await ended(client, answer["prompt_id"]))["outputs"] == {"show": {"text": ["changed"]}}

    asyncio.run(check())
