"""Files are written whole or not at all, under names that nobody else has, inside their folder."""

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hostile_paths import HARMLESS, HOSTILE
from limner.core import files
from limner.core.errors import StorageError, UsageError
from limner.core.files import numbered, opened, placed, reason, replacing, safe_join, sweep, write


def temporary_files(folder):
    return [p for p in folder.rglob("*") if ".tmp" in p.name]


# ---------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="is no file name"):
        safe_join(tmp_path, name)


@pytest.mark.parametrize("name", HARMLESS, ids=ascii)
def test_a_plain_name_leads_where_it_says(tmp_path, name):
    path = safe_join(tmp_path, name)
    assert path == tmp_path.joinpath(*name.split("/"))
    write(path, "x")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_a_folder_beside_the_root_whose_name_begins_alike_is_outside(tmp_path):
    (tmp_path / "output-evil").mkdir()
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "link").symlink_to(tmp_path / "output-evil")
    with pytest.raises(UsageError, match="leads out of"):
        safe_join(tmp_path / "output", "link/a.png")


@pytest.mark.parametrize("target", ["/etc", "/etc/passwd", "..", "../..", "/nowhere", "."])
def test_a_link_is_followed_only_within_the_root(tmp_path, target):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(target)
    for name in ("link", "link/a", "link/a/b"):
        if target == ".":
            assert safe_join(root, name).resolve().is_relative_to(root)
        else:
            with pytest.raises(UsageError, match="leads out of"):
                safe_join(root, name)


def test_a_link_to_itself_leads_nowhere(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match="leads out of"):
        safe_join(tmp_path, "loop")


def test_a_root_that_is_itself_a_link_is_a_root(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to("real")
    assert safe_join(tmp_path / "root", "a.png") == tmp_path / "root" / "a.png"


# --------------------------------------------------------------------------------------------------------- plain files


def test_a_file_is_read_by_its_name(tmp_path):
    write(tmp_path / "a" / "b.png", "x")
    with opened(tmp_path, "a/b.png") as file:
        assert file.read() == b"x"


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_what_leads_elsewhere_is_not_opened(tmp_path, name):
    with pytest.raises(UsageError):
        opened(tmp_path, name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_folders_pipes_and_sockets_are_not_read(tmp_path):
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "socket.png"))
        before = open_files()
        for name in ("folder.png", "pipe.png", "socket.png", "gone.png", "gone/a.png"):
            with pytest.raises(OSError):  # noqa: PT011 - of whichever kind
                opened(tmp_path, name)
        assert open_files() == before


def test_links_are_opened_where_they_stay_inside(tmp_path):
    root = tmp_path / "root"
    write(root / "a.png", "inside")
    write(tmp_path / "b.png", "outside")
    (root / "in.png").symlink_to("a.png")
    (root / "out.png").symlink_to(tmp_path / "b.png")
    with opened(root, "in.png") as file:
        assert file.read() == b"inside"
    with pytest.raises(UsageError, match="leads out of"):
        opened(root, "out.png")


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="needs files opened without following links")
def test_a_link_that_takes_a_files_place_at_the_last_moment_is_not_followed(tmp_path, monkeypatch):
    root = tmp_path / "root"
    write(root / "a.png", "inside")
    write(tmp_path / "b.png", "outside")
    system = os.open

    def late(path, *rest, **options):
        (root / "a.png").unlink()
        (root / "a.png").symlink_to(tmp_path / "b.png")
        return system(path, *rest, **options)

    monkeypatch.setattr(files.os, "open", late)
    with pytest.raises(OSError):  # noqa: PT011 - ELOOP, or EMLINK on BSD
        opened(root, "a.png")


def open_files():
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


# ----------------------------------------------------------------------------------------------- whole or not at all


def test_a_file_is_replaced_when_the_block_ends_well(tmp_path):
    path = tmp_path / "new" / "a.json"
    write(path, "one")
    with replacing(path) as temporary:
        temporary.write_text("two")
        assert path.read_text() == "one"
        assert (temporary.parent, temporary.suffix) == (path.parent, path.suffix)
    assert path.read_text() == "two"
    assert temporary_files(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError(errno.ENOSPC, "no"), GeneratorExit])
def test_what_fails_half_way_leaves_the_file_as_it_was(tmp_path, error):
    path = tmp_path / "a"
    write(path, "one")
    with pytest.raises(StorageError if isinstance(error, OSError) else error), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert path.read_text() == "one"
    assert temporary_files(tmp_path) == []


