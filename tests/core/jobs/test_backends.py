"""What every backend does, in this process and in others: jobs come to exactly one end, and fail alone."""

import asyncio
import functools
import inspect

import pytest
from job_office import denoising
from limner.core.jobs.job import Job


def inside(function):
    """A test that is a coroutine, in the office's loop."""

    @functools.wraps(function)
    def test(office, **named):
        office.run(function(office, **named))

    test.__signature__ = inspect.signature(function)
    del test.__wrapped__
    return test


def shown(value, **more):
    return {"1": ("Number", {"value": value}), "2": ("Show", {"value": ["1", 0], **more})}


@inside
async def test_a_job_runs_and_what_it_showed_is_kept(office):
    job = await office.end(office.submit(shown(3, prefix="kept"), client="me"))
    assert job.state == "done"
    assert job.outputs == {"2": {"images": [{"filename": "kept_3.txt", "subfolder": "", "type": "output"}]}}
    assert job.meta == {"2": {"node_id": "2", "display_node": "2", "parent_node": None, "real_node_id": "2"}}
    assert (job.executed, job.cached, job.attempt) == (("1", "2"), (), 1)
    assert job.seconds > 0


@inside
async def test_events_of_a_run_come_in_order_and_say_whose_they_are(office):
    name = office.submit(shown(4), client="me")
    await office.end(name)
    assert office.told(name) == [
        "queued", "started", "cached", "node_started", "node_finished", "node_started", "node_finished", "finished",
    ]  # fmt: skip
    mine = [event for event in office.heard if event["job"] == name]
    assert {event["client"] for event in mine} == {"me"}
    where = {"node": "2", "display": "2", "parent": ""}
    assert where.items() <= mine[5].items()
    assert {**where, "status": "executed"}.items() <= mine[6].items()
    assert mine[6]["output"]["images"][0]["filename"] == "shown_4.txt"
    assert mine[1]["worker"] == "worker-1"


@inside
async def test_history_is_recorded_before_anybody_hears_of_the_end(office):
    """Clients ask for it at once; and the queue does not forget a job before history has it."""
    found = []

    def look(event):
        if event["event"] == "finished":
            found.append((office.queue.get(event["job"]).state, office.queue.remaining()))
        if event["event"] == "queue" and not event["remaining"]:
            found.append(len(office.queue.history()))

    stop = office.events.listen(look)
    name = office.submit(shown(5))
    await office.end(name)
    await office.until(lambda: len(found) == 2)
    assert found == [("done", 0), 1]
    stop()


@inside
async def test_history_s_messages_are_comfyui_s(office):
    job = await office.end(office.submit(shown(6)))
    assert [name for name, _ in job.messages] == ["execution_start", "execution_cached", "execution_success"]
    assert all(said["prompt_id"] == job.id and type(said["timestamp"]) is int for _, said in job.messages)
    assert job.messages[1][1]["nodes"] == []
    job = await office.end(office.submit(shown(6, prefix="other")))
    assert job.messages[1][1]["nodes"] == ["1"]
    assert (job.executed, job.cached) == (("2",), ("1",))


@inside
async def test_jobs_run_one_after_the_other_in_their_order(office):
    names = [office.submit(shown(k)) for k in range(4)]
    for name in names:
        await office.end(name)
    ends = [event["job"] for event in office.heard if event["event"] == "finished"]
    assert ends == names
    assert [job.id for job in office.queue.history()] == names


@pytest.mark.parametrize("toy", ["Fail", "FailLate"])
@pytest.mark.parametrize(
    ("kind", "type_", "words"),
    [
        ("Exception", "Exception", "Exception: it went wrong"),
        ("ValueError", "ValueError", "7 is too many"),
        ("SystemExit", "SystemExit", "SystemExit: 1"),
        ("KeyboardInterrupt", "KeyboardInterrupt", "KeyboardInterrupt"),
        ("GeneratorExit", "GeneratorExit", "GeneratorExit"),
        ("Base", "job_toys.Base", "Base: of its own kind"),
        ("Unspeakable", "job_toys.Unspeakable", "Unspeakable"),
    ],
)
@inside
async def test_whatever_a_node_raises_fails_its_job_alone(office, toy, kind, type_, words):
    restarts = office.backend.workers()[0].restarts
    failing = office.submit({"0": ("Number", {}), "1": (toy, {"kind": kind})})
    following = office.submit(shown(7))
    job = await office.end(failing)
    assert job.state == "failed"
    assert {"node": "1", "type": type_, "message": words, "code": "failed"}.items() <= job.error.items()
    name, said = job.messages[-1]
    assert name == "execution_error"
    assert (said["node_id"], said["node_type"], said["exception_type"]) == ("1", f"toy.{toy}", type_)
    assert said["current_inputs"] == {"kind": [kind]}
    assert (await office.end(following)).state == "done"
    assert office.backend.workers()[0].restarts == restarts


