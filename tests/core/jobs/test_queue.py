"""The queue: what it promises of order, of disks and of kills; SQLite is asked how it looks things up."""

import json
import math
import re
import resource
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections import Counter

import pytest
from limner.core.errors import Busy, Conflict, NoSuchJob, QueueUnreadable, StorageError, UsageError
from limner.core.jobs import ledger, turns
from limner.core.jobs import queue as queues
from limner.core.jobs.queue import Queue

PROMPT = {"1": {"class_type": "limner.SaveImage", "inputs": {"prefix": "x"}}}


@pytest.fixture
def queue(tmp_path):
    queue = Queue(tmp_path / "limner.db")
    yield queue
    queue.close()


def submit(queue, *names, **options):
    return [queue.submit(prompt=PROMPT, targets=["1"], id=name, **options) for name in names]


def ids(jobs):
    return [job.id for job in jobs]


def taken(queue, most=1):
    """The ids in the order in which they are claimed, each ended before the next is."""
    order = []
    while jobs := queue.claim(most):
        order += ids(jobs)
        for job in jobs:
            queue.finish(job.id, "done")
    return order


def reopened(queue, **options):
    queue.close()
    return Queue(queue.path, **options)


def python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_job_comes_back_as_it_was_submitted(queue):
    document = {"limner": 1, "graph": PROMPT}
    extra = {"client_id": "tab", "extra_pnginfo": {"workflow": {"nodes": []}}}
    given = queue.submit(prompt=PROMPT, targets=["1"], id="a", client="tab", priority=3, extra=extra, document=document)
    job = queue.get("a")
    assert job == given
    assert (job.prompt, job.targets, job.extra, job.document) == (PROMPT, ("1",), extra, document)
    assert (job.state, job.attempt, job.client, job.priority) == ("pending", 0, "tab", 3)
    assert queue.get("b") is None


def test_a_job_without_an_id_gets_one(queue):
    first, second = (queue.submit(prompt=PROMPT, targets=["1"]) for _ in range(2))
    assert first.id != second.id
    assert queue.get(first.id) == first


def test_numbers_are_whole_where_they_can_be(queue):
    (first, second), (given,) = submit(queue, "a", "b"), submit(queue, "c", number=2.5)
    assert json.dumps([first.number, second.number, given.number]) == "[1, 2, 2.5]"


def test_an_accepted_job_outlives_the_server(tmp_path):
    code = """
    import sys, os
    from pathlib import Path
    from limner.core.jobs.queue import Queue
    queue = Queue(Path(sys.argv[1]))
    for name in "abc":
        queue.submit(prompt={}, targets=[], id=name)
    print("accepted", flush=True)
    os.kill(os.getpid(), 9)
    """
    process = python(code, tmp_path / "limner.db")
    out, _ = process.communicate(timeout=60)
    assert out == "accepted\n"
    queue = Queue(tmp_path / "limner.db")
    assert ids(queue.pending()) == ["a", "b", "c"]
    queue.close()


def test_jobs_of_one_client_run_in_the_order_in_which_they_came(queue):
    submit(queue, "a", "b", "c")
    assert ids(queue.pending()) == ["a", "b", "c"]
    assert taken(queue) == ["a", "b", "c"]


def test_a_higher_priority_runs_first_and_a_number_orders_within_it(queue):
    submit(queue, "late", number=9)
    submit(queue, "early", number=-9)
    submit(queue, "urgent", number=99, priority=1)
    submit(queue, "last", priority=-1)
    assert ids(queue.pending()) == ["urgent", "early", "late", "last"]
    assert taken(queue) == ["urgent", "early", "late", "last"]


def test_what_is_put_in_front_runs_first_the_latest_before_all(queue):
    submit(queue, "a", "b")
    front = submit(queue, "x", "y", front=True)
    assert all(job.number < 0 for job in front)
    assert taken(queue) == ["y", "x", "a", "b"]


def test_clients_take_turns(queue):
    submit(queue, "a1", "a2", "a3", client="a")
    submit(queue, "b1", "b2", client="b")
    submit(queue, "c1", client="c")
    expected = ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert ids(queue.pending()) == expected
    assert taken(queue) == expected


