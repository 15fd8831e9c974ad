"""Results on disk: shared by processes, and whatever becomes of the disk costs a recompute at most."""

import errno
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading

import pytest
import torch
from limner.core import files
from limner.core.index import Index
from limner.core.store import Store
from limner.core.values import Image, Model

KEY, OTHER = "a" * 32, "b" * 32


def picture(value=0.5, side=4):
    return (Image(torch.full((1, side, side, 3), value)),)


def value(outputs):
    return outputs[0].pixels[0, 0, 0, 0].item()


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "results")
    yield store
    store.close()


@pytest.fixture
def full(store):
    """A store with two results."""
    assert store.put(KEY, picture(0.25), 1.0)
    assert store.put(OTHER, picture(0.75), 1.0)
    return store


def again(store):
    """The same folder, as another process would open it."""
    store.close()
    return Store(store.folder, store.budget)


def file_of(store, key=KEY):
    return store.folder / key[:2] / f"{key}.safetensors"


def python(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], stdout=subprocess.PIPE)


def test_what_is_put_can_be_had_again(full):
    assert full.has(KEY)
    assert value(full.get(KEY)) == 0.25
    assert full.get("c" * 32) is None
    assert not full.has("c" * 32)


def test_looking_makes_no_folder(store):
    assert (store.get(KEY), store.has(KEY), store.seen("x"), store.info()["results"]) == (None, False, {}, 0)
    assert not store.folder.exists()


def test_values_without_tensors_are_results_too(store):
    assert store.put(KEY, (1, "a", 2.5, None, (True,)), 1.0)
    assert store.get(KEY) == (1, "a", 2.5, None, (True,))


@pytest.mark.parametrize(
    "outputs", [(object(),), (Model,), ({"a": 1},), (10**5000,)], ids=["object", "type", "dict", "number"]
)
def test_what_is_not_plain_is_not_stored(store, outputs):
    assert not store.put(KEY, outputs, 1.0)
    assert not store.has(KEY)


def test_a_result_put_twice_is_the_later_one_and_counts_once(full):
    assert full.put(KEY, picture(0.5), 1.0)
    assert value(full.get(KEY)) == 0.5
    assert full.info()["results"] == 2


def test_forgetting_leaves_no_file(full):
    full.remember("scope", {"a": {"key": 1}})
    full.clear()
    assert full.info() == {"results": 0, "bytes": 0, "budget": full.budget}
    assert full.get(KEY) is None
    assert not list(full.folder.glob("**/*.safetensors"))
    assert full.seen("scope") == {"a": {"key": 1}}


def test_what_nodes_were_is_remembered_by_workflow(store):
    store.remember("one", {"a": {"key": "1"}, "b": {"key": "2"}})
    store.remember("one", {"a": {"key": "3"}})
    store.remember("two", {})
    assert store.seen("one") == {"a": {"key": "3"}, "b": {"key": "2"}}
    assert store.seen("two") == {}


# ------------------------------------------------------------------------------------------------- room


