"""Disks that are full, files that are damaged, folders that go away, programs that are killed while they write."""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from server_process import entry, picture, serving, temporary, until

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's ways to make faults")]

SMALL = "24m"  # of a disk


def small_disk(folder):
    """A command that has what it begins see a small disk at `folder`, which nobody else does."""
    trial = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    if subprocess.run(trial, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    mount = f'mount -t tmpfs -o size={SMALL} tmpfs "$0" && exec "$@"'
    return ("unshare", "-rm", "sh", "-c", mount, str(folder))


def noise(prefix, size, seed=0):
    """A prompt that writes a large picture."""
    save = entry("SaveImage", images=["1", 0], filename_prefix=prefix)
    return {"1": entry("FaultyNoise", size=size, seed=seed), "2": save}


def fill(folder):
    """Leave no byte on the disk."""
    with (folder / "filling").open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


@pytest.mark.parametrize("words", [(), ("--workers", "1")], ids=["in process", "a worker"])
def test_a_full_disk_fails_jobs_refuses_new_ones_and_loses_none(tmp_path, words):
    with serving(tmp_path, *words, around=small_disk(tmp_path)) as server:
        seen = server.base = Path(f"/proc/{server.pid}/root{tmp_path}")
        server.well()
        earlier = server.run(noise("earlier", 64))
        fill_up = seen / "ballast"
        fill_up.write_bytes(bytes(max(0, shutil.disk_usage(seen).free - (2 << 20))))
        job = server.run(noise("large", 1024))  # takes 4 MB
        assert (job["state"], job["error"]["node"], job["error"]["code"]) == ("failed", "2", "cannot_write")
        assert "the disk is full" in job["error"]["message"]
        assert not list(seen.rglob("large*"))
        assert not temporary(seen)

        accepted = [server.post(picture("accepted")) for _ in range(3)]
        fill(seen)
        refused = 0
        for k in range(40):  # each with a text of its own, so that what is free in the database is used up
            status, answer = server.ask("/prompt", {"prompt": picture("late"), "extra_data": {"text": str(k) * 20_000}})
            if status == 200:
                accepted.append(answer["prompt_id"])
            else:
                refused += 1
                assert (status, answer["error"]["type"]) == (507, "cannot_write")
                assert "the disk is full" in answer["error"]["message"]
        assert refused
        assert server.ask("/queue")[0] == 200

        (seen / "filling").unlink()
        fill_up.unlink()
        assert {server.ended(name)["state"] for name in accepted} <= {"done", "failed"}
        (shown,) = earlier["outputs"]["2"]["images"]
        with Image.open(seen / "output" / shown["filename"]) as opened:
            opened.load()
        server.well()
        assert sum(server.ask("/history")[1].keys() >= {name} for name in accepted) == len(accepted)


def test_an_output_folder_that_goes_away_is_made_anew_and_one_that_cannot_be_is_named(tmp_path):
    with serving(tmp_path) as server:
        server.well()
        shutil.rmtree(tmp_path / "output")
        server.well()
        shutil.rmtree(tmp_path / "output")
        (tmp_path / "output").write_text("in the way")
        job = server.run(picture())
        assert (job["state"], job["error"]["code"], job["error"]["node"]) == ("failed", "cannot_write", "2")
        assert "output" in job["error"]["message"]
        (tmp_path / "output").unlink()
        server.well()


def test_an_output_folder_that_may_only_be_read_is_named(tmp_path):
    """Mounted so: root may write wherever it is merely asked not to."""
    small_disk(tmp_path)
    mount = 'mkdir -p "$0/output" && mount -t tmpfs -o ro tmpfs "$0/output" && exec "$@"'
    with serving(tmp_path, around=("unshare", "-rm", "sh", "-c", mount, str(tmp_path))) as server:
        job = server.run(picture())
        assert (job["state"], job["error"]["code"], job["error"]["node"]) == ("failed", "cannot_write", "2")
        assert "output" in job["error"]["message"]
        assert "read-only" in job["error"]["message"]
        assert server.health()["status"] == "ok"


def kept(base):
    """Databases and results that may be lost."""
    cache = base / "cache"
    return [path for path in (*cache.rglob("*.db"), *cache.rglob("*.safetensors"), base / "events.db") if path.exists()]


def noisy(path):
    path.write_bytes(os.urandom(path.stat().st_size or 100))


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def of_the_future(path):
    if path.suffix == ".db":
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 999")
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                db.execute(f"ALTER TABLE {table} RENAME TO {table}_later")
        db.close()


@pytest.mark.parametrize("damage", [noisy, cut_off, emptied, of_the_future])
def test_a_damaged_cache_costs_a_recompute_and_never_a_wrong_picture(tmp_path, damage):
    prompt = noise("kept", 128, seed=3)
    with serving(tmp_path) as server:
        first = server.run(prompt)
        server.well()
        server.end()
    found = kept(tmp_path)
    assert {path.name for path in found} >= {"index.db", "events.db", "timings.db"}
    for path in found:
        for side in ("-wal", "-shm"):
            path.with_name(path.name + side).unlink(missing_ok=True)
        damage(path)
    with serving(tmp_path) as server:
        job = server.run(prompt)
        assert job["state"] == "done"
        pictures = [tmp_path / "output" / j["outputs"]["2"]["images"][0]["filename"] for j in (first, job)]
        with Image.open(pictures[0]) as one, Image.open(pictures[1]) as other:
            assert one.tobytes() == other.tobytes()
        server.well()
        assert server.ask("/limner/jobs")[0] == 200
        assert "Traceback" not in "".join(server.log)


@pytest.mark.parametrize("damage", [noisy, cut_off])
def test_a_damaged_queue_is_refused_with_what_to_do_and_left_as_it_is(tmp_path, damage):
    with serving(tmp_path) as server:
        server.run(picture())
        server.end()
    queue = tmp_path / "limner.db"
    damage(queue)
    before = queue.read_bytes()
    command = [sys.executable, "-m", "limner", "serve", "--port", "0", "--base-directory", str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 1
    assert said.stderr.startswith("limner: ")
    assert "limner.db" in said.stderr
    assert "Traceback" not in said.stderr
    assert queue.read_bytes() == before
    queue.rename(tmp_path / "aside.db")  # as it says
    with serving(tmp_path) as server:
        server.well()


def test_a_server_that_is_killed_while_it_saves_leaves_whole_pictures_and_nothing_else(tmp_path):
    prompt = noise("large", 4096)
    with serving(tmp_path) as server:
        whole = server.run(noise("whole", 64))["outputs"]["2"]["images"][0]["filename"]
        name = server.post(prompt)
        until(lambda: temporary(tmp_path))
        server.kill()
        assert temporary(tmp_path), "it was killed in the middle of that"
        assert [path.name for path in (tmp_path / "output").iterdir() if not path.name.startswith(".")] == [whole]
        server.begin()
        job = server.ended(name)
        assert (job["state"], job["attempt"]) == ("done", 2)
        until(lambda: not temporary(tmp_path))
        for path in (tmp_path / "output").iterdir():
            with Image.open(path) as opened:
                opened.load()
        assert len(list((tmp_path / "output").iterdir())) == 2
        server.well()


def test_what_another_program_is_writing_is_not_swept_away_when_a_server_starts(tmp_path):
    writer = """
import sys, time
from pathlib import Path
from limner.core.files import numbered
def fill(path):
    path.write_bytes(b"half")
    print("begun", flush=True)
    sys.stdin.readline()
numbered(Path(sys.argv[1]), "mine", ".txt", fill)
"""
    with subprocess.Popen(
        [sys.executable, "-c", writer, tmp_path / "output"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        other.stdout.readline()
        with serving(tmp_path) as server:
            server.run(picture())
            time.sleep(0.5)  # for what must not happen
            assert temporary(tmp_path)
            other.communicate("\n")
            assert (tmp_path / "output" / "mine_00001.txt").read_text() == "half"
            server.well()


def test_a_server_that_can_open_no_more_files_says_so_and_recovers(tmp_path):
    with serving(tmp_path) as server:
        server.well()
        limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        used = sum(1 for _ in Path(f"/proc/{server.pid}/fd").iterdir())
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used, limits[1]))
        for _ in range(3):
            try:
                status = server.ask("/prompt", {"prompt": picture()}, patience=1)[0]
            except OSError:  # it takes no connection
                continue
            assert status in (200, 503, 507)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
        time.sleep(1.5)  # asyncio looks again after a second
        server.well()


def test_a_server_that_is_ended_keeps_what_waits_and_takes_no_more(tmp_path):
    (tmp_path / "gate").mkdir()
    with serving(tmp_path) as server:
        gate = entry("FaultyGate", folder=str(tmp_path / "gate"), steps=1, pause=0.01)
        running, *waiting = [server.post({"1": gate}), *(server.post(picture("waited")) for _ in range(3))]
        until((tmp_path / "gate" / "begun").exists)
        began = time.monotonic()
        assert server.end(signal.SIGTERM) == 143
        assert time.monotonic() - began < 10
        (tmp_path / "gate" / "go").touch()
        server.begin()
        jobs = [server.ended(name) for name in (running, *waiting)]
        assert [job["state"] for job in jobs] == ["done"] * 4
        assert [job["attempt"] for job in jobs] == [1] * 4, "ending in good order counts for nothing"
        ends = [job["ended"] for job in jobs]
        assert ends == sorted(ends)
        server.well()