def test_one_who_comes_later_does_not_wait_for_anothers_batch(queue):
    submit(queue, *(f"a{k}" for k in range(50)), client="a")
    assert ids(queue.claim(3)) == ["a0", "a1", "a2"]
    submit(queue, "b", client="b")
    assert ids(queue.claim(2)) == ["b", "a3"]


def test_turns_do_not_override_priority(queue):
    submit(queue, "a1", "a2", client="a", priority=5)
    submit(queue, "b", client="b")
    assert taken(queue) == ["a1", "a2", "b"]


def test_a_job_that_is_taken_again_takes_its_client_s_turn_again(queue):
    submit(queue, "a1", "a2", client="a")
    submit(queue, "b1", "b2", client="b")
    assert ids(queue.claim(2)) == ["a1", "b1"]
    queue.requeue("a1")
    expected = ["a1", "b2", "a2"]
    assert ids(queue.pending()) == expected
    assert taken(queue) == expected


def test_turns_are_remembered_over_a_restart(queue):
    submit(queue, "a1", "a2", client="a")
    submit(queue, "b1", client="b")
    queue.finish(queue.claim()[0].id, "done")
    again = reopened(queue)
    assert ids(again.pending()) == ["b1", "a2"]
    again.close()


def test_claiming_looks_at_no_job_that_has_ended(queue):
    """Whatever the length of the history, each step is a search in an index of those that wait."""
    submit(queue, "a", client="a")
    for query in (turns.AGAIN, turns.LINE, turns.FIRST, turns.SERVED, queues.TRIM):
        values = [0] * query.count("?")
        plan = [row[3] for row in sqlite3.connect(queue.path).execute(f"EXPLAIN QUERY PLAN {query}", values)]
        looked_up = [step for step in plan if step.startswith(("SCAN", "SEARCH"))]
        assert looked_up
        for step in looked_up:  # what waits, what was cut short, or a search for one line
            assert re.search(r"INDEX (waiting|again)|SEARCH .* INDEX (lines|past) \(", step), plan


def test_claiming_takes_as_long_with_a_long_history(queue, monkeypatch):
    """Counted in steps of SQLite's machine, not in seconds."""

    def steps():
        count = Counter()
        queue._db.set_progress_handler(lambda: count.update("x"), 10)
        (job,) = queue.claim()
        queue._db.set_progress_handler(None, 0)
        queue.finish(job.id, "done")
        return count["x"]

    submit(queue, "first", client="a")
    short = steps()
    with queue._changing() as db:
        for k in range(2000):
            job = queues.Job.from_json({**queue.get("first").as_json(), "id": f"old{k}", "sequence": 100 + k})
            ledger.add(db, job, line="a" if k % 2 else f"client {k}", place=0)
            db.execute("UPDATE jobs SET begun = ?, over = ? WHERE id = ?", [k + 10, k + 10, f"old{k}"])
        db.execute("UPDATE clock SET tick = 5000")
    submit(queue, "second", client="a")
    assert steps() < 2 * short + 20


def test_concurrent_claims_never_take_a_job_twice(queue):
    submit(queue, *(f"{k}" for k in range(100)))
    claimed = []

    def claim():
        while jobs := queue.claim(3):
            claimed.extend(ids(jobs))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(claimed) == Counter(f"{k}" for k in range(100))


def test_an_attempt_is_counted_before_it_begins(queue):
    submit(queue, "a")
    (job,) = queue.claim()
    assert (job.state, job.attempt) == ("running", 1)
    with sqlite3.connect(queue.path) as other:
        assert other.execute("SELECT state, attempt FROM jobs").fetchall() == [("running", 1)]


