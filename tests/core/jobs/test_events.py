"""Events: each once and in order, for those who listen, follow, come back, are slow, or come after a restart."""

import asyncio
import tracemalloc

import pytest
from limner.core.errors import Gone
from limner.core.jobs import events as module
from limner.core.jobs.events import Events


def told(name="node_started", job="a", **more):
    return {"event": name, "job": job, "client": "", **more}


def inside(function):
    """Run a coroutine function as a test."""

    def test(*arguments, **named):
        asyncio.run(function(*arguments, **named))

    test.__name__, test.__doc__ = function.__name__, function.__doc__
    test.__signature__ = __import__("inspect").signature(function)
    return test


def numbers(found):
    return [event["seq"] for event in found]


async def some(events, count, since=0, job=None):
    """The first events that a follower gets."""
    found = []
    async for event in events.follow(since, job):
        found.append(event)
        if len(found) == count:
            return found
    return found


@inside
async def test_events_are_numbered_timed_and_told_at_once():
    events, heard = Events(), []
    stop = events.listen(heard.append)
    assert [events.say(told(node=f"{k}")) for k in range(3)] == [1, 2, 3]
    assert events.last == 3
    assert numbers(heard) == [1, 2, 3]
    assert all(event["time"] > 1e9 for event in heard)
    stop()
    stop()
    events.say(told())
    assert len(heard) == 3


@inside
async def test_a_listener_that_fails_fails_nobody_else(caplog):
    events, heard = Events(), []
    events.listen(lambda event: 1 / 0)
    events.listen(heard.append)
    events.say(told())
    assert len(heard) == 1
    assert "ZeroDivisionError" in caplog.text


@inside
async def test_what_came_after_an_event_can_be_asked_for_of_all_jobs_or_one():
    events = Events()
    for k in range(6):
        events.say(told(job="ab"[k % 2]))
    assert numbers(events.since(0)) == [1, 2, 3, 4, 5, 6]
    assert numbers(events.since(3)) == [4, 5, 6]
    assert numbers(events.since(2, "b")) == [4, 6]
    assert events.since(6) == []


@inside
async def test_a_follower_gets_the_past_then_the_present_each_event_once():
    events = Events()
    for _ in range(3):
        events.say(told())
    follower = asyncio.create_task(some(events, 6, since=1))
    await asyncio.sleep(0)
    for _ in range(4):
        events.say(told())
        await asyncio.sleep(0)
    assert numbers(await follower) == [2, 3, 4, 5, 6, 7]


@inside
async def test_many_followers_of_jobs_get_their_own_while_events_come():
    events = Events()
    followers = [asyncio.create_task(some(events, 50, job=job)) for job in "abab"]
    for k in range(100):
        events.say(told(job="ab"[k % 2]))
        if not k % 7:
            await asyncio.sleep(0)
    for follower, job in zip(followers, "abab", strict=True):
        found = await follower
        assert {event["job"] for event in found} == {job}
        assert numbers(found) == list(range(1 + "ab".index(job), 101, 2))


@inside
async def test_a_follower_that_comes_back_misses_nothing_and_gets_nothing_twice():
    events, seen = Events(), []
    events.say(told())
    for _ in range(5):
        seen += numbers(await some(events, 1, since=seen[-1] if seen else 0))
        events.say(told())
        events.say(told())
    seen += numbers(events.since(seen[-1]))
    assert seen == list(range(1, 12))


@inside
async def test_a_stalled_reader_delays_nobody_and_costs_no_more_than_the_bound(tmp_path):
    events = Events(tmp_path / "events.db", most=200, room=100_000)
    stalled = events.follow(0)
    events.say(told())
    assert (await anext(stalled))["seq"] == 1  # and reads no more
    count = 3000
    tracemalloc.start()
    lively = asyncio.create_task(some(events, count, since=1))
    for _ in range(count):
        events.say(told(text="x" * 1000))
        await asyncio.sleep(0)
    assert len(await lively) == count
    del lively
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2_000_000  # of 3 MB that were said
    rest = [await anext(stalled) for _ in range(count)]
    assert numbers(rest) == list(range(2, count + 2))  # caught up from disk
    events.close()


@inside
async def test_memory_is_bounded_in_number_and_in_bytes():
    events = Events(most=10)
    for _ in range(50):
        events.say(told())
    assert numbers(events.since(40)) == list(range(41, 51))
    with pytest.raises(Gone, match="only those after 40"):
        events.since(39)
    events = Events(room=10_000)
    for _ in range(50):
        events.say(told(text="x" * 1000))
    assert 5 < len(events.since(events.last - 7)) < 10


