"""Prompts, the queue and the history, as ComfyUI's clients use them."""

from __future__ import annotations

import asyncio
import json

import pytest
from limner.core.server.keys import OFFICE
from serving import Gate, chain, ended, entry, submit


def test_a_prompt_runs_and_its_history_has_comfyuis_shape(serving):
    async def check():
        async with serving() as client:
            extra = {"extra_pnginfo": {"workflow": {"nodes": []}}}
            answer = await submit(client, chain("a", "b"), client_id="me", prompt_id="my id", extra_data=extra)
            assert answer == {"prompt_id": "my id", "number": 1, "node_errors": {}}
            found = await ended(client, "my id")
            graph, told = chain("a", "b"), extra | {"client_id": "me"}
            assert found["prompt"] == [1, "my id", graph, told, ["show"]]
            assert found["outputs"] == {"show": {"text": ["ab"]}}
            assert found["status"]["status_str"] == "success"
            assert found["status"]["completed"] is True
            messages = found["status"]["messages"]
            assert [kind for kind, _ in messages] == ["execution_start", "execution_cached", "execution_success"]
            assert all(data["prompt_id"] == "my id" and type(data["timestamp"]) is int for _, data in messages)
            assert found["meta"] == {
                "show": {"node_id": "show", "display_node": "show", "parent_node": None, "real_node_id": "show"}
            }
            whole = await (await client.get("/history")).json()
            assert whole == {"my id": found}

    asyncio.run(check())


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "", "application/json; charset=x"])
@pytest.mark.parametrize("path", ["/prompt", "/api/prompt"])
def test_a_body_is_json_whatever_its_type_is_called(serving, kind, path):
    async def check():
        async with serving() as client:
            body = json.dumps({"prompt": chain("a")}).encode()
            skip = [] if kind else ["Content-Type"]
            headers = {"Content-Type": kind} if kind else {}
            async with client.post(path, data=body, headers=headers, skip_auto_headers=skip) as answer:
                assert answer.status == 200

    asyncio.run(check())


def test_a_failed_job_says_so_in_its_history(serving):
    async def check():
        async with serving() as client:
            prompt = {"f": entry("Fail", text="x"), "show": entry("Show", source=["f", 0])}
            answer = await submit(client, prompt)
            status = (await ended(client, answer["prompt_id"]))["status"]
            assert (status["status_str"], status["completed"]) == ("error", False)
            kind, data = status["messages"][-1]
            assert kind == "execution_error"
            assert data["node_id"] == "f"
            assert data["node_type"] == "Fail"
            assert data["exception_type"] == "ValueError"
            assert data["exception_message"] == "cannot do 'x'"
            assert isinstance(data["traceback"], list)
            assert "/" not in json.dumps(data)

    asyncio.run(check())


def test_a_graph_that_cannot_run_is_refused_exactly_as_comfyui_does_it(serving):
    async def check():
        async with serving() as client:
            prompt = {"2": entry("Join", first="a"), "3": entry("Show", source=["2", 0])}
            answer = await client.post("/prompt", json={"prompt": prompt})
            assert answer.status == 400
            assert await answer.json() == {
                "error": {
                    "type": "prompt_outputs_failed_validation",
                    "message": "Prompt outputs failed validation",
                    "details": "",
                    "extra_info": {},
                },
                "node_errors": {
                    "2": {
                        "errors": [
                            {
                                "type": "required_input_missing",
                                "message": "Required input is missing",
                                "details": "second",
                                "extra_info": {"input_name": "second"},
                            }
                        ],
                        "dependent_outputs": ["3"],
                        "class_type": "Join",
                    }
                },
            }
            assert (await (await client.get("/prompt")).json()) == {"exec_info": {"queue_remaining": 0}}

    asyncio.run(check())