def test_what_became_of_a_job_is_kept(queue):
    submit(queue, "a")
    queue.claim()
    said = {
        "outputs": {"1": {"images": [{"filename": "x.png", "subfolder": "", "type": "output"}]}},
        "meta": {"1": {"node_id": "1"}},
        "messages": (("execution_start", {"prompt_id": "a"}), ("execution_success", {})),
        "executed": ("1",),
        "cached": ("2",),
        "seconds": 1.5,
    }
    ended = queue.finish("a", "done", **said)
    assert ended == queue.get("a")
    assert {name: getattr(ended, name) for name in said} == said
    assert ended.state == "done"
    assert ended.error is None


@pytest.mark.parametrize("state", ["pending", "running", "nonsense"])
def test_a_job_ends_in_a_final_state(queue, state):
    submit(queue, "a")
    queue.claim()
    with pytest.raises(UsageError, match=state):
        queue.finish("a", state)
    assert queue.get("a").state == "running"


def test_each_job_ends_once(queue):
    submit(queue, "a")
    queue.claim()
    queue.finish("a", "done")
    for wrong in (lambda: queue.finish("a", "failed"), lambda: queue.requeue("a")):
        with pytest.raises(Conflict, match="done, not running"):
            wrong()
    assert queue.cancel("a") is None
    assert queue.get("a").state == "done"
    with pytest.raises(NoSuchJob, match="'b'"):
        queue.finish("b", "done")


def test_cancelling_takes_what_waits_and_nothing_that_runs(queue):
    submit(queue, "a", "b")
    queue.claim()
    assert queue.cancel("b").state == "cancelled"
    assert queue.cancel("a") is None
    assert queue.claim() == []


def test_clearing_cancels_each_job_once(queue):
    submit(queue, "a", "b", "c")
    queue.claim()
    queue.cancel("b")
    assert queue.clear() == 1
    assert queue.clear() == 0
    assert queue.counts() == {"running": 1, "cancelled": 2}


def test_claiming_cancelling_and_clearing_at_once_ends_each_job_once(queue):
    names = [f"{k}" for k in range(200)]
    submit(queue, *names)
    ends: list[str] = []

    def run():
        while jobs := queue.claim(2):
            for job in jobs:
                queue.finish(job.id, "done")
                ends.append(job.id)

    def cancel():
        ends.extend(name for name in names[::-3] if queue.cancel(name))

    threads = [threading.Thread(target=target) for target in (run, cancel, cancel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(ends) == Counter(names)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e999, 10**400, True, "1", [1]])
def test_a_number_that_is_none_is_refused(queue, number):
    with pytest.raises(UsageError, match="finite number"):
        submit(queue, "a", number=number)
    assert queue.remaining() == 0


@pytest.mark.parametrize("priority", [1.0, True, "1", None, 2**40])
def test_a_priority_that_is_none_is_refused(queue, priority):
    with pytest.raises(UsageError, match="whole number"):
        submit(queue, "a", priority=priority)
    submit(queue, "b")
    if priority is not None:
        with pytest.raises(UsageError, match="whole number"):
            queue.prioritise("b", priority=priority)


@pytest.mark.parametrize("name", ["", "\ud800", "x" * 2000, 7])
def test_an_id_that_is_none_is_refused(queue, name):
    with pytest.raises(UsageError, match="id of a job"):
        submit(queue, name)


def test_what_is_not_json_is_refused_and_changes_nothing(queue):
    with pytest.raises(UsageError, match="JSON"):
        queue.submit(prompt={"1": object()}, targets=[])
    assert queue.remaining() == 0


def test_a_known_id_replaces_a_job_that_has_ended(queue):
    (first,) = submit(queue, "a")
    queue.claim()
    queue.finish("a", "done", outputs={"1": {}})
    (second,) = submit(queue, "a")
    assert second.sequence > first.sequence
    assert (second.state, second.outputs) == ("pending", {})
    assert queue.history() == []


@pytest.mark.parametrize("state", ["pending", "running"])
def test_a_known_id_of_a_job_that_has_not_ended_is_a_conflict(queue, state):
    submit(queue, "a")
    if state == "running":
        queue.claim()
    with pytest.raises(Conflict, match=state):
        submit(queue, "a")