@inside
async def test_a_path_of_the_machine_goes_to_the_log_and_to_nobody_else(office, caplog):
    job = await office.end(office.submit({"1": ("Fail", {"kind": "path"})}))
    told = [event for event in office.heard if event["job"] == job.id]
    for said in (job, told):
        assert "secret" not in str(said)
        assert "Traceback" not in str(said)
        assert "job_toys.py" not in str(said)
    assert "x.bin" in job.error["message"]
    assert "job_toys.py" in caplog.text
    assert "/opt/secret place/models/x.bin" in caplog.text
    job = await office.end(office.submit({"1": ("Fail", {"kind": "base"})}))
    assert "cannot read input/cat.png" in job.error["message"]


@inside
async def test_a_graph_that_cannot_run_fails_with_what_is_wrong_with_it(office):
    job = await office.end(office.submit({"1": ("Show", {"value": "no number"}), "2": ("Nonsense", {})}, targets=["1"]))
    assert job.state == "failed"
    assert (job.error["code"], job.error["node"]) == ("invalid_graph", "1")
    assert "1.value: takes INT" in job.error["message"]


@inside
async def test_progress_is_told_some_times_a_second_and_always_at_its_end(office, tmp_path):
    name = office.submit({"1": ("Walk", {"folder": str(tmp_path), "steps": 300, "pause": 0.001})})
    job = await office.end(name)
    progress = [event for event in office.heard if event["event"] == "progress"]
    assert job.state == "done"
    assert 2 <= len(progress) <= 3 + job.seconds / 0.05
    assert progress[0]["value"] == 1
    assert (progress[-1]["value"], progress[-1]["max"]) == (300, 300)
    assert {"node": "1", "display": "1", "parent": ""}.items() <= progress[0].items()
    names = office.told(name)
    assert names.index("node_finished") > max(k for k, event in enumerate(names) if event == "progress")


@inside
async def test_previews_are_made_for_those_who_want_them(office, tmp_path):
    import io

    from PIL import Image

    graph = {"1": ("Walk", {"folder": str(tmp_path), "steps": 30, "pause": 0.02})}
    await office.end(office.submit(graph))
    assert not [event for event in office.heard if event["event"] == "preview"]
    office.events.previews += 1
    name = office.submit(graph)
    await office.end(name)
    office.events.previews -= 1
    previews = [event for event in office.heard if event["event"] == "preview"]
    assert 1 <= len(previews) <= 5
    assert previews[0]["jpeg"][:3] == b"\xff\xd8\xff"
    assert Image.open(io.BytesIO(previews[0]["jpeg"])).size == (6 * 8, 8 * 8)
    assert (previews[0]["job"], previews[0]["node"]) == (name, "1")


@inside
async def test_what_a_node_says_and_shows_reaches_the_client_as_json(office):
    name = office.submit({"1": ("Say", {"text": "hello"})})
    job = await office.end(name)
    assert job.outputs == {"1": {"text": ["hello", None, "<class 'set'>"]}}
    (warning,) = (event for event in office.heard if event["event"] == "warning")
    assert (warning["node"], warning["text"]) == ("1", "mind the gap")


@inside
async def test_what_a_pack_pushes_comes_between_the_events_of_its_node(office):
    """However fast its job ends: clients go when they hear of the end."""
    for k in range(20):
        name = office.submit({"1": ("Number", {"value": k}), "2": ("Push", {"value": ["1", 0]})}, client="me")
        await office.end(name)
        begun = next(j for j, e in enumerate(office.heard) if e["event"] == "node_started" and e.get("node") == "2")
        told = [(e["event"], e.get("data")) for e in office.heard[begun : begun + 4]]
        office.heard.clear()
        assert told == [("node_started", None), ("said", {"value": k}), ("text", None), ("node_finished", None)]


@inside
async def test_what_a_pack_writes_at_a_node_is_told_as_its_job_s(office):
    name = office.submit({"2": ("Push", {"value": 1})}, client="me")
    await office.end(name)
    (told,) = [e for e in office.events.since(0, name) if e["event"] == "text"]
    assert {"job": name, "client": "me", "node": "2", "text": "it is 1 ✓"}.items() <= told.items()


