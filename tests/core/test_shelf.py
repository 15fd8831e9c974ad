"""Workflows on the shelf: whole or not at all, never overwritten unseen, their last versions kept."""

import threading

import pytest
from limner.core.errors import LimnerError, UsageError
from limner.core.shelf import KEPT, NotThere, Outdated, Shelf, Unseen, revision


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path / "workflows")


def test_an_empty_shelf_has_no_folder_yet(shelf):
    assert shelf.all() == []
    assert not shelf.folder.exists()


def test_what_is_put_there_is_read_again(shelf):
    stored, created = shelf.put("cats/red.json", b"one")
    assert created
    assert shelf.read("cats/red.json") == (stored, b"one")
    assert stored.revision == revision(b"one")
    assert (stored.path, stored.size) == ("cats/red.json", 3)
    assert shelf.all() == [stored]


def test_files_that_people_put_there_are_listed_and_others_are_not(shelf):
    (shelf.folder / "a").mkdir(parents=True)
    for name in ("b.json", "a/c.json", ".hidden.json", "notes.txt"):
        (shelf.folder / name).write_text("{}")
    (shelf.folder / "out.json").symlink_to("/etc/passwd")
    assert [stored.path for stored in shelf.all()] == ["a/c.json", "b.json"]


def test_a_revision_is_replaced_by_who_has_seen_it(shelf):
    first, _ = shelf.put("a.json", b"one")
    second, created = shelf.put("a.json", b"two", first.revision)
    assert not created
    assert shelf.read("a.json") == (second, b"two")


def test_who_has_seen_another_revision_replaces_nothing_and_is_told_the_current_one(shelf):
    first, _ = shelf.put("a.json", b"one")
    second, _ = shelf.put("a.json", b"two", first.revision)
    with pytest.raises(Outdated, match="changed meanwhile") as caught:
        shelf.put("a.json", b"three", first.revision)
    assert caught.value.current == second.revision
    assert shelf.read("a.json")[1] == b"two"


def test_who_does_not_say_what_he_has_seen_overwrites_nothing(shelf):
    first, _ = shelf.put("a.json", b"one")
    for act in (lambda: shelf.put("a.json", b"two"), lambda: shelf.delete("a.json")):
        with pytest.raises(Unseen) as caught:
            act()
        assert caught.value.current == first.revision
    assert shelf.read("a.json")[1] == b"one"


def test_what_is_new_takes_nobodys_place(shelf):
    shelf.put("a.json", b"one", new=True)
    with pytest.raises(Outdated, match=r"there is a workflow 'a\.json' already"):
        shelf.put("a.json", b"two", new=True)


def test_a_star_replaces_what_is_there_and_needs_something_there(shelf):
    with pytest.raises(Outdated) as caught:
        shelf.put("a.json", b"one", "*")
    assert caught.value.current is None
    shelf.put("a.json", b"one")
    shelf.put("a.json", b"two", "*")
    assert shelf.read("a.json")[1] == b"two"


def test_an_answer_that_was_lost_can_be_asked_for_again(shelf):
    first, _ = shelf.put("a.json", b"one", new=True)
    assert shelf.put("a.json", b"one", new=True) == (first, False)
    second, _ = shelf.put("a.json", b"two", first.revision)
    assert shelf.put("a.json", b"two", first.revision) == (second, False)
    assert len(shelf.versions("a.json")) == 1


def test_what_was_there_is_a_version_and_can_be_put_back(shelf):
    seen = None
    for content in (b"one", b"two", b"three"):
        seen = shelf.put("a.json", content, seen)[0].revision
    latest, oldest = shelf.versions("a.json")
    assert (latest.number, oldest.number) == (2, 1)
    assert shelf.version("a.json", 1) == (oldest, b"one")
    shelf.put("a.json", shelf.version("a.json", 1)[1], seen)
    assert shelf.read("a.json")[1] == b"one"
    assert shelf.version("a.json", 3)[1] == b"three"


def test_a_version_keeps_the_time_at_which_it_was_written(shelf):
    first, _ = shelf.put("a.json", b"one")
    shelf.put("a.json", b"two", "*")
    assert shelf.versions("a.json")[0].modified == pytest.approx(first.modified, abs=0.01)


@pytest.mark.parametrize("count", [5, KEPT, KEPT + 1, KEPT + 5])
def test_the_last_versions_are_kept_and_keep_their_numbers(shelf, count):
    for k in range(count + 1):
        shelf.put("a.json", b"%d" % k, "*" if k else None)
    numbers = [version.number for version in shelf.versions("a.json")]
    assert numbers == list(range(count, max(0, count - KEPT), -1))


def test_a_workflow_that_is_deleted_can_be_had_again(shelf):
    stored, _ = shelf.put("cats/a.json", b"one")
    shelf.delete("cats/a.json", stored.revision)
    assert shelf.all() == []
    assert not (shelf.folder / "cats").exists()
    (version,) = shelf.versions("cats/a.json")
    assert shelf.version("cats/a.json", version.number)[1] == b"one"
    with pytest.raises(NotThere):
        shelf.delete("cats/a.json", stored.revision)


def test_what_somebody_wrote_by_hand_becomes_a_version_too(shelf):
    shelf.put("a.json", b"one")
    (shelf.folder / "a.json").write_bytes(b"by hand")
    shelf.put("a.json", b"two", revision(b"by hand"))
    assert shelf.version("a.json", 1)[1] == b"by hand"


@pytest.mark.parametrize("name", ["a.json", "b/a.json"])
def test_what_is_not_there_is_said_to_be_not_there(shelf, name):
    for act in (shelf.read, shelf.versions, lambda n: shelf.version(n, 1)):
        with pytest.raises(NotThere, match=name):
            act(name)


@pytest.mark.parametrize(
    "name",
    ["../a.json", "/etc/a.json", ".versions/a.json", "a/.b/c.json", "a", "a.txt", "a.json/b.json", "", "a.json/"],
)
def test_no_name_leads_anywhere_else(shelf, name):
    for act in (shelf.read, shelf.delete, shelf.versions, lambda n: shelf.put(n, b"x"), lambda n: shelf.version(n, 1)):
        with pytest.raises(UsageError):
            act(name)
    assert not shelf.folder.exists()


def test_of_many_who_replace_one_revision_one_does(shelf):
    first, _ = shelf.put("a.json", b"start")
    outcomes = []
    start = threading.Barrier(8)

    def write(k):
        start.wait()
        try:
            outcomes.append(shelf.put("a.json", b"by %d" % k, first.revision))
        except LimnerError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(not isinstance(outcome, Outdated) for outcome in outcomes) == 1
    assert [version.revision for version in shelf.versions("a.json")] == [first.revision]