def test_a_sequence_is_never_used_twice(queue):
    (first,) = submit(queue, "a")
    queue.cancel("a")
    queue.forget()
    (second,) = submit(queue, "a")
    assert second.sequence == first.sequence + 1


def test_a_killed_server_s_job_is_interrupted_and_runs_again_before_the_others(queue):
    submit(queue, "a", "b", client="x")
    submit(queue, "c", client="y", priority=7)
    assert ids(queue.claim()) == ["c"]
    submit(queue, "d", client="z", priority=9)
    again = reopened(queue)
    (job,) = again.recover()
    assert (job.id, job.state, job.attempt) == ("c", "pending", 1)
    assert [(cut["state"], cut["attempt"]) for cut in job.past] == [("interrupted", 1)]
    assert "server" in job.past[0]["reason"]
    assert ids(again.pending()) == ["c", "d", "a", "b"]
    assert taken(again) == ["c", "d", "a", "b"]
    assert again.get("c").attempt == 2
    again.close()


def test_a_job_that_took_the_server_down_twice_is_quarantined_and_the_queue_goes_on(queue):
    submit(queue, "poison", "b")
    for _ in range(2):
        assert ids(queue.claim()) == ["poison"]
        (job,) = queue.recover()
    assert (job.state, job.attempt) == ("quarantined", 2)
    assert job.error["code"] == "quarantined"
    assert [name for name, _ in job.messages] == ["execution_start", "execution_error"]
    assert ids(queue.history()) == ["poison"]
    assert taken(queue) == ["b"]


def test_what_was_cut_short_runs_alone(queue):
    """Else the job beside the poisonous one would be quarantined with it."""
    submit(queue, "poison", "innocent", "c", "d")
    assert ids(queue.claim(2)) == ["poison", "innocent"]
    queue.recover()
    assert ids(queue.claim(2)) == ["poison"]
    queue.recover()
    assert queue.get("poison").state == "quarantined"
    assert ids(queue.claim(2)) == ["innocent"]
    queue.finish("innocent", "done")
    assert ids(queue.claim(2)) == ["c", "d"]


def test_a_job_that_is_not_to_blame_may_be_cut_short_any_number_of_times(queue):
    submit(queue, "a")
    for _ in range(5):
        queue.claim()
        job = queue.requeue("a", counted=False, reason="the server was shut down")
    assert (job.state, job.attempt) == ("pending", 0)
    assert len(job.past) == 5


def test_a_priority_can_be_changed_while_a_job_waits(queue):
    submit(queue, "a", "b", "c")
    assert queue.prioritise("c", priority=1).priority == 1
    assert ids(queue.pending()) == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("moved", "before", "expected"), [("c", "a", "cabd"), ("d", "c", "abdc"), ("a", "d", "bcad"), ("b", "b", "abcd")]
)
def test_a_job_can_be_put_before_another_one(queue, moved, before, expected):
    submit(queue, *"abcd")
    queue.prioritise(moved, before=before)
    assert ids(queue.pending()) == list(expected)
    submit(queue, "e")
    assert taken(queue) == [*expected, "e"]


def test_there_is_always_room_for_one_more_before_another(queue):
    """Also where numbers are equal, or were halved until no float lies between them."""
    submit(queue, *"abc", number=5)
    queue.prioritise("c", before="b")
    assert ids(queue.pending()) == list("acb")
    names = [f"{k}" for k in range(120)]
    submit(queue, *names)
    for name in names:
        queue.prioritise(name, before="b")
    assert ids(queue.pending()) == ["a", "c", *names, "b"]
    submit(queue, "last")
    assert ids(queue.pending())[-1] == "last"


@pytest.mark.parametrize("number", [1e299, -1e299, 2.0**60, 5e-324])
def test_there_is_room_before_numbers_of_any_size(queue, number):
    submit(queue, "a", "b", number=number)
    submit(queue, "x", "y", number=-1e299)
    queue.prioritise("x", before="a")
    queue.prioritise("y", before="b")
    assert [name for name in ids(queue.pending()) if name in "abxy"] == ["x", "a", "y", "b"]