def test_the_least_recently_used_go_when_the_budget_is_spent(store, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("limner.core.store.time.time", lambda: now.__setitem__(0, now[0] + 1) or now[0])
    keys = [c * 32 for c in "abcd"]
    store.put(keys[0], picture(side=64), 1.0)
    store.budget = int(store.info()["bytes"] * 3.5)
    for key in keys[1:3]:
        store.put(key, picture(side=64), 1.0)
    store.get(keys[0])
    store.put(keys[3], picture(side=64), 1.0)
    assert [store.has(k) for k in keys] == [True, False, True, True]
    assert len(list(store.folder.glob("??/*.safetensors"))) == 3
    assert store.info()["bytes"] <= store.budget


def test_what_exceeds_the_budget_by_itself_is_not_stored_and_drops_nothing(full):
    full.budget = full.info()["bytes"]
    assert not full.put("c" * 32, picture(side=64), 1.0)
    assert full.has(KEY)
    assert full.has(OTHER)


# ----------------------------------------------------------------------------------------------- damage


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {
    "one bit": flipped,
    "cut off": lambda content: content[:-7],
    "empty": lambda _: b"",
    "longer": lambda content: content + b"x",
    "a pickle": lambda _: b"\x80\x04N.",
    "a header of 2**63 bytes": lambda content: (1 << 63).to_bytes(8, "little") + content[8:],
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_set_aside_and_the_others_stay(full, how):
    path = file_of(full)
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    full = again(full)
    assert full.get(KEY) is None
    assert not full.has(KEY)
    assert not path.exists()
    assert (full.folder / f"damaged-{path.name}").exists()
    assert value(full.get(OTHER)) == 0.75
    assert full.put(KEY, picture(0.125), 1.0)
    assert value(full.get(KEY)) == 0.125


def test_a_whole_file_in_anothers_place_is_not_taken_for_it(full):
    shutil.copy(file_of(full, OTHER), file_of(full, KEY))
    assert full.get(KEY) is None
    assert value(full.get(OTHER)) == 0.75


def test_a_file_that_has_gone_is_a_miss(full):
    file_of(full).unlink()
    assert not full.has(KEY)
    assert full.get(KEY) is None
    assert full.info()["results"] == 1


def future(path):
    path.unlink()
    with sqlite3.connect(path) as index:
        index.executescript("CREATE TABLE results (key, content, mood); PRAGMA user_version = 2;")
    index.close()


INDEX_DAMAGE = {
    "random bytes": lambda path: path.write_bytes(bytes(range(256)) * 64),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "overwritten within": lambda path: path.write_bytes(
        path.read_bytes()[:1024] + b"\xff" * (path.stat().st_size - 1024)
    ),
    "from the future": future,
}


@pytest.mark.parametrize("how", INDEX_DAMAGE)
def test_a_damaged_index_is_set_aside_and_the_store_starts_empty(full, how):
    full.close()
    for suffix in ("-wal", "-shm"):
        full.folder.joinpath(f"index.db{suffix}").unlink(missing_ok=True)
    INDEX_DAMAGE[how](full.folder / "index.db")
    full = again(full)
    assert full.get(KEY) is None
    assert full.put(OTHER, picture(0.125), 1.0)
    assert value(again(full).get(OTHER)) == 0.125
    assert (full.folder / "damaged-index.db").exists()
    assert not file_of(full, KEY).exists(), "no index knows it: it would stay for ever"


def test_an_empty_index_is_a_new_one(full):
    full.close()
    for path in full.folder.glob("index.db*"):
        path.write_bytes(b"")
    full = again(full)
    assert full.get(KEY) is None
    assert full.put(KEY, picture(0.125), 1.0)
    assert value(full.get(KEY)) == 0.125


def test_an_index_that_is_busy_is_not_taken_for_a_damaged_one(full, monkeypatch):
    monkeypatch.setattr(
        sqlite3, "connect", lambda *a, connect=sqlite3.connect, **k: connect(*a, **k | {"timeout": 0.01})
    )
    full.close()
    other = sqlite3.connect(full.folder / "index.db")
    other.execute("BEGIN IMMEDIATE")
    assert not full.put("c" * 32, picture(), 1.0)
    assert value(full.get(KEY)) == 0.25  # readers go on
    other.rollback()
    other.close()
    assert full.put("c" * 32, picture(), 1.0)
    assert full.has(KEY)
    assert not (full.folder / "damaged-index.db").exists()


# ------------------------------------------------------------------------------------------ a disk that refuses


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_disk_that_takes_nothing_is_no_error_and_leaves_no_half_of_a_file(full, code, monkeypatch):
    def refuse(*_):
        raise OSError(code, "no")

    monkeypatch.setattr(files.Path, "write_bytes", refuse)
    assert not full.put("c" * 32, picture(), 1.0)
    assert not full.has("c" * 32)
    assert value(full.get(KEY)) == 0.25
    assert len(list(full.folder.rglob("*.safetensors"))) == 2
    assert not list(full.folder.rglob(".*"))


def test_an_index_that_takes_nothing_leaves_no_file_that_nobody_knows(full, monkeypatch):
    change, refused = Index.change, []

    def refuse(index, query, *rows):
        return refused.append(query) or False if "INSERT" in query else change(index, query, *rows)

    monkeypatch.setattr(Index, "change", refuse)
    assert not full.put("c" * 32, picture(), 1.0)
    assert len(refused) == 1
    assert len(list(full.folder.rglob("*.safetensors"))) == 2


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file" / "results")
    assert not store.put(KEY, picture(), 1.0)
    store.remember("scope", {"a": {}})
    store.clear()
    assert (store.get(KEY), store.has(KEY), store.seen("scope"), store.info()["results"]) == (None, False, {}, 0)


# ------------------------------------------------------------------------------------------------- side by side


def test_two_processes_write_one_store_at_once(tmp_path):
    code = """
        import sys
        from pathlib import Path
        import torch
        from limner.core.store import Store
        from limner.core.values import Image
        store, mine = Store(Path(sys.argv[1])), sys.argv[2]
        for k in range(40):
            for key in (f"{k:032}", f"{mine}{k:031}"):
                assert store.put(key, (Image(torch.full((1, 2, 2, 3), float(k))),), 1.0)
                outputs = store.get(key)
                assert outputs is None or outputs[0].pixels[0, 0, 0, 0] == k
    """
    folder = tmp_path / "results"
    both = [python(code, folder, name) for name in "xy"]
    assert [process.communicate() and process.returncode for process in both] == [0, 0]
    store = Store(folder)
    assert store.info()["results"] == 120
    for k in range(40):
        assert [value(store.get(key)) for key in (f"{k:032}", f"x{k:031}", f"y{k:031}")] == [k, k, k]
    store.close()
    assert not list(folder.rglob("damaged*"))


def test_threads_share_a_store(store):
    def work(k):
        for n in range(10):
            store.put(f"{n:032}", picture(n / 16), 1.0)
            if (outputs := store.get(f"{n:032}")) is not None:
                seen.append(value(outputs) == n / 16)

    seen = []
    threads = [threading.Thread(target=work, args=[k]) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(seen)
    assert store.info()["results"] == 10