def test_a_partly_good_graph_runs_its_good_outputs_and_tells_of_the_others(serving):
    async def check():
        async with serving() as client:
            prompt = chain("a") | {"bad": entry("Join"), "worse": entry("Show", source=["bad", 0])}
            answer = await submit(client, prompt)
            assert list(answer["node_errors"]) == ["bad"]
            found = await ended(client, answer["prompt_id"])
            assert found["prompt"][4] == ["show"]
            assert list(found["outputs"]) == ["show"]

    asyncio.run(check())


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"prompt": {}, "prompt": {}}', "invalid_json"),
        (b'{"prompt": {}, "number": NaN}', "invalid_json"),
        (b'{"prompt": ' + b"[" * 100_000, "invalid_json"),
        (b"{}", "no_prompt"),
        (b'{"prompt": {"1": {"class_type": "None", "inputs": {}}}}', "invalid_prompt"),
        (b'{"prompt": {}}', "prompt_no_outputs"),
    ],
)
def test_what_is_no_prompt_is_a_json_error_with_a_type(serving, body, kind):
    async def check():
        async with serving() as client:
            answer = await client.post("/prompt", data=body)
            told = await answer.json()
            assert answer.status == 400
            assert told["error"]["type"] == kind
            assert told["error"]["message"]
            assert set(told["error"]) == {"type", "message", "details", "extra_info"}
            assert told["node_errors"] == {}

    asyncio.run(check())


def test_what_runs_and_what_waits_is_in_the_queue_and_only_the_latter_can_be_deleted(serving):
    gate = Gate()

    async def check():
        async with serving(nodes=gate.nodes()) as client:
            prompt = {"w": entry("Wait", text="x"), "show": entry("Show", source=["w", 0])}
            await submit(client, prompt, prompt_id="runs", client_id="me")
            await gate.until_reached()
            for name in ("b", "c", "d"):
                await submit(client, chain(name), prompt_id=name)
            await submit(client, chain("z"), prompt_id="z", front=True)
            queue = await (await client.get("/queue")).json()
            assert queue["queue_running"] == [[1, "runs", prompt, {"client_id": "me"}, ["show"]]]
            assert [row[1] for row in queue["queue_pending"]] == ["z", "b", "c", "d"]
            assert queue["queue_pending"][0][0] < 0
            assert (await (await client.get("/prompt")).json()) == {"exec_info": {"queue_remaining": 5}}
            assert await (await client.get("/history/runs")).json() == {}

            gone = await client.post("/queue", json={"delete": ["c", "runs", "none such"]})
            assert (gone.status, await gone.read()) == (200, b"")
            queue = await (await client.get("/queue")).json()
            assert [row[1] for row in queue["queue_pending"]] == ["z", "b", "d"]
            assert [row[1] for row in queue["queue_running"]] == ["runs"]
            await client.post("/queue", json={"clear": True})
            assert (await (await client.get("/queue")).json())["queue_pending"] == []
            gate.released.set()
            assert (await ended(client, "runs"))["status"]["completed"]
            assert list(await (await client.get("/history")).json()) == ["runs"]  # what never ran is no history

    asyncio.run(check())


def test_an_interrupt_stops_the_job_named_if_it_runs_and_no_other(serving):
    gate = Gate()

    async def check():
        async with serving(nodes=gate.nodes()) as client:
            await submit(client, {"w": entry("Wait"), "show": entry("Show", source=["w", 0])}, prompt_id="runs")
            await gate.until_reached()
            await submit(client, chain("b"), prompt_id="next")
            for other in ("next", "none such"):
                assert (await client.post("/interrupt", json={"prompt_id": other})).status == 200
            assert (await client.get("/history/runs")).status == 200
            assert [r[1] for r in (await (await client.get("/queue")).json())["queue_running"]] == ["runs"]
            assert (await client.post("/interrupt")).status == 200  # no body: whatever runs
            status = (await ended(client, "runs"))["status"]
            assert (status["status_str"], status["messages"][-1][0]) == ("error", "execution_interrupted")
            assert (await ended(client, "next"))["status"]["completed"]

    asyncio.run(check())


def test_a_job_is_cancelled_by_its_id_whether_it_runs_or_waits(serving):
    gate = Gate()

    async def check():
        async with serving(nodes=gate.nodes()) as client:
            await submit(client, {"w": entry("Wait"), "show": entry("Show", source=["w", 0])}, prompt_id="runs")
            await gate.until_reached()
            await submit(client, chain("b"), prompt_id="waits")
            for name, there in (("waits", True), ("waits", False), ("none such", False), ("runs", True)):
                answer = await client.post(f"/api/jobs/{name}/cancel")
                assert (answer.status, await answer.json()) == (200, {"cancelled": there}), name
            assert (await ended(client, "runs"))["status"]["messages"][-1][0] == "execution_interrupted"
            assert (await (await client.get("/queue")).json())["queue_pending"] == []

    asyncio.run(check())