def test_a_job_that_is_put_before_another_client_s_stands_where_that_one_stood(queue):
    submit(queue, "a1", "a2", client="a")
    submit(queue, "b1", "b2", client="b", priority=2)
    queue.prioritise("a2", before="b1")
    assert ids(queue.pending()) == ["a2", "b1", "b2", "a1"]
    assert queue.get("a2").client == "a"


def test_only_what_waits_can_be_moved(queue):
    submit(queue, "a", "b", "c")
    queue.claim()
    for call in ({"priority": 1}, {"before": "b"}):
        with pytest.raises(Conflict, match="running"):
            queue.prioritise("a", **call)
    with pytest.raises(Conflict, match="running"):
        queue.prioritise("b", before="a")
    with pytest.raises(NoSuchJob, match="'x'"):
        queue.prioritise("b", before="x")
    with pytest.raises(UsageError, match="either"):
        queue.prioritise("b")
    queue.requeue("a")
    with pytest.raises(Conflict, match="cut short"):
        queue.prioritise("b", before="a")
    queue.prioritise("a", before="c")
    assert ids(queue.pending()) == ["b", "a", "c"]


def test_history_is_what_was_begun_and_has_ended_as_comfyui_counts_it(queue):
    submit(queue, *"abcde")
    queue.cancel("e")
    for name, state in zip("abcd", ("done", "failed", "interrupted", "done"), strict=True):
        assert ids(queue.claim()) == [name]
        queue.finish(name, state)
    assert ids(queue.history()) == list("abcd")
    assert ids(queue.history(most=2)) == list("cd")
    assert ids(queue.history(most=2, offset=1)) == list("bc")
    assert ids(queue.history(offset=3)) == ["d"]
    assert ids(queue.history(most=9)) == list("abcd")
    assert queue.history(most=0) == []


def test_history_is_in_the_order_of_ending(queue):
    submit(queue, "a", "b")
    queue.claim(2)
    queue.finish("b", "done")
    queue.finish("a", "done")
    assert ids(queue.history()) == ["b", "a"]


def test_only_so_many_ended_jobs_are_remembered_and_none_that_waits_is_forgotten(tmp_path):
    queue = Queue(tmp_path / "q.db", keep=3)
    submit(queue, *(f"{k}" for k in range(8)))
    for _ in range(5):
        queue.finish(queue.claim()[0].id, "done")
    assert ids(queue.history()) == ["2", "3", "4"]
    assert ids(queue.pending()) == ["5", "6", "7"]
    queue.clear()
    assert queue.counts() == {"cancelled": 3}
    queue.close()


def test_ended_jobs_can_be_forgotten(queue):
    submit(queue, *"abc")
    queue.finish(queue.claim()[0].id, "done")
    queue.finish(queue.claim()[0].id, "done")
    assert queue.forget(["a", "c", "x"]) == 1
    assert ids(queue.history()) == ["b"]
    assert queue.forget() == 1
    assert queue.counts() == {"pending": 1}
    assert queue.forget([f"{k}" for k in range(2000)]) == 0  # more than SQLite binds at once


def test_pages_go_back_through_all_jobs_whatever_happens_meanwhile(queue):
    submit(queue, *(f"{k}" for k in range(7)), client="a")
    submit(queue, "other", client="b")
    seen, before = [], None
    while page := queue.page(before=before, limit=3, client="a"):
        seen += ids(page)
        before = page[-1].sequence
        submit(queue, f"new{len(seen)}", client="a")
        queue.claim()
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]
    assert ids(queue.page(states=["pending"], client="b")) in (["other"], [])
    assert len(queue.page(limit=10**9)) == 8 + 3
    assert queue.page(before=10**30, limit=1)[0].sequence == 11


def test_remaining_counts_what_waits_and_what_runs(queue):
    submit(queue, *"abc")
    queue.finish(queue.claim(2)[0].id, "done")
    assert queue.remaining() == 2
    assert ids(queue.running()) == ["b"]