@inside
async def test_a_stop_ends_a_run_between_two_steps_and_leaves_the_next_job_alone(office, tmp_path):
    graph = {"1": ("Walk", {"folder": str(tmp_path), "hold": 2})}
    name, following = office.submit(graph), office.submit(shown(8))
    await office.seen("progress", name)
    assert await office.dispatcher.interrupt(name)
    job = await office.end(name)
    assert job.state == "interrupted"
    assert not (tmp_path / "ended").exists()
    last, said = job.messages[-1]
    assert (last, said["node_id"], said["node_type"]) == ("execution_interrupted", "1", "toy.Walk")
    assert (await office.end(following)).state == "done"


@inside
async def test_a_stop_comes_before_the_next_network_call(office, tmp_path):
    name, following = office.submit(denoising(tmp_path, hold=1)), office.submit(shown(8))
    await office.until((tmp_path / "calls").exists)
    await office.dispatcher.interrupt(name)
    job = await office.end(name)
    count = (tmp_path / "calls").stat().st_size
    assert (job.state, job.error["node"]) == ("interrupted", "1")
    assert (await office.end(following)).state == "done"
    assert (tmp_path / "calls").stat().st_size == count
    assert not (tmp_path / "ended").exists()


@inside
async def test_networks_that_come_and_go_are_told_of(office, tmp_path):
    await office.dispatcher.free(models=True, cache=True)
    name = office.submit(denoising(tmp_path))
    assert (await office.end(name)).state == "done"
    (told,) = (event for event in office.heard if event["event"] == "model" and event["text"].startswith("loaded unet"))
    assert told["job"] == name
    await office.dispatcher.free(models=True, cache=False)
    await office.end(office.submit(shown(8)))
    assert any("memory" in event["text"] for event in office.heard if event["event"] == "model")


@inside
async def test_a_stop_comes_before_the_next_node(office, tmp_path):
    """The first node hears nothing; the one after it never begins."""
    graph = {"1": ("Number", {}), "2": ("Stubborn", {"folder": str(tmp_path), "after": ["1", 0]})}
    graph["3"] = ("Number", {"value": 2})
    graph["4"] = ("Show", {"value": ["3", 0], "prefix": "never"})
    name = office.submit(graph, targets=["2", "4"])
    await office.until((tmp_path / "begun").exists)
    await office.dispatcher.interrupt()
    (tmp_path / "go").touch()
    job = await office.end(name)
    assert job.state == "interrupted"
    assert "2" in job.executed
    assert not {"3", "4"} & {*job.executed}


@inside
async def test_a_stop_before_the_run_exists_still_hits_it(office, tmp_path):
    """The stop comes as soon as the job is claimed: nothing is planned yet."""
    stopped = []

    def stop(event):
        if event["event"] == "started" and event["job"] == "early":
            stopped.append(asyncio.create_task(office.dispatcher.interrupt("early")))

    end = office.events.listen(stop)
    name = office.submit({"1": ("Walk", {"folder": str(tmp_path), "hold": 0})}, id="early")
    job = await office.end(name)
    assert await stopped[0]
    assert job.state == "interrupted"
    assert not (tmp_path / "ended").exists()
    end()
    assert (await office.end(office.submit(shown(9)))).state == "done"


@inside
async def test_a_stop_for_a_job_that_has_ended_or_waits_hits_nobody(office, tmp_path):
    first = office.submit(shown(10))
    await office.end(first)
    graph = {"1": ("Walk", {"folder": str(tmp_path), "hold": 1})}
    running, waiting = office.submit(graph), office.submit(shown(11))
    await office.until((tmp_path / "begun").exists)
    for name in (first, waiting, "unknown"):
        assert not await office.dispatcher.interrupt(name)
        await office.backend.interrupt(name)
    (tmp_path / "go").touch()
    assert (await office.end(running)).state == "done"
    assert (await office.end(waiting)).state == "done"
    assert not await office.dispatcher.interrupt()


@inside
async def test_a_stop_of_an_old_job_does_not_hit_a_new_one_of_its_id(office):
    for _ in range(20):
        name = office.submit(shown(12), id="same")
        await office.seen("started", name, after=office.events.last - 1)
        stopping = asyncio.create_task(office.dispatcher.interrupt("same"))
        await office.until(lambda: office.queue.get("same").final)
        await stopping
        office.submit(shown(12), id="same")
        await office.until(lambda: office.queue.get("same").final)
        assert office.queue.get("same").state == "done"