def test_history_is_paged_and_can_be_forgotten(serving):
    async def check():
        async with serving() as client:
            names = [f"j{k}" for k in range(5)]
            for name in names:
                await submit(client, chain(name), prompt_id=name)
            await ended(client, "j4")

            async def listed(query):
                return list(await (await client.get(f"/history{query}")).json())

            assert await listed("") == names
            assert await listed("?max_items=2") == ["j3", "j4"]
            assert await listed("?max_items=2&offset=1") == ["j1", "j2"]
            assert await listed("?offset=3") == ["j3", "j4"]
            assert await listed("?max_items=x") == names
            await client.post("/history", json={"delete": ["j1", "none such"]})
            assert await listed("") == ["j0", "j2", "j3", "j4"]
            assert await (await client.get("/history/j1")).json() == {}
            await client.post("/history", json={"clear": True})
            assert await listed("") == []

    asyncio.run(check())


def test_an_id_may_be_used_again_when_its_job_has_ended(serving):
    async def check():
        async with serving() as client:
            await submit(client, chain("a"), prompt_id="x")
            await ended(client, "x")
            again = await submit(client, chain("b"), prompt_id="x")
            assert again["number"] == 2
            async with asyncio.timeout(20):
                while (await ended(client, "x"))["outputs"] != {"show": {"text": ["b"]}}:
                    await asyncio.sleep(0.01)

    asyncio.run(check())


def test_who_posts_the_same_again_gets_the_same_job_and_who_posts_another_a_conflict(serving):
    gate = Gate()

    async def check():
        async with serving(nodes=gate.nodes()) as client:
            prompt = {"w": entry("Wait"), "show": entry("Show", source=["w", 0])}
            first = await submit(client, prompt, prompt_id="x")
            assert await submit(client, prompt, prompt_id="x") == first
            other = await client.post("/prompt", json={"prompt": chain("a"), "prompt_id": "x"})
            assert (other.status, (await other.json())["error"]["type"]) == (409, "conflict")
            gate.released.set()
            await ended(client, "x")

    asyncio.run(check())


def test_node_ids_are_any_strings(serving):
    async def check():
        async with serving() as client:
            prompt = {"KSampler.0": entry("Text", text="ü"), "a b:1/2": entry("Show", source=["KSampler.0", 0])}
            answer = await submit(client, prompt)
            assert (await ended(client, answer["prompt_id"]))["outputs"] == {"a b:1/2": {"text": ["ü"]}}

    asyncio.run(check())


@pytest.mark.parametrize("number", ["7", True, "NaN", [1]])
def test_a_number_that_is_none_is_refused(serving, number):
    async def check():
        async with serving() as client:
            answer = await client.post("/prompt", json={"prompt": chain("a"), "number": number})
            assert answer.status == 400

    asyncio.run(check())


@pytest.mark.parametrize(
    ("body", "freed"),
    [
        ({"unload_models": True, "free_memory": False}, [{"models": True, "cache": False}]),
        ({"unload_models": False, "free_memory": True}, [{"models": True, "cache": True}]),
        ({"unload_models": True, "free_memory": True}, [{"models": True, "cache": True}]),
        ({}, []),
    ],
)
def test_memory_is_freed_as_asked(serving, body, freed, monkeypatch):
    async def check():
        async with serving() as client:
            told = []

            async def note(**what):
                told.append(what)

            monkeypatch.setattr(client.app[OFFICE].dispatcher, "free", note)
            answer = await client.post("/free", json=body)
            assert (answer.status, await answer.read()) == (200, b"")
            assert told == freed

    asyncio.run(check())


def test_after_memory_was_freed_everything_runs_again(serving):
    async def check():
        async with serving() as client:
            cached = {}
            for name in ("a", "b", "c"):
                if name == "c":
                    await client.post("/free", json={"free_memory": True})
                await submit(client, chain("x", "y"), prompt_id=name)
                messages = dict((await ended(client, name))["status"]["messages"])
                cached[name] = messages["execution_cached"]["nodes"]
            assert (cached["a"], cached["c"]) == ([], [])
            assert "j1" in cached["b"]

    asyncio.run(check())