@pytest.mark.parametrize("jump", [-3600, 365 * 86400])
def test_a_clock_that_jumps_changes_no_order(queue, monkeypatch, jump):
    import time

    submit(queue, "a", "b")
    queue.claim()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    submit(queue, "c")
    queue.finish("a", "done")
    assert taken(queue) == ["b", "c"]
    assert ids(queue.history()) == ["a", "b", "c"]
    assert ids(queue.page()) == ["c", "b", "a"]


def test_a_second_server_on_the_same_data_names_the_first(tmp_path):
    code = """
    import sys
    from pathlib import Path
    from limner.core.jobs.queue import Queue
    queue = Queue(Path(sys.argv[1]))
    queue.tell("http://127.0.0.1:8188")
    print("open", flush=True)
    sys.stdin.read()
    """
    first = python(code, tmp_path / "limner.db")
    assert first.stdout.readline() == "open\n"
    with pytest.raises(Busy, match=rf"process {first.pid}, at http://127.0.0.1:8188") as busy:
        Queue(tmp_path / "limner.db")
    assert busy.value.exit_code == 2
    first.kill()
    first.communicate()
    Queue(tmp_path / "limner.db").close()  # the lock has died with its process


def test_a_queue_that_is_closed_can_be_opened_again_in_the_same_process(queue):
    with pytest.raises(Busy, match="process"):
        Queue(queue.path)
    reopened(queue).close()


def test_a_lock_file_of_another_program_does_not_matter(tmp_path):
    (tmp_path / "limner.db.lock").write_text("not JSON")
    queue = Queue(tmp_path / "limner.db")
    with pytest.raises(Busy):
        Queue(tmp_path / "limner.db")
    queue.close()


@pytest.mark.parametrize("damage", ["noise", "page", "cut"])
def test_a_damaged_queue_is_refused_with_what_to_do_and_left_as_it_is(queue, damage):
    submit(queue, *(f"{k}" for k in range(200)))
    queue.close()
    content = bytearray(queue.path.read_bytes())
    if damage == "noise":
        content[:] = b"\x17" * len(content)
    elif damage == "page":
        content[8192:12288] = b"\x17" * 4096
    else:
        del content[len(content) // 2 :]
    queue.path.write_bytes(content)
    with pytest.raises(QueueUnreadable, match=r"is damaged .* rename it .* \.recover"):
        Queue(queue.path)
    assert queue.path.read_bytes() == content
    queue.path.rename(queue.path.with_suffix(".bad"))
    Queue(queue.path).close()  # the lock is free, and an empty queue begins


def test_a_queue_of_a_later_version_is_refused(queue):
    submit(queue, "a")
    queue.close()
    with sqlite3.connect(queue.path) as other:
        other.execute("PRAGMA user_version = 9")
    other.close()
    before = queue.path.read_bytes()
    with pytest.raises(QueueUnreadable, match=r"later version of Limner \(format 9"):
        Queue(queue.path)
    assert queue.path.read_bytes() == before


def test_the_database_of_another_program_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "limner.db") as other:
        other.execute("CREATE TABLE jobs (id)")
    other.close()
    with pytest.raises(QueueUnreadable, match="another program"):
        Queue(tmp_path / "limner.db")


def test_a_full_disk_refuses_a_job_and_loses_none(queue):
    submit(queue, "a")
    size = queue.path.with_name("limner.db-wal").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, before[1]))
    try:
        with pytest.raises(StorageError, match=r"limner\.db"):
            queue.submit(prompt={"1": "x" * 100_000}, targets=[], id="b")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert queue.get("b") is None
    submit(queue, "c")
    again = reopened(queue)
    assert ids(again.pending()) == ["a", "c"]
    again.close()


def test_a_disk_that_is_full_and_one_that_may_only_be_read_are_told_apart(queue):
    queue._db.execute("PRAGMA max_page_count = 5")
    with pytest.raises(StorageError, match="the disk is full"):
        queue.submit(prompt={"1": "x" * 1_000_000}, targets=[])
    queue._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageError, match="may only be read"):
        submit(queue, "a")
    assert queue.remaining() == 0


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        Queue(tmp_path / "file" / "limner.db")