@inside
async def test_an_event_that_has_not_been_is_gone_too():
    with pytest.raises(Gone, match="there was no event 7"):
        Events().since(7)


@inside
async def test_a_restart_keeps_events_and_uses_no_number_twice(tmp_path):
    events = Events(tmp_path / "events.db")
    for name in ("queued", "started", "node_started", "progress", "node_finished", "queue", "finished"):
        events.say(told(name))
    events.close()
    again = Events(tmp_path / "events.db")
    assert again.last == 7
    assert again.say(told("queued")) == 8
    kept = [event["event"] for event in again.since(1)]
    assert kept == ["started", "node_started", "node_finished", "finished", "queued"]  # nothing that is fleeting
    again.close()


@inside
async def test_a_kill_loses_no_event_of_a_job_and_no_number_is_used_twice(tmp_path):
    """Nothing is closed here, and no timer runs out."""
    events = Events(tmp_path / "events.db")
    events.say(told("queued"))
    events.say(told("node_started"))
    last = events.say(told("started"))
    again = Events(tmp_path / "events.db")
    assert [event["event"] for event in again.since(0)] == ["queued", "node_started", "started"]
    assert again.last >= last
    assert again.say(told("queued")) > last
    assert len(again.since(last)) == 1
    for each in (events, again):
        each.close()


@inside
async def test_events_of_nodes_are_written_many_at_a_time(tmp_path, monkeypatch):
    events = Events(tmp_path / "events.db")
    events.say(told("queued"))
    writes = []
    change = events._index.change
    monkeypatch.setattr(events._index, "change", lambda query, *rows: writes.append(len(rows)) or change(query, *rows))
    for _ in range(1200):
        events.say(told())
    assert [count for count in writes if count > 1] == [500, 500]
    monkeypatch.setattr(module, "LATEST", 0.01)
    events.flush()
    events.say(told())
    while events._unwritten:
        await asyncio.sleep(0.01)
    assert sum(writes) >= 1201
    events.close()


@inside
async def test_the_table_is_bounded_and_what_it_has_dropped_is_gone(tmp_path):
    events = Events(tmp_path / "events.db", most=10, keep=100)
    for _ in range(300):
        events.say(told("queued"))
    floor = events.last - len(events.since(events.last - 80)) - 20
    with pytest.raises(Gone):
        events.since(floor - 30)
    events.close()
    again = Events(tmp_path / "events.db", most=10, keep=100)
    with pytest.raises(Gone):
        again.since(10)
    found = numbers(again.since(events.last - 80))
    assert found == list(range(events.last - 79, events.last + 1))
    again.close()


@inside
async def test_a_follower_that_is_too_far_behind_is_told_so():
    events = Events(most=300)
    events.say(told())
    slow = events.follow(0)
    await anext(slow)
    for _ in range(1000):
        events.say(told())
    with pytest.raises(Gone):
        async for _ in slow:
            pass


@inside
async def test_previews_are_heard_at_once_and_never_kept(tmp_path):
    events, heard = Events(tmp_path / "events.db"), []
    events.listen(heard.append)
    events.say(told("queued"))
    assert events.say(told("preview", jpeg=b"\xff\xd8")) == 1
    assert events.say(told("started")) == 2
    assert [event["event"] for event in heard] == ["queued", "preview", "started"]
    assert heard[1]["seq"] == 1
    assert [event["event"] for event in events.since(0)] == ["queued", "started"]
    events.close()


@inside
async def test_a_damaged_table_is_set_aside_and_events_go_on(tmp_path):
    (tmp_path / "events.db").write_bytes(b"noise" * 1000)
    events = Events(tmp_path / "events.db")
    events.say(told("queued"))
    assert numbers(events.since(0)) == [1]
    events.close()
    assert (tmp_path / "damaged-events.db").exists()


@inside
async def test_a_disk_that_refuses_costs_what_does_not_fit_into_memory(tmp_path):
    (tmp_path / "file").touch()
    events = Events(tmp_path / "file" / "events.db", most=10)
    for _ in range(50):
        events.say(told("queued"))
    assert numbers(events.since(40)) == list(range(41, 51))
    with pytest.raises(Gone):
        events.since(5)
    events.close()


@inside
async def test_closing_ends_those_who_follow_when_they_have_all():
    events = Events()
    events.say(told())
    follower = asyncio.create_task(some(events, 99))
    await asyncio.sleep(0)
    events.say(told())
    events.close()
    assert numbers(await follower) == [1, 2]