@inside
async def test_a_stop_as_the_job_ends_leaves_one_end(office):
    ends = {}
    stop = office.events.listen(
        lambda event: ends.setdefault(event["job"], []).append(event["state"]) if event["event"] == "finished" else None
    )
    names = [office.submit(shown(k, prefix="race")) for k in range(30)]
    for k, name in enumerate(names):
        await office.seen("started", name)
        await asyncio.sleep(0.0004 * k)
        await office.dispatcher.interrupt(name)
    for name in names:
        await office.end(name)
    assert all(len(states) == 1 for states in ends.values())
    assert {states[0] for states in ends.values()} <= {"done", "interrupted"}
    assert office.queue.remaining() == 0
    stop()


@inside
async def test_cancelling_takes_a_waiting_job_out_and_stops_a_running_one(office, tmp_path):
    graph = {"1": ("Walk", {"folder": str(tmp_path), "hold": 1})}
    running, waiting = office.submit(graph), office.submit(shown(13))
    await office.until((tmp_path / "begun").exists)
    assert (await office.dispatcher.cancel(waiting)).state == "cancelled"
    assert (await office.dispatcher.cancel(running)) is not None
    assert (await office.end(running)).state == "interrupted"
    assert await office.dispatcher.cancel("unknown") is None
    assert await office.dispatcher.cancel(running) is None
    assert office.told(waiting) == ["queued", "cancelled"]


@inside
async def test_a_paused_dispatcher_accepts_and_begins_nothing(office):
    office.dispatcher.paused = True
    first, second = office.submit(shown(14)), office.submit(shown(15), client="x")
    office.dispatcher.prioritise(second, priority=1)
    await asyncio.sleep(0.05)
    assert office.queue.remaining() == 2
    assert not office.queue.running()
    office.dispatcher.paused = False
    await office.end(first)
    ends = [event["job"] for event in office.heard if event["event"] == "finished"]
    assert ends == [second, first]
    assert office.told(second)[:2] == ["queued", "prioritised"]


@inside
async def test_clearing_cancels_what_waits_and_says_so(office):
    office.dispatcher.paused = True
    names = [office.submit(shown(k)) for k in range(3)]
    assert office.dispatcher.clear() == 3
    assert [office.told(name) for name in names] == [["queued", "cancelled"]] * 3
    assert office.heard[-1]["event"] == "queue"
    assert office.heard[-1]["remaining"] == 0


@inside
async def test_the_queue_s_length_is_told_after_every_change(office):
    name = office.submit(shown(16))
    await office.end(name)
    await office.until(lambda: office.heard[-1]["event"] == "queue" and office.heard[-1]["remaining"] == 0)
    told = [event["remaining"] for event in office.heard if event["event"] == "queue"]
    assert told[-3:] == [1, 1, 0]


@inside
async def test_memory_is_freed_when_the_jobs_that_run_have_ended(office, tmp_path):
    await office.end(office.submit(shown(17, prefix="free")))
    graph = {"1": ("Walk", {"folder": str(tmp_path), "hold": 1})}
    name = office.submit(graph)
    await office.until((tmp_path / "begun").exists)
    await office.dispatcher.free(models=True, cache=True)
    (tmp_path / "go").touch()
    await office.end(name)
    job = await office.end(office.submit(shown(17, prefix="freed")))
    assert job.cached == ()


@inside
async def test_nodes_that_ran_are_timed(office):
    await office.end(office.submit(shown(18)))
    assert office.dispatcher.timings.expect("toy.Number", {"value": 18}) is not None
    assert office.dispatcher.timings.expect("toy.Stubborn", {}) is None


@inside
async def test_a_worker_says_what_it_does(office, tmp_path):
    name = office.submit({"1": ("Walk", {"folder": str(tmp_path), "hold": 1})})
    await office.until((tmp_path / "begun").exists)
    (worker,) = office.backend.workers()
    assert (worker.id, worker.device, worker.alive, worker.busy) == ("worker-1", "cpu", True, (name,))
    (tmp_path / "go").touch()
    await office.end(name)


@inside
async def test_what_is_posted_is_given_to_the_run(office):
    """A document that is none fails the job; the client's extra data is what foreign nodes see."""
    job = await office.end(office.submit(shown(19), document={"limner": 99, "graph": {}}))
    assert (job.state, job.error["code"]) == ("failed", "bad_workflow")
    job = await office.end(office.submit(shown(19), document={"limner": 1, "graph": {}}, extra={"a": 1}))
    assert job.state == "done"


def test_a_job_is_the_same_after_it_went_through_json(office):
    import json

    job = office.queue.get(office.submit(shown(20), extra={"a": [1]}, document={"limner": 1}))
    assert Job.from_json(json.loads(json.dumps(job.as_json()))) == job
