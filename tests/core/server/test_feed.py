"""Server-sent events: everything once, in order, to those who left and came back, and whatever others do."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import serving as tools
from described import check, schema
from limner.core.server import feed
from limner.core.server.board import BOARD
from limner.core.server.feed import STREAMS, Latest
from limner.core.server.keys import OFFICE
from serving import chain, entry

EVENT = schema('{"$ref": "#/components/schemas/Event"}')


async def told(response, until=lambda _: False):
    """The events of a stream, up to one that is waited for; without one, to its end."""
    found = []
    async for line in response.content:
        name, _, text = line.decode().rstrip("\n").partition(": ")
        if name == "id":
            number = int(text)
        elif name == "data":
            found.append(json.loads(text))
            EVENT.validate(found[-1])
            if "seq" in found[-1]:
                assert found[-1]["seq"] == number
            if until(found[-1]):
                return found
    return found


async def heard(client, until=lambda _: False, headers=None, **query):
    """What a new stream tells."""
    async with asyncio.timeout(tools.PATIENCE), client.get("/limner/events", params=query, headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        return await told(response, until)


@asynccontextmanager
async def stalled(client):
    """The reader of a stream who has stopped reading."""
    reader, writer = await asyncio.open_connection(client.host, client.port, limit=1 << 10)
    try:
        writer.write(f"GET /limner/events HTTP/1.1\r\nHost: {client.host}:{client.port}\r\n\r\n".encode())
        await reader.readuntil(b"snapshot")
        writer.transport.pause_reading()
        yield reader, writer.transport
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


def is_(name):
    return lambda event: event["event"] == name


def log(client):
    return client.app[OFFICE].dispatcher.events


def numbers(events):
    return [event["seq"] for event in events]


def test_who_comes_first_is_told_how_things_are_and_then_what_happens(serving):
    async def go():
        async with serving() as client:
            client.app[OFFICE].dispatcher.paused = True
            waits = await tools.submit(client, chain("a"))
            async with client.get("/limner/events") as response:
                (snapshot,) = await told(response, is_("snapshot"))
                assert [each["id"] for each in snapshot["jobs"]] == [waits["prompt_id"]]
                assert (snapshot["jobs"][0]["position"], snapshot["remaining"]) == (1, 1)
                client.app[OFFICE].dispatcher.paused = False
                events = await told(response, is_("finished"))
            assert numbers(events) == [*range(snapshot["seq"] + 1, snapshot["seq"] + 1 + len(events))]
            assert [e["event"] for e in events if e["event"] in ("started", "node_started")][:2] == [
                "started",
                "node_started",
            ]

    asyncio.run(go())


def test_the_events_of_one_job_end_with_it(serving):
    async def go():
        async with serving() as client:
            mine, other = [(await tools.submit(client, chain(word)))["prompt_id"] for word in "ab"]
            await tools.ended(client, other)
            events = await heard(client, job=mine, since=0)
            assert {event["job"] for event in events} == {mine}
            assert (events[0]["event"], events[-1]["event"]) == ("queued", "finished")
            (snapshot,) = await heard(client, job=mine)
            assert [each["state"] for each in snapshot["jobs"]] == ["done"]

    asyncio.run(go())


def test_who_has_heard_all_of_a_job_need_not_come_back(serving):
    async def go():
        async with serving() as client:
            name = (await tools.submit(client, chain("a")))["prompt_id"]
            events = await heard(client, job=name, since=0)
            headers = {"Last-Event-ID": str(events[-1]["seq"])}
            async with client.get("/limner/events", params={"job": name}, headers=headers) as response:
                assert response.status == 204

    asyncio.run(go())


def test_one_may_listen_for_a_job_before_it_is_posted(serving):
    async def go():
        async with serving() as client:
            async with client.get("/limner/events", params={"job": "later"}) as response:
                (snapshot,) = await told(response, is_("snapshot"))
                assert snapshot["jobs"] == []
                await tools.submit(client, chain("a"), prompt_id="later")
                events = await told(response)
            assert (events[0]["event"], events[-1]["event"]) == ("queued", "finished")

    asyncio.run(go())


@pytest.mark.parametrize("how", ["header", "query"])
def test_who_leaves_and_comes_back_hears_every_event_once(serving, how):
    async def go():
        async with serving() as client:
            seen = []
            (snapshot,) = await heard(client, is_("snapshot"))
            last = snapshot["seq"]
            for k in range(6):
                name = (await tools.submit(client, chain(f"a{k}", f"b{k}")))["prompt_id"]
                if k % 2:
                    await tools.ended(client, name)
                stop = iter(range(3 + 2 * k))  # leaves somewhere in the middle
                said = {"headers": {"Last-Event-ID": str(last)}, "since": 0} if how == "header" else {"since": last}
                seen += await heard(client, lambda _, stop=stop: next(stop, None) is None, **said)
                last = seen[-1]["seq"]
            await tools.ended(client, name)
            end = log(client).last
            seen += await heard(client, lambda event: event["seq"] == end, since=last) if last < end else []
            assert numbers(seen) == [*range(snapshot["seq"] + 1, end + 1)]

    asyncio.run(go())


@pytest.mark.parametrize("since", [0, 10**9])
def test_who_comes_too_late_or_from_elsewhere_is_told_how_things_are(serving, since):
    async def go():
        async with serving() as client:
            log(client)._most = 5  # events that are kept
            await tools.ended(client, (await tools.submit(client, chain("a", "b", "c")))["prompt_id"])
            async with client.get("/limner/events", params={"since": since}) as response:
                (reset,) = await told(response, is_("reset"))
                assert reset["seq"] == log(client).last
                name = (await tools.submit(client, chain("d")))["prompt_id"]
                (queued,) = await told(response, is_("queued"))
                assert (queued["seq"], queued["job"]) == (reset["seq"] + 1, name)

    asyncio.run(go())


@pytest.mark.parametrize("since", ["x", "-1", "1.5", "", "9" * 30])
def test_a_number_that_is_none_is_refused(serving, since):
    async def go():
        async with serving() as client, client.get("/limner/events", params={"since": since}) as response:
            data = await response.json()
            check("get", "/limner/events", response.status, response.content_type, data)
            assert (response.status, data["error"]["code"]) == (400, "bad_query")

    asyncio.run(go())


def test_a_quiet_stream_says_now_and_then_that_it_is_there(serving, monkeypatch):
    monkeypatch.setattr(feed, "QUIET", 0.05)

    async def go():
        async with serving() as client, client.get("/limner/events") as response:
            await told(response, is_("snapshot"))
            lines = [await response.content.readline() for _ in range(4)]
            assert lines.count(b": still here\n") >= 1
            log(client).say({"event": "model", "job": "", "client": "", "text": "x"})
            assert (await told(response, is_("model")))[-1]["text"] == "x"

    asyncio.run(go())


def test_one_reader_who_does_not_read_delays_nobody_and_costs_bounded_memory(serving):
    """A hundred megabytes are said, of which his connection and the log hold a few."""

    async def go():
        async with serving() as client, stalled(client) as (reader, transport):
            events = log(client)
            events._room = 2 << 20  # characters that are kept
            before = _resident()
            async with client.get("/limner/events") as other:
                await told(other, is_("snapshot"))
                slowest = 0.0
                for k in range(1000):
                    began = time.perf_counter()
                    events.say({"event": "text", "job": "", "client": "", "node": str(k), "text": "x" * 100_000})
                    await told(other, lambda event, k=k: event.get("node") == str(k))
                    slowest = max(slowest, time.perf_counter() - began)
            assert slowest < 1.0
            gc.collect()
            assert _resident() - before < 50e6
            transport.resume_reading()
            tail = b""
            while b'"event": "reset"' not in tail:  # what he has not read is gone, and he is told how things are
                tail = tail[-100:] + await asyncio.wait_for(reader.read(1 << 16), tools.PATIENCE)

    asyncio.run(go())


def test_who_does_not_read_for_too_long_is_hung_up_on(serving, monkeypatch):
    monkeypatch.setattr(feed, "PATIENCE", 0.2)

    async def go():
        async with serving() as client, stalled(client):
            (stream,) = client.app[STREAMS]
            for _ in range(140):  # 14 MB: more than the system holds for him, less than the log
                log(client).say({"event": "text", "job": "", "client": "", "node": "", "text": "x" * 100_000})
            await asyncio.wait_for(asyncio.wait({stream}), tools.PATIENCE)
            assert client.app[STREAMS] == set()

    asyncio.run(go())


def test_pictures_of_half_done_work_are_sent_to_who_wants_them_and_only_the_latest(serving):
    async def go():
        async with serving() as client:
            async with client.get("/limner/events?previews=1") as eager, client.get("/limner/events") as other:
                for response in (eager, other):
                    await told(response, is_("snapshot"))
                assert log(client).previews == 1
                shown = {"event": "preview", "job": "j", "client": "", "node": "n", "display": "n", "parent": ""}
                for k in range(50):
                    log(client).say({**shown, "jpeg": b"picture %d" % k})
                found = await told(eager, lambda event: event.get("image", "").endswith("cGljdHVyZSA0OQ=="))
                assert len(found) < 50
                assert found[-1]["image"].startswith("data:image/jpeg;base64,")
                log(client).say({"event": "model", "job": "", "client": "", "text": "x"})
                assert [e["event"] for e in await told(other, is_("model"))][-1:] == ["model"]
                assert "seq" not in found[-1]
            async with asyncio.timeout(tools.PATIENCE):
                while log(client).previews:  # it is noticed when something is next said
                    log(client).say({"event": "model", "job": "", "client": "", "text": "x"})
                    await asyncio.sleep(0.01)

    asyncio.run(go())


def test_of_pictures_that_nobody_takes_the_latest_of_each_job_is_kept():
    async def go():
        latest = Latest(None)
        for k in range(100):
            latest.hear({"event": "preview", "job": f"job {k % 2}", "jpeg": b"%d" % k, "seq": 1})
        assert len(latest._pictures) == 2
        mine = Latest("job 1")
        mine.hear({"event": "preview", "job": "job 0", "jpeg": b""})
        assert mine._pictures == {}

    asyncio.run(go())


def test_open_streams_do_not_hold_up_the_end_of_the_server(serving):
    async def go():
        async with AsyncExitStack() as stack:
            async with serving() as client:
                await stack.enter_async_context(stalled(client))  # and stays until the server has gone
                began = time.perf_counter()
            return time.perf_counter() - began

    assert asyncio.run(go()) < 3


def test_the_board_knows_only_what_runs(serving):
    async def go():
        gate = tools.Gate()
        async with serving(nodes=gate.nodes()) as client:
            nodes = {"wait": entry("Wait"), "show": entry("Show", source=["wait", 0])}
            name = (await tools.submit(client, nodes))["prompt_id"]
            await gate.until_reached()
            assert client.app[BOARD].of(name).types == {"wait": "Wait", "show": "Show"}
            gate.released.set()
            await tools.ended(client, name)
            assert client.app[BOARD].of(name) is None

    asyncio.run(go())


def _resident():
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096
