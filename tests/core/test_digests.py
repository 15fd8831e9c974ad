"""What files hash to: read once, and again whenever somebody has written to them."""

import hashlib
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from limner.core import digests
from limner.core.digests import Digests


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def known(tmp_path):
    return Digests(tmp_path / "cache" / "digests.db")


@pytest.fixture
def read(monkeypatch):
    """The names of the files that are read."""
    names: list[str] = []
    hashed = digests.file_digest
    monkeypatch.setattr(
        digests, "file_digest", lambda file, kind: names.append(Path(file.name).name) or hashed(file, kind)
    )
    return names


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_text("one")
    return path


def test_a_file_hashes_to_its_sha256(known, file):
    assert known.of(file) == sha256("one")


def test_a_file_is_read_once_by_all_processes(known, file, read, tmp_path):
    assert known.known(file) is None
    assert {known.of(file), known.of(file), known.known(file)} == {sha256("one")}
    assert Digests(tmp_path / "cache" / "digests.db").of(file) == sha256("one")
    assert read == ["a.safetensors"]


def overwritten(path):
    path.write_text("two!")


def replaced(path):
    (path.parent / "new").write_text("two!")
    (path.parent / "new").replace(path)


def disguised(path):
    """Another content of the same size, at the same place, with the same time."""
    before = path.stat()
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(("change", "content"), [(overwritten, "two!"), (replaced, "two!"), (disguised, "two")])
def test_a_file_that_changed_is_read_again(known, file, change, content):
    known.of(file)
    change(file)
    assert known.known(file) is None
    assert known.of(file) == sha256(content)


def folder(path, **files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
    return path


FILES = {"config.json": "{}", "model.safetensors": "w", "vocab.txt": "a b", "sub/merges.txt": "c"}


def test_a_folder_hashes_to_what_its_files_are_called_and_hold(known, tmp_path):
    one = known.of(folder(tmp_path / "one", **FILES))
    assert known.of(folder(tmp_path / "two", **FILES)) == one
    for name in FILES:
        assert (
            known.of(folder(tmp_path / f"without {name[:3]}", **{k: v for k, v in FILES.items() if k != name})) != one
        )
        assert known.of(folder(tmp_path / f"other {name[:3]}", **FILES | {name: "other"})) != one
    assert known.of(folder(tmp_path / "swapped", **FILES | {"config.json": "w", "model.safetensors": "{}"})) != one
    renamed = {("vocabulary.txt" if k == "vocab.txt" else k): v for k, v in FILES.items()}
    assert known.of(folder(tmp_path / "renamed", **renamed)) != one
    assert known.of(folder(tmp_path / "described", **FILES, **{"README.md": "x", ".gitattributes": "x"})) == one


def test_in_a_folder_only_what_changed_is_read_again(known, tmp_path, read):
    path = folder(tmp_path / "one", **FILES)
    before = known.of(path)
    assert known.known(path) == before
    (path / "vocab.txt").write_text("a b c")
    assert known.known(path) is None
    read.clear()
    assert known.of(path) != before
    assert read == ["vocab.txt"]


# --------------------------------------------------------------------------------------------- in the background


@pytest.fixture
def gate(monkeypatch):
    """Hashing waits until this is set."""
    gate = threading.Event()
    hashed = digests.file_digest
    monkeypatch.setattr(digests, "file_digest", lambda *a: gate.wait(10) and hashed(*a))
    return gate


def test_a_hash_is_computed_beside_what_else_is_done(known, file, gate):
    stand_in = known.begin(file)
    assert known.known(file) is None
    assert stand_in == known.stand_in(file)
    gate.set()
    assert known.content(stand_in) == sha256("one")
    assert known.known(file) == sha256("one")


def test_whoever_needs_a_hash_that_was_begun_waits_for_it(known, file, read):
    known.begin(file)
    known.begin(file)
    assert known.of(file) == sha256("one")
    assert read == ["a.safetensors"]


def test_a_file_that_is_written_to_while_it_is_hashed_has_no_hash_under_its_old_name(known, file, gate):
    stand_in = known.begin(file)
    file.write_text("something else")
    gate.set()
    assert known.content(stand_in) is None
    assert known.of(file) == sha256("something else")


def test_a_file_that_has_gone_before_it_was_hashed_has_none(known, file, gate):
    other = file.with_name("other")
    other.write_text("x")
    known.begin(other)
    stand_in = known.begin(file)
    file.unlink()
    gate.set()
    assert known.content(stand_in) is None
    assert known.content("never begun") is None


# ------------------------------------------------------------------------------------------- the memory of it


@pytest.mark.parametrize("how", ["damaged", "from the future"])
def test_a_memory_that_cannot_be_read_is_set_aside_and_another_begun(file, tmp_path, read, how):
    index = tmp_path / "cache" / "digests.db"
    index.parent.mkdir()
    if how == "damaged":
        index.write_bytes(b"not a database, but long enough to be one: " * 100)
    else:
        with sqlite3.connect(index) as future:
            future.executescript("CREATE TABLE digests (other); PRAGMA user_version = 9;")
        future.close()
    assert Digests(index).of(file) == sha256("one")
    assert Digests(index).of(file) == sha256("one")
    assert read == ["a.safetensors"]
    assert index.with_name("damaged-digests.db").exists()


def test_without_a_memory_hashes_are_computed_all_the_same(file, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    known = Digests(tmp_path / "cache" / "digests.db")
    assert known.of(file) == known.known(file) == sha256("one")