@pytest.mark.parametrize("content", ["é\n", b"\xff\x00", ""])
def test_text_and_bytes_are_written_as_they_are(tmp_path, content):
    write(tmp_path / "a", content)
    assert (tmp_path / "a").read_bytes() == (content.encode() if isinstance(content, str) else content)


def test_a_file_has_the_rights_that_the_user_gives_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "a", "x")
        numbered(tmp_path, "b", ".txt", lambda path: path.write_text("x"))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {0o640}


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only file system"), (errno.EACCES, "permission denied")],
)
def test_a_disk_that_refuses_says_which_file_and_why(tmp_path, monkeypatch, code, words):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(StorageError) as caught:
        write(tmp_path / "a.png", "x")
    assert str(caught.value) == f"cannot write {tmp_path / 'a.png'}: {words}"
    with pytest.raises(StorageError):
        numbered(tmp_path, "b", ".png", Path.touch)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_really_full_leaves_nothing(tmp_path):
    code = """
import resource, signal, sys
from pathlib import Path
from limner.core.errors import StorageError
from limner.core.files import numbered, write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
folder = Path(sys.argv[1])
write(folder / "small", b"x" * 1000)
large = b"x" * 5000
for act in (lambda: write(folder / "a", large), lambda: numbered(folder, "b", ".png", lambda p: p.write_bytes(large))):
    try:
        act()
    except StorageError as error:
        print(error)
"""
    printed = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True).stdout
    assert printed.count("file too large") == 2
    assert [p.name for p in tmp_path.iterdir()] == ["small"]


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path):
    write(tmp_path / "file", "x")
    with pytest.raises(StorageError, match=r"file exists|not a directory"):
        write(tmp_path / "file" / "a", "x")


def test_a_folder_that_is_removed_while_a_file_is_written_is_an_error_of_ours(tmp_path):
    with pytest.raises(StorageError), replacing(tmp_path / "new" / "a") as temporary:  # noqa: PT012
        temporary.unlink()
        temporary.parent.rmdir()


