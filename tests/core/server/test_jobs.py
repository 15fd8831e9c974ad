"""Jobs by their ids: run, listed, looked at, moved, stopped, and what they have drawn."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
import serving as tools
from described import ask
from limner.core.schema import Context, node
from limner.core.server import thumbnails
from limner.core.server.keys import OFFICE
from limner.core.values import Returned
from PIL import Image
from serving import chain, entry


@node("toys", namespace="", delivers=True)
def paint(context: Context, name: str = "a.png", colour: str = "red", place: str = "output") -> Returned:
    """Draws one colour, to the left of black."""
    picture = Image.new("RGB", (600, 300))
    picture.paste(Image.new("RGB", (300, 300), colour))
    folder = context.output if place == "output" else context.temp
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    sub, _, last = name.rpartition("/")
    return Returned((), {"images": [{"filename": last, "subfolder": sub, "type": place}]})


def waiting(text="x", **more):
    return {"wait": entry("Wait", text=text, **more), "show": entry("Show", source=["wait", 0])}


async def run(client, workflow, /, **said):
    found = await ask(client, "POST", "/limner/run", json={"workflow": workflow} | said)
    assert found.status == 202, found.body
    return found.data["id"]


async def job(client, name):
    return (await ask(client, "GET", f"/limner/jobs/{name}")).data


async def done(client, *names):
    """The jobs, when they have ended."""
    async with asyncio.timeout(tools.PATIENCE):
        for name in names:
            async with client.get("/limner/events", params={"job": name}) as found:
                await found.read()  # which ends with the job
    return [await job(client, name) for name in names]


# ----------------------------------------------------------------------------------------------------------------- run


def test_a_workflow_is_run_and_can_be_looked_at(serving):
    async def go():
        async with serving() as client:
            answer = await ask(client, "POST", "/limner/run", json=chain("a", "b"))
            assert answer.status == 202
            assert answer.headers["Location"] == answer.data["url"] == f"/limner/jobs/{answer.data['id']}"
            (found,) = await done(client, answer.data["id"])
            assert (found["state"], found["outputs"]) == ("done", {"show": {"text": ["ab"]}})
            assert sorted(found["executed"]) == ["j1", "show", "t0", "t1"]
            assert found["document"]["graph"] == chain("a", "b")
            assert found["attempt"] == 1
            assert found["seconds"] > 0

    asyncio.run(go())


def test_what_is_said_with_a_workflow_is_kept(serving):
    async def go():
        async with serving() as client:
            client.app[OFFICE].dispatcher.paused = True
            said = {"id": "mine/1 ü", "client": "me", "priority": 3, "extra": {"a": 1}, "targets": ["j1"]}
            await run(client, chain("a", "b"), **said)
            found = await job(client, "mine%2F1%20%C3%BC")
            assert {key: found[key] for key in said} == said
            assert found["url"] == "/limner/jobs/mine%2F1%20%C3%BC"

    asyncio.run(go())


def test_an_id_is_good_for_one_job(serving):
    async def go():
        async with serving() as client:
            client.app[OFFICE].dispatcher.paused = True
            await run(client, chain("a"), id="once")
            again = await ask(client, "POST", "/limner/run", json={"workflow": chain("b"), "id": "once"})
            assert again.status == 409
            assert again.data["error"]["job"]["state"] == "pending"
            client.app[OFFICE].dispatcher.paused = False
            await done(client, "once")
            again = await ask(client, "POST", "/limner/run", json={"workflow": chain("b"), "id": "once"})
            assert (again.status, again.data["error"]["job"]["state"]) == (409, "done")

    asyncio.run(go())


def test_a_workflow_that_cannot_run_is_refused_with_everything_that_is_wrong(serving):
    async def go():
        async with serving() as client:
            broken = {"p": entry("Pick", way="x", strength=9), "show": entry("Show", source=["p", 0])}
            found = await ask(client, "POST", "/limner/run", json=broken)
            assert found.status == 400
            assert found.data["error"]["code"] == "invalid_graph"
            assert {p["input"] for p in found.data["error"]["problems"]} == {"way", "strength"}
            assert "(and 1 more)" in found.data["error"]["message"]
            assert client.app[OFFICE].dispatcher.queue.page() == []
            nothing = await ask(client, "POST", "/limner/run", json={"t": entry("Text", text="a")})
            assert nothing.data["error"]["problems"][0]["code"] == "nothing_to_do"
            assert nothing.data["error"]["message"].endswith("add one, or name one in `targets`")

    asyncio.run(go())


def test_a_problem_that_the_targets_do_not_need_stops_nothing(serving):
    async def go():
        async with serving() as client:
            nodes = chain("a") | {"bad": entry("Pick", way="x"), "other": entry("Show", source=["bad", 0])}
            name = await run(client, nodes, targets=["show"])
            (found,) = await done(client, name)
            assert found["state"] == "done"

    asyncio.run(go())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"id": 7}, "'id' must be a text, not 7"),
        ({"priority": 1.5}, "'priority' must be a whole number"),
        ({"priority": True}, "'priority' must be a whole number"),
        ({"priority": 2**40}, "priority"),
        ({"front": "yes"}, "'front' must be true or false"),
        ({"extra": []}, "'extra' must be an object"),
        ({"targets": ["shwo"]}, "there is no node 'shwo'"),
        ({"prompt_id": "x"}, "'prompt_id'"),
        ({"id": "x" * 1001}, "1 to 1000 characters"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(serving, said, words):
    async def go():
        async with serving() as client:
            found = await ask(client, "POST", "/limner/run", json={"workflow": chain("a")} | said)
            assert found.status == 400
            assert words in found.data["error"]["message"]

    asyncio.run(go())


# ---------------------------------------------------------------------------------------------------------------- list


def test_jobs_are_listed_a_page_at_a_time_and_each_once(serving):
    async def go():
        async with serving() as client:
            client.app[OFFICE].dispatcher.paused = True
            names = [await run(client, chain(str(k)), client="ab"[k % 2]) for k in range(7)]
            seen, before = [], None
            while before != "null":
                query = f"?limit=3{f'&before={before}' if before else ''}"
                page = (await ask(client, "GET", f"/limner/jobs{query}")).data
                seen += [each["id"] for each in page["jobs"]]
                before = json.dumps(page["next"])
                if before != "null":
                    names.append(await run(client, chain("later")))  # moves no page
            assert seen == names[6::-1]
            mine = (await ask(client, "GET", "/limner/jobs?client=a")).data["jobs"]
            assert [each["id"] for each in mine] == names[6::-2]

    asyncio.run(go())


def test_jobs_that_wait_say_at_which_place(serving):
    async def go():
        async with serving() as client:
            client.app[OFFICE].dispatcher.paused = True
            first, second = await run(client, chain("a")), await run(client, chain("b"))
            front = await run(client, chain("c"), front=True)
            assert [(await job(client, name))["position"] for name in (front, first, second)] == [1, 2, 3]

    asyncio.run(go())


def test_jobs_of_some_states_can_be_asked_for(serving):
    async def go():
        async with serving() as client:
            good, bad = chain("a"), {"f": entry("Fail"), "show": entry("Show", source=["f", 0])}
            names = [await run(client, workflow) for workflow in (good, bad)]
            await done(client, *names)
            found = (await ask(client, "GET", "/limner/jobs?state=failed&state=cancelled")).data["jobs"]
            assert [each["id"] for each in found] == names[1:]
            assert found[0]["error"]["node"] == "f"
            assert "cannot do" in found[0]["error"]["message"]

    asyncio.run(go())


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=501", "before=-1", "before=1e9", "state=gone", "limit=²"]
)
def test_a_query_that_means_nothing_is_refused(serving, query):
    async def go():
        async with serving() as client:
            found = await ask(client, "GET", f"/limner/jobs?{query}")
            assert (found.status, found.data["error"]["code"]) == (400, "bad_query")

    asyncio.run(go())


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
def test_a_job_that_nobody_knows_is_not_there(serving, method):
    async def go():
        async with serving() as client:
            found = await ask(client, method, "/limner/jobs/unknown", json={"priority": 1})
            assert (found.status, found.data["error"]["code"]) == (404, "no_such_job")
            assert (await ask(client, "GET", "/limner/jobs/unknown/thumbnail")).status == 404

    asyncio.run(go())


# ------------------------------------------------------------------------------------------------------ while they run


def test_a_job_that_runs_says_how_far_it_is(serving):
    async def go():
        gate = tools.Gate()
        async with serving(nodes=gate.nodes()) as client:
            await done(client, await run(client, chain("a", "b")))
            nodes = chain("a", "b") | waiting(steps=5) | {"both": entry("Join", first=["j1", 0], second=["wait", 0])}
            name = await run(client, nodes | {"show": entry("Show", source=["both", 0])})
            async for event in client.app[OFFICE].dispatcher.events.follow(0, name):
                if event["event"] == "progress" and event["value"] == 5:
                    break
            found = await job(client, name)
            assert found["state"] == "running"
            assert found["progress"] == {"done": 3, "total": 6, "node": "wait", "value": 5, "max": 5}
            gate.released.set()
            (found,) = await done(client, name)
            assert (found["state"], found["progress"]) == ("done", None)

    asyncio.run(go())


def test_a_job_that_waits_is_cancelled_and_one_that_runs_is_stopped(serving):
    async def go():
        gate = tools.Gate()
        async with serving(nodes=gate.nodes()) as client:
            running, pending = await run(client, waiting()), await run(client, chain("a"))
            await gate.until_reached()
            found = await ask(client, "DELETE", f"/limner/jobs/{pending}")
            assert (found.status, found.data["state"]) == (200, "cancelled")
            assert (await ask(client, "DELETE", f"/limner/jobs/{running}")).status == 202
            (found,) = await done(client, running)
            assert found["state"] == "interrupted"
            again = await ask(client, "DELETE", f"/limner/jobs/{running}")
            assert (again.status, again.data["error"]["job"]["state"]) == (409, "interrupted")

    asyncio.run(go())


def test_the_queue_pauses_and_goes_on(serving):
    async def go():
        async with serving() as client:
            paused = await ask(client, "PATCH", "/limner/queue", json={"paused": True})
            assert paused.data == {"paused": True, "pending": 0, "running": 0}
            name = await run(client, chain("a"))
            assert (await ask(client, "GET", "/limner/queue")).data["pending"] == 1
            assert (await job(client, name))["state"] == "pending"
            for body in ({}, {"paused": 1}, {"paused": True, "x": 1}):
                assert (await ask(client, "PATCH", "/limner/queue", json=body)).status == 400
            await ask(client, "PATCH", "/limner/queue", json={"paused": False})
            (found,) = await done(client, name)
            assert found["state"] == "done"

    asyncio.run(go())


def test_jobs_are_moved(serving):
    async def go():
        async with serving() as client:
            client.app[OFFICE].dispatcher.paused = True
            first, second, third = [await run(client, chain(str(k))) for k in range(3)]
            found = await ask(client, "PATCH", f"/limner/jobs/{third}", json={"priority": 5})
            assert (found.data["priority"], found.data["position"]) == (5, 1)
            found = await ask(client, "PATCH", f"/limner/jobs/{second}", json={"before": first})
            assert found.data["position"] == 2
            assert [each.id for each in client.app[OFFICE].dispatcher.queue.pending()] == [third, second, first]

    asyncio.run(go())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"priority": 1, "before": "x"}, 400),
        ({"priority": "high"}, 400),
        ({"pririoty": 1}, 400),
        ({"before": "unknown"}, 404),
    ],
)
def test_a_move_that_means_nothing_is_refused(serving, body, status):
    async def go():
        async with serving() as client:
            client.app[OFFICE].dispatcher.paused = True
            name = await run(client, chain("a"))
            assert (await ask(client, "PATCH", f"/limner/jobs/{name}", json=body)).status == status

    asyncio.run(go())


def test_what_has_ended_is_not_moved(serving):
    async def go():
        async with serving() as client:
            name = await run(client, chain("a"))
            await done(client, name)
            found = await ask(client, "PATCH", f"/limner/jobs/{name}", json={"priority": 1})
            assert (found.status, found.data["error"]["job"]["state"]) == (409, "done")

    asyncio.run(go())


# ------------------------------------------------------------------------------------------------------------- pictures


def test_the_first_picture_of_a_job_is_there_small(serving, tmp_path):
    async def go():
        async with serving(nodes=[paint]) as client:
            both = {"b": entry("Paint", name="b.png", place="temp"), "a": entry("Paint", name="sub/a b.png")}
            name = await run(client, both)
            (found,) = await done(client, name)
            saved, temporary = found["pictures"]
            assert (saved["filename"], saved["type"], temporary["type"]) == ("a b.png", "output", "temp")
            async with client.get(saved["url"]) as whole:
                assert Image.open(io.BytesIO(await whole.read())).size == (600, 300)
            small = await ask(client, "GET", found["thumbnail"])
            opened = Image.open(io.BytesIO(small.body))
            assert (opened.format, opened.size) == ("WEBP", (256, 128))
            picture = opened.convert("RGB")
            red, black = picture.getpixel((30, 64)), picture.getpixel((220, 64))
            assert red[0] > 200
            assert max(*red[1:], *black) < 50
            again = await ask(client, "GET", found["thumbnail"], headers={"If-None-Match": small.headers["ETag"]})
            assert again.status == 304

    asyncio.run(go())


def test_a_thumbnail_is_made_once_until_its_picture_changes(serving, tmp_path, monkeypatch):
    made = []
    small = thumbnails.small
    monkeypatch.setattr(thumbnails, "small", lambda file, name: made.append(name) or small(file, name))

    async def go():
        async with serving(nodes=[paint]) as client:
            name = await run(client, {"p": entry("Paint")})
            (found,) = await done(client, name)
            first = await ask(client, "GET", found["thumbnail"])
            assert (await ask(client, "GET", found["thumbnail"])).body == first.body
            assert made == ["a.png"]
            Image.new("RGB", (20, 20), "blue").save(tmp_path / "output" / "a.png")
            assert (await ask(client, "GET", found["thumbnail"])).body != first.body
            (tmp_path / "output" / "a.png").unlink()
            assert (await ask(client, "GET", found["thumbnail"])).status == 404

    asyncio.run(go())


def test_only_so_many_thumbnails_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(thumbnails, "KEPT", 3)
    folder = tmp_path / "thumbnails"
    for k in range(5):
        Image.new("RGB", (9, 9)).save(tmp_path / f"{k}.png")
        with (tmp_path / f"{k}.png").open("rb") as file:
            thumbnails._kept(folder, file, f"{k}.png")
    assert len([*folder.glob("*")]) == 3


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "1", "I;16", "LA"])
def test_a_picture_of_any_kind_can_be_made_small(mode):
    buffer = io.BytesIO()
    Image.new(mode, (300, 30)).save(buffer, "PNG")
    buffer.seek(0)
    small = Image.open(io.BytesIO(thumbnails.small(buffer, "a")))
    assert small.size[0] == 256


def test_a_job_without_a_picture_says_so(serving):
    async def go():
        async with serving() as client:
            name = await run(client, chain("a"))
            (found,) = await done(client, name)
            assert (found["thumbnail"], found["pictures"]) == (None, [])
            missing = await ask(client, "GET", f"/limner/jobs/{name}/thumbnail")
            assert (missing.status, missing.data["error"]["code"]) == (404, "no_picture")

    asyncio.run(go())


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "a.png\x00"])
def test_what_a_node_says_it_has_drawn_leads_nowhere_else(serving, tmp_path, name):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")

    @node("toys", namespace="", delivers=True)
    def boast() -> Returned:
        """Says what is not so."""
        return Returned((), {"images": [{"filename": name, "subfolder": "", "type": "output"}]})

    async def go():
        async with serving(nodes=[boast]) as client:
            made = await run(client, {"b": entry("Boast")})
            (found,) = await done(client, made)
            assert (await ask(client, "GET", found["thumbnail"])).status == 404

    asyncio.run(go())
