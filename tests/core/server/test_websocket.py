"""What clients are told through their WebSockets: in ComfyUI's messages and order, each of its own jobs."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientError, WSCloseCode, WSMsgType
from limner.core.server import sockets, websocket
from limner.core.server.keys import HERALD, OFFICE, SOCKETS
from serving import PATIENCE, TOYS, Gate, chain, ended, entry, heard, submit

JPEG = b"\xff\xd8\xff\xe0 a picture"


def waiting(**inputs: Any) -> dict[str, Any]:
    return {"w": entry("Wait", **inputs), "show": entry("Show", source=["w", 0])}


def kinds(messages):
    return [m["type"] for m in messages]


def without_states(messages):
    return [m for m in messages if m["type"] != "progress_state"]


@pytest.mark.parametrize("path", ["/ws", "/api/ws"])
def test_the_first_message_is_the_status_with_the_clients_id(serving, path):
    async def check():
        async with serving() as client:
            async with client.ws_connect(f"{path}?clientId=me") as socket:
                assert await socket.receive_json() == {
                    "type": "status",
                    "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "me"},
                }
            async with client.ws_connect(path) as one, client.ws_connect(path) as other:
                ids = [(await s.receive_json())["data"]["sid"] for s in (one, other)]
                assert all(ids)
                assert ids[0] != ids[1]

    asyncio.run(check())


def test_a_fresh_run_is_told_in_comfyuis_order(serving):
    async def check():
        async with serving() as client, client.ws_connect("/ws?clientId=me") as socket:
            await heard(socket, "status")
            answer = await submit(client, chain("a"), client_id="me")
            found = await heard(socket)
            assert kinds(found) == [
                "status",
                "status",
                "execution_start",
                "execution_cached",
                *("progress_state", "executing", "progress_state"),
                *("progress_state", "executing", "executed", "progress_state"),
                "execution_success",
                "status",
                "executing",
            ]
            job = answer["prompt_id"]
            assert [m["data"]["status"]["exec_info"]["queue_remaining"] for m in found if m["type"] == "status"] == [
                1,
                1,
                0,
            ]
            assert not any("sid" in m["data"] for m in found)
            start, cached = found[2]["data"], found[3]["data"]
            assert (start["prompt_id"], set(start)) == (job, {"prompt_id", "timestamp"})
            assert (cached["nodes"], set(cached)) == ([], {"nodes", "prompt_id", "timestamp"})
            assert found[5]["data"] == {"node": "t0", "display_node": "t0", "prompt_id": job}
            executed = found[-5]["data"]
            assert executed == {
                "node": "show",
                "display_node": "show",
                "output": {"text": ["a"]},
                "prompt_id": job,
            }
            assert found[-1]["data"] == {"node": None, "prompt_id": job}
            state = found[-4]["data"]
            assert state["prompt_id"] == job
            assert list(state["nodes"]) == ["t0", "show"]
            assert state["nodes"]["show"] == {
                "value": 1,
                "max": 1,
                "state": "finished",
                "node_id": "show",
                "prompt_id": job,
                "display_node_id": "show",
                "parent_node_id": None,
                "real_node_id": "show",
            }

    asyncio.run(check())


def test_a_cached_run_is_told_in_comfyuis_order(serving):
    async def check():
        async with serving() as client, client.ws_connect("/ws?clientId=me") as socket:
            await submit(client, chain("a", "b"), client_id="me")
            await heard(socket)
            await submit(client, chain("a", "b"), client_id="me")
            found = await heard(socket)
            assert set(found[3]["data"]["nodes"]) == {
                "t0",
                "t1",
                "j1",
            }  # what shows runs: it has somebody to show it to
            assert kinds(without_states(found)) == [
                *("status", "status", "execution_start", "execution_cached"),
                *("executing", "executed", "execution_success", "status", "executing"),
            ]

    asyncio.run(check())


def test_a_wholly_cached_run_tells_what_its_output_nodes_show(serving):
    kept = replace(TOYS["Show"], name="Keep", cached=True)

    async def check():
        async with serving(nodes=[kept]) as client, client.ws_connect("/ws?clientId=me") as socket:
            prompt = {"t": entry("Text", text="a"), "k": entry("Keep", source=["t", 0])}
            await submit(client, prompt, client_id="me")
            await heard(socket)
            await submit(client, prompt, client_id="me")
            found = await heard(socket)
            assert kinds(found) == [
                *("status", "status", "execution_start", "execution_cached", "executed", "progress_state"),
                *("execution_success", "status", "executing"),
            ]
            assert set(found[3]["data"]["nodes"]) == {"t", "k"}
            assert found[4]["data"]["output"] == {"text": ["a"]}
            assert found[5]["data"]["nodes"]["k"]["state"] == "finished"

    asyncio.run(check())


def test_a_failure_is_told_with_its_node_and_ends_the_run(serving):
    async def check():
        async with serving() as client, client.ws_connect("/ws?clientId=me") as socket:
            prompt = {"f": entry("Fail", text="x"), "show": entry("Show", source=["f", 0])}
            answer = await submit(client, prompt, client_id="me")
            found = await heard(socket)
            assert kinds(without_states(found))[-4:] == ["executing", "execution_error", "status", "executing"]
            told = found[-3]["data"]
            assert set(told) == {
                *("prompt_id", "node_id", "node_type", "executed", "exception_message", "exception_type"),
                *("traceback", "current_inputs", "current_outputs", "timestamp"),
            }
            assert (told["node_id"], told["node_type"], told["exception_type"]) == ("f", "Fail", "ValueError")
            history = await ended(client, answer["prompt_id"])
            assert history["status"]["messages"][-1] == ["execution_error", told]

    asyncio.run(check())


def test_history_is_there_when_the_last_status_comes(serving):
    async def check():
        async with serving() as client, client.ws_connect("/ws?clientId=me") as socket:
            await heard(socket, "status")
            answer = await submit(client, chain("a"), client_id="me")
            while (await socket.receive_json())["data"].get("status") != {"exec_info": {"queue_remaining": 0}}:
                pass
            assert answer["prompt_id"] in await (await client.get(f"/history/{answer['prompt_id']}")).json()
            assert await (await client.get("/queue")).json() == {"queue_running": [], "queue_pending": []}

    asyncio.run(check())


def test_progress_is_told_and_its_whole_state_too(serving):
    gate = Gate()
    gate.released.set()

    async def check():
        async with serving(nodes=gate.nodes()) as client, client.ws_connect("/ws?clientId=me") as socket:
            answer = await submit(client, waiting(steps=3), client_id="me")
            found = await heard(socket)
            told = [m["data"] for m in found if m["type"] == "progress"]
            assert told[-1] == {"value": 3, "max": 3, "prompt_id": answer["prompt_id"], "node": "w"}
            k = found.index({"type": "progress", "data": told[-1]})
            assert found[k + 1]["type"] == "progress_state"
            assert found[k + 1]["data"]["nodes"]["w"] | {"prompt_id": ""} == {
                "value": 3,
                "max": 3,
                "state": "running",
                "node_id": "w",
                "prompt_id": "",
                "display_node_id": "w",
                "parent_node_id": None,
                "real_node_id": "w",
            }

    asyncio.run(check())


def test_nobody_hears_of_anothers_job_but_that_the_queue_has_changed(serving):
    gate = Gate()

    async def check():
        async with (
            serving(nodes=gate.nodes()) as client,
            client.ws_connect("/ws?clientId=a") as a,
            client.ws_connect("/ws?clientId=b") as b,
        ):
            await submit(client, waiting(steps=3), client_id="a")
            await gate.until_reached()
            await submit(client, chain("none"), prompt_id="nobody's")  # without a client_id
            gate.released.set()
            await ended(client, "nobody's")
            await submit(client, chain("b"), client_id="b")
            of_a, of_b = await heard(a), await heard(b)
            assert {m["data"].get("prompt_id") for m in of_b} - {None} == {of_b[-1]["data"]["prompt_id"]}
            assert "progress" in kinds(of_a)
            assert "progress" not in kinds(of_b)
            assert kinds(of_b)[:6] == ["status"] * 6

    asyncio.run(check())


def test_an_interrupt_is_told_to_all_unless_the_job_is_nobodys(serving):
    async def check():
        gate = Gate()
        async with (
            serving(nodes=gate.nodes()) as client,
            client.ws_connect("/ws?clientId=a") as a,
            client.ws_connect("/ws?clientId=b") as b,
        ):
            for owner in ("a", ""):
                gate.reached.clear()
                await submit(client, waiting(), prompt_id=f"of {owner}", client_id=owner)
                await gate.until_reached()
                await client.post("/interrupt", json={"prompt_id": f"of {owner}"})
                await ended(client, f"of {owner}")
            await submit(client, chain("end"), client_id="b", prompt_id="end")
            (told,) = [m for m in await heard(b) if m["type"] == "execution_interrupted"]
            assert (told["data"]["prompt_id"], told["data"]["node_id"]) == ("of a", "w")
            assert set(told["data"]) == {"prompt_id", "node_id", "node_type", "executed", "timestamp"}
            assert told in await heard(a)

    asyncio.run(check())


def test_who_comes_back_is_told_what_runs_and_then_what_comes(serving):
    gate = Gate()

    async def check():
        async with serving(nodes=gate.nodes()) as client:
            async with client.ws_connect("/ws?clientId=me"):
                await submit(client, waiting(steps=2), client_id="me")
                await gate.until_reached()
            async with client.ws_connect("/ws?clientId=me") as again, client.ws_connect("/ws?clientId=you") as other:
                async with asyncio.timeout(PATIENCE):
                    first = [await again.receive_json() for _ in range(3)]
                assert kinds(first) == ["status", "executing", "progress_state"]
                assert first[1]["data"] == {"node": "w"}
                assert first[2]["data"]["nodes"]["w"]["state"] == "running"
                gate.released.set()
                found = await heard(again)
                assert kinds(without_states([m for m in found if m["type"] != "progress"])) == [
                    *("executing", "executed", "execution_success", "status", "executing")
                ]
                assert set(kinds(await heard(other, "status"))) == {"status"}  # its own, with its id
                await submit(client, chain("b"), client_id="you", prompt_id="yours")
                told = await heard(other)
                assert {m["data"].get("prompt_id", "yours") for m in told} == {"yours"}
                assert {m["data"].get("node") for m in told} <= {None, "t0", "show"}

    asyncio.run(check())


def test_a_client_that_comes_twice_is_told_through_its_newest_socket_only(serving):
    async def check():
        async with (
            serving() as client,
            client.ws_connect("/ws?clientId=me") as older,
            client.ws_connect("/ws?clientId=me") as newer,
        ):
            await submit(client, chain("a"), client_id="me")
            assert "executed" in kinds(await heard(newer))
            await older.close()
            await submit(client, chain("b"), client_id="me")
            assert "executed" in kinds(await heard(newer))  # the older one's end did not take it along

    asyncio.run(check())


def preview(client, job, **more):
    event = {"event": "preview", "job": job, "client": "me", "node": "w", "display": "w", "parent": "", "jpeg": JPEG}
    client.app[OFFICE].dispatcher.events.say(event | more)


@pytest.mark.parametrize(
    ("method", "flags", "kind"),
    [
        ("none", None, None),
        ("none", {}, None),
        ("none", {"supports_preview_metadata": False}, None),
        ("none", {"supports_preview_metadata": True}, 4),
        ("auto", None, 1),
        ("auto", {"supports_preview_metadata": False}, 1),
        ("auto", {"supports_preview_metadata": True}, 4),
    ],
)
def test_pictures_are_sent_only_to_who_wants_them_and_in_the_form_that_he_knows(serving, method, flags, kind):
    gate = Gate()

    async def check():
        async with (
            serving(nodes=gate.nodes(), preview_method=method) as client,
            client.ws_connect("/ws?clientId=me") as socket,
        ):
            if flags is not None:
                await socket.send_json({"type": "feature_flags", "data": flags})
                told = (await heard(socket, "feature_flags"))[-1]["data"]
                assert told == {"supports_preview_metadata": True, "max_upload_size": 100 << 20}
            await submit(client, waiting(), client_id="me", prompt_id="x")
            await gate.until_reached()
            assert client.app[OFFICE].dispatcher.events.previews == (kind is not None)
            preview(client, "x")
            gate.released.set()
            pictures = [m["data"] for m in await heard(socket) if m["type"] == "binary"]
            if kind is None:
                assert pictures == []
            elif kind == 1:
                assert pictures == [struct.pack(">II", 1, 1) + JPEG]
            else:
                (picture,) = pictures
                event, length = struct.unpack(">II", picture[:8])
                assert (event, picture[8 + length :]) == (4, JPEG)
                assert json.loads(picture[8 : 8 + length]) == {
                    "node_id": "w",
                    "prompt_id": "x",
                    "display_node_id": "w",
                    "parent_node_id": None,
                    "real_node_id": "w",
                    "image_type": "image/jpeg",
                }
            await socket.close()
            async with asyncio.timeout(PATIENCE):
                while client.app[OFFICE].dispatcher.events.previews:
                    await asyncio.sleep(0.01)

    asyncio.run(check())


def test_a_picture_that_a_node_sends_on_purpose_arrives_as_it_is(serving):
    gate = Gate()

    async def check():
        async with serving(nodes=gate.nodes()) as client, client.ws_connect("/ws?clientId=me") as socket:
            await submit(client, waiting(), client_id="me", prompt_id="x")
            await gate.until_reached()
            preview(client, "x", png=b"\x89PNG")
            gate.released.set()
            pictures = [m["data"] for m in await heard(socket) if m["type"] == "binary"]
            assert pictures == [struct.pack(">II", 1, 2) + b"\x89PNG"]

    asyncio.run(check())


def test_texts_of_nodes_are_sent_to_who_has_said_what_he_understands(serving):
    gate = Gate()

    async def check():
        async with serving(nodes=gate.nodes()) as client, client.ws_connect("/ws?clientId=me") as socket:
            await submit(client, waiting(), client_id="me", prompt_id="x")
            await gate.until_reached()
            events = client.app[OFFICE].dispatcher.events
            said = {"event": "text", "job": "x", "client": "me", "node": "w.1", "text": "half done ✓"}
            events.say(dict(said))
            await socket.send_json({"type": "feature_flags", "data": {}})
            found = await heard(socket, "feature_flags")
            assert "binary" not in kinds(found)
            events.say(dict(said))
            gate.released.set()
            (told,) = [m["data"] for m in await heard(socket) if m["type"] == "binary"]
            assert told == struct.pack(">II", 3, 3) + b"w.1" + "half done ✓".encode()

    asyncio.run(check())


def test_a_text_that_a_pack_sends_by_itself_goes_to_those_who_have_said_what_they_understand(serving):
    async def check():
        async with serving() as client, client.ws_connect("/ws?clientId=me") as socket:
            push = client.app[OFFICE].dispatcher.push
            push(3, b"\0\0\0\x017half", None)
            push("marker", {}, "me")
            assert "binary" not in kinds(await heard(socket, "marker"))
            await socket.send_json({"type": "feature_flags", "data": {}})
            await heard(socket, "feature_flags")
            push(3, b"\0\0\0\x017done", None)
            push(3, b"\0\0\0\x017for another", "you")
            push("marker", {}, "me")
            told = [m["data"] for m in await heard(socket, "marker") if m["type"] == "binary"]
            assert told == [struct.pack(">II", 3, 1) + b"7done"]

    asyncio.run(check())


def test_a_blocked_node_is_told_as_an_error_and_the_run_goes_on(serving):
    gate = Gate()

    async def check():
        async with serving(nodes=gate.nodes()) as client, client.ws_connect("/ws?clientId=me") as socket:
            await submit(client, waiting(), client_id="me", prompt_id="x")
            await gate.until_reached()
            said = {"event": "refused", "job": "x", "client": "me", "node": "show", "message": "not today"}
            client.app[OFFICE].dispatcher.events.say(said)
            gate.released.set()
            found = await heard(socket)
            (told,) = [m["data"] for m in found if m["type"] == "execution_error"]
            assert (told["exception_type"], told["exception_message"]) == ("ExecutionBlocked", "not today")
            assert "execution_success" in kinds(found)

    asyncio.run(check())


def test_the_state_of_a_large_graph_is_told_five_times_a_second_and_in_the_end(serving):
    async def check():
        async with serving() as client, client.ws_connect("/ws?clientId=me") as socket:
            await submit(client, chain(*(f"w{k}" for k in range(150))), client_id="me")
            loop = asyncio.get_running_loop()
            began = loop.time()
            found = await heard(socket)
            states = [m["data"]["nodes"] for m in found if m["type"] == "progress_state"]
            assert len(states) < 60 + (loop.time() - began) * 6  # the first twenty nodes' are told at once
            assert len(states[-1]) == 300
            assert {node["state"] for node in states[-1].values()} == {"finished"}
            assert kinds(found).count("executing") == 301

    asyncio.run(check())


def test_a_client_that_does_not_read_delays_nobody(serving, monkeypatch):
    monkeypatch.setattr(sockets, "ROOM", 1 << 20)

    async def check():
        async with (
            serving() as client,
            client.ws_connect("/ws?clientId=stalled") as stalled,
            client.ws_connect("/ws?clientId=me") as socket,
        ):
            await heard(socket, "status")
            held = client.app[SOCKETS].of("stalled")
            herald = client.app[HERALD]
            for k in range(40):
                herald.send("large", "x" * (256 << 10), "stalled")
                await submit(client, chain(f"{k}"), client_id="me")
                found = await heard(socket)
                assert found[-1]["data"]["node"] is None
            async with asyncio.timeout(PATIENCE):
                while client.app[SOCKETS].of("stalled") is held:  # it was cut off
                    await asyncio.sleep(0.01)
            assert not stalled.closed or stalled.close_code

    asyncio.run(check())


@pytest.mark.parametrize("sort", ["text", "json", "ping", "binary"])
def test_a_flood_ends_its_own_socket_alone(serving, sort, monkeypatch):
    monkeypatch.setattr(websocket, "MOST", (50, 60.0))

    async def check():
        async with (
            serving() as client,
            client.ws_connect("/ws?clientId=flood", autoping=False) as flood,
            client.ws_connect("/ws?clientId=me") as socket,
        ):
            send = {
                "text": lambda: flood.send_str("junk {"),
                "json": lambda: flood.send_json({"type": "feature_flags", "data": {}}),
                "ping": lambda: flood.ping(b"x"),
                "binary": lambda: flood.send_bytes(b"\0" * 100),
            }[sort]
            for _ in range(51):
                await send()
            async with asyncio.timeout(PATIENCE):
                while (await flood.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING):
                    pass
            assert flood.close_code == WSCloseCode.POLICY_VIOLATION
            await submit(client, chain("a"), client_id="me")
            assert "executed" in kinds(await heard(socket))

    asyncio.run(check())


def test_what_is_too_large_or_no_json_is_not_taken(serving):
    async def check():
        async with serving() as client, client.ws_connect("/ws?clientId=me") as socket:
            for junk in ("", "[", "[]", "7", '{"type": 5}', '{"type": "feature_flags", "data": []}', "[" * 100_000):
                await socket.send_str(junk)
            await submit(client, chain("a"), client_id="me")
            assert "executed" in kinds(await heard(socket))
            with suppress(ConnectionError, ClientError):  # it need not be taken to its end
                await socket.send_bytes(b"x" * ((4 << 20) + 1))
            async with asyncio.timeout(PATIENCE):
                while client.app[SOCKETS].of("me"):
                    await asyncio.sleep(0.01)

    asyncio.run(check())


def test_packs_can_send_messages_to_one_or_all_from_any_thread(serving):
    async def check():
        async with (
            serving() as client,
            client.ws_connect("/ws?clientId=a") as a,
            client.ws_connect("/ws?clientId=b") as b,
        ):
            await asyncio.gather(heard(a, "status"), heard(b, "status"))
            herald = client.app[HERALD]
            herald.send("their-event", {"x": 1}, None)
            herald.send("their-event", {"y": 2}, "b")
            herald.send(1, b"\0\0\0\2PNG", "b")
            assert await a.receive_json() == {"type": "their-event", "data": {"x": 1}}
            assert await b.receive_json() == {"type": "their-event", "data": {"x": 1}}
            assert await b.receive_json() == {"type": "their-event", "data": {"y": 2}}
            assert (await b.receive()).data == struct.pack(">II", 1, 2) + b"PNG"

    asyncio.run(check())


def test_who_follows_the_log_is_told_its_lines(serving):
    async def check():
        async with serving() as client, client.ws_connect("/ws?clientId=me") as socket:
            follow = {"clientId": "me", "enabled": True}
            assert (await client.patch("/internal/logs/subscribe", json=follow)).status == 200
            logging.getLogger("limner.somewhere").warning("a %s line", "new")
            told = (await heard(socket, "logs"))[-1]["data"]
            assert told["size"] == {"cols": 80, "rows": 24}
            assert [e["m"] for e in told["entries"]] == ["a new line\n"]
            raw = await (await client.get("/internal/logs/raw")).json()
            assert raw["entries"][-1] == told["entries"][0]
            assert "a new line" in await (await client.get("/internal/logs")).json()
            await client.patch("/internal/logs/subscribe", json=follow | {"enabled": False})
            logging.getLogger("limner.somewhere").warning("another one")
            await submit(client, chain("a"), client_id="me")
            assert "logs" not in kinds(await heard(socket))

    asyncio.run(check())


def test_a_server_that_stops_says_so(serving):
    async def check():
        async with serving() as client:
            socket = await client.ws_connect("/ws?clientId=me")
            await heard(socket, "status")
            closing = asyncio.create_task(client.app[SOCKETS].close())
            async with asyncio.timeout(PATIENCE):
                assert (await socket.receive()).type is WSMsgType.CLOSE
            assert socket.close_code == WSCloseCode.GOING_AWAY
            await closing

    asyncio.run(check())