def test_a_program_that_is_killed_while_it_writes_leaves_no_picture(tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from limner.core.files import numbered, write
folder = Path(sys.argv[1])
write(folder / "a.png", "whole")
def fill(path):
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
numbered(folder, "a", ".png", fill)
"""
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9
    seen = [p for p in tmp_path.iterdir() if not p.name.startswith(".")]
    assert [(p.name, p.read_text()) for p in seen] == [("a.png", "whole")]


WRITER = """
import sys, time
from pathlib import Path
from limner.core.files import numbered

def fill(path):
    path.write_bytes(b"half a picture")
    print("begun", flush=True)
    time.sleep(60)

numbered(Path(sys.argv[1]), "a/cat", ".png", fill)
"""


def test_what_a_program_that_was_killed_has_left_is_swept_away_and_nothing_else(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("cat_00007.png", ".hidden", ".0123456789abcdef", "0123456789abcdef.tmp", ".0123456789abcdef.tmpx"):
        (tmp_path / "a" / name).touch()
    before = set(tmp_path.rglob("*"))
    with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        (temporary,) = set(tmp_path.rglob("*")) - before
        assert sweep(tmp_path) == 0, "somebody writes to it"
        assert temporary.exists()
        writer.kill()
        writer.wait()
        assert sweep(tmp_path) == 1
    assert set(tmp_path.rglob("*")) == before
    assert sweep(tmp_path / "gone") == 0


def test_a_link_in_the_place_of_an_unfinished_file_is_left_alone(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / ".0123456789abcdef.tmp.png").symlink_to("file")
    assert sweep(tmp_path) == 0
    assert (tmp_path / "file").exists()


def test_a_file_that_is_being_written_may_be_replaced_and_read_by_others(tmp_path):
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("x")
        assert sweep(tmp_path) == 0
    assert (tmp_path / "a").read_text() == "x"


def test_reasons_are_words():
    assert reason(OSError(errno.ENOSPC, "No space left on device")) == "the disk is full"
    assert reason(OSError(errno.EACCES, "Permission denied")) == "permission denied"
    assert reason(OSError("odd")) == "odd"


# ------------------------------------------------------------------------------------------------------ the first free


def names(folder):
    return (folder / f"a{k}" for k in range(3))


def test_a_file_takes_the_first_name_that_is_free(tmp_path):
    write(tmp_path / "a0", "another's")
    path = placed(tmp_path / "a0", names(tmp_path), filled("mine"))
    assert (path.name, path.read_text(), (tmp_path / "a0").read_text()) == ("a1", "mine", "another's")
    assert temporary_files(tmp_path) == []


def test_a_file_that_is_there_already_is_not_written_again(tmp_path):
    write(tmp_path / "a0", "another's")
    write(tmp_path / "a1", "mine")
    path = placed(tmp_path / "a0", names(tmp_path), filled("mine"), lambda path: path.read_text() == "mine")
    assert path.name == "a1"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a0", "a1"]


def test_where_no_name_is_free_nothing_is_overwritten(tmp_path):
    write(tmp_path / "a", "another's")
    with pytest.raises(StorageError, match="every name for it is taken"):
        placed(tmp_path / "a", [tmp_path / "a"], filled("mine"))
    assert [p.read_text() for p in tmp_path.iterdir()] == ["another's"]


# ------------------------------------------------------------------------------------------------------ numbered files


def filled(text):
    return lambda path: path.write_text(text)


def test_numbers_count_on_from_the_last(tmp_path):
    names = [numbered(tmp_path, "a", ".png", filled("x")).name for _ in range(3)]
    assert names == ["a_00001.png", "a_00002.png", "a_00003.png"]
    write(tmp_path / "a_00041.png", "x")
    (tmp_path / "a_00001.png").unlink()
    assert numbered(tmp_path, "a", ".png", filled("x")).name == "a_00042.png"


def test_other_names_and_other_kinds_are_not_counted(tmp_path):
    for name in (
        "b_00007.png",
        "a_00007.jpg",
        "a_x.png",
        "aa_00007.png",
        "a_00007.png.txt",
        "a-00007.png",
        "xa_00007.png",
    ):
        write(tmp_path / name, "x")
    assert numbered(tmp_path, "a", ".png", filled("x")).name == "a_00001.png"


def test_five_digits_are_the_least(tmp_path):
    write(tmp_path / "a_99999.png", "x")
    assert numbered(tmp_path, "a", ".png", filled("x")).name == "a_100000.png"


def test_a_prefix_may_hold_what_means_something_to_a_pattern(tmp_path):
    for _ in range(2):
        last = numbered(tmp_path, "a(.+)[b]$", ".png", filled("x"))
    assert last.name == "a(.+)[b]$_00002.png"


def test_a_prefix_may_lead_into_folders(tmp_path):
    path = numbered(tmp_path, "one/two/a", ".png", filled("x"))
    assert path == tmp_path / "one" / "two" / "a_00001.png"
    assert numbered(tmp_path, "one/two/a", ".png", filled("x")).name == "a_00002.png"


@pytest.mark.parametrize("prefix", ["../a", "/tmp/a", "a/../../b", "a\\b", "a:b", "x" * 240, "\ud800"])
def test_a_prefix_that_leads_elsewhere_is_refused_and_nothing_is_made(tmp_path, prefix):
    with pytest.raises(UsageError):
        numbered(tmp_path / "root", prefix, ".png", filled("x"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_appears_meanwhile_is_never_overwritten(tmp_path):
    def fill(path):
        path.write_text("mine")
        for k in (1, 2):
            write(tmp_path / f"a_{k:05}.png", "another's")

    files._last_number, before = lambda *_: 0, files._last_number
    try:
        assert numbered(tmp_path, "a", ".png", fill).name == "a_00003.png"
    finally:
        files._last_number = before
    assert [(tmp_path / f"a_{k:05}.png").read_text() for k in (1, 2, 3)] == ["another's", "another's", "mine"]
    assert temporary_files(tmp_path) == []


def test_what_fails_while_it_is_filled_takes_no_number(tmp_path):
    def fail(path):
        path.write_text("half")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the very one
        numbered(tmp_path, "a", ".png", fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False], ids=["with links", "without"])
def test_eight_threads_get_eight_times_eight_files(tmp_path, monkeypatch, links):
    def no_links(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:  # as on exFAT
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    made: list[Path] = []
    threads = [
        threading.Thread(
            target=lambda k=k: made.extend(numbered(tmp_path, "a", ".png", filled(f"{k} {n}")) for n in range(8))
        )
        for k in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 64
    assert {p.read_text() for p in made} == {f"{k} {n}" for k in range(8) for n in range(8)}
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a_{k:05}.png" for k in range(1, 65)]


def test_two_processes_get_files_of_their_own(tmp_path):
    code = """
import sys
from pathlib import Path
from limner.core.files import numbered
for k in range(100):
    numbered(Path(sys.argv[1]), "a", ".png", lambda path: path.write_text(sys.argv[2]))
"""
    both = [subprocess.Popen([sys.executable, "-c", code, tmp_path, name]) for name in "xy"]
    assert [process.wait() for process in both] == [0, 0]
    texts = [p.read_text() for p in tmp_path.glob("a_*.png")]
    assert (texts.count("x"), texts.count("y")) == (100, 100)
