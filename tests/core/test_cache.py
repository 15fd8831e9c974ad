"""What is kept, what goes first, and what a second look at the disk finds."""

import threading
from typing import Annotated

import pytest
import torch
from limner.core.cache import OVERHEAD, WRITE_SPEED, WRITE_START, Cache
from limner.core.graph import Instance
from limner.core.plan import Fingerprint, plan, resettled
from limner.core.schema import ModelFile, node
from limner.core.store import Store
from limner.core.values import Image, LatentFormat, Model, Recipe, Sampling


@node("test")
def number(value: str = "") -> int:
    return 0


@node("test", cached=False)
def clock(value: str = "") -> int:
    return 0


@node("test")
def load(name: Annotated[str, ModelFile("unet")] = "a") -> int:
    return 0


NODES = {n.id: n for n in (number, clock, load)}
SECOND = 10.0  # more than any result here costs to store


def step(name, kind="Number", salt="salt"):
    graph = {"x": Instance(f"limner.{kind}", {"value": name})}
    return plan(graph, NODES, ["x"], salt=lambda _: salt).steps["x"]


def picture(size, value=0.5):
    """A result that counts as `size` bytes."""
    return (Image(torch.full(((size - OVERHEAD) // 4,), value)),)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "results")
    yield store
    store.close()


def kept(cache, names):
    return [name for name in names if cache.where(step(name))]


# ---------------------------------------------------------------------------------------------- in memory


def test_what_is_put_is_had_and_what_was_not_put_is_not():
    cache = Cache()
    cache.put(step("a"), (1,), SECOND)
    assert cache.get(step("a")) == (1,)
    assert cache.where(step("a")) == "memory"
    assert cache.get(step("b")) is None
    assert cache.where(step("b")) is None


def test_the_bytes_of_what_is_kept_never_exceed_the_budget():
    cache = Cache(10_000)
    for k in range(50):
        cache.put(step(str(k)), picture(1500 + 40 * k), SECOND)
        assert 0 < cache.bytes <= 10_000
    cache.clear()
    assert cache.bytes == 0


def test_a_result_larger_than_the_budget_is_not_kept_and_drops_nothing():
    cache = Cache(5000)
    cache.put(step("a"), picture(2000), SECOND)
    cache.put(step("b"), picture(6000), 100 * SECOND)
    assert kept(cache, "ab") == ["a"]


def test_a_result_put_again_counts_once():
    cache = Cache()
    for _ in range(3):
        cache.put(step("a"), picture(2000), SECOND)
    assert cache.bytes == 2000


def test_the_cheapest_for_its_size_goes_first():
    cache = Cache(9000)
    cache.put(step("dear"), picture(2000), 9.0)
    cache.put(step("large"), picture(5000), 4.0)
    cache.put(step("small"), picture(2000), 2.0)  # cheaper than the large one, not for its size
    cache.put(step("new"), picture(2000), 5.0)
    assert kept(cache, ["dear", "large", "small", "new"]) == ["dear", "small", "new"]
    cache.put(step("newer"), picture(5000), 30.0)
    assert kept(cache, ["dear", "small", "new", "newer"]) == ["dear", "new", "newer"]


def test_among_equals_the_one_that_was_used_stays():
    cache = Cache(6000)
    for name in "abc":
        cache.put(step(name), picture(2000), 1.0)
    cache.put(step("d"), picture(2000), 1.0)  # drops a, and raises the clock
    cache.get(step("b"))
    cache.put(step("e"), picture(2000), 1.0)
    assert kept(cache, "abcde") == ["b", "d", "e"]


def test_what_was_dear_once_and_is_never_used_goes_in_the_end():
    cache = Cache(6000)
    cache.put(step("dear"), picture(2000), 5.0)
    for k in range(20):
        cache.put(step(str(k)), picture(2000), 1.0)
    assert kept(cache, ["dear"]) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_result_with_a_value_that_is_no_number_is_not_kept(bad, store):
    cache = Cache(store=store)
    cache.put(step("a"), picture(2000, bad), SECOND)
    assert cache.where(step("a")) is None


def test_models_count_next_to_nothing():
    cache = Cache()
    model = Model(Recipe("unet", "/a", "0" * 64, "{}"), Sampling(), LatentFormat(4, 8))
    cache.put(step("a"), (model,), SECOND)
    assert cache.bytes == OVERHEAD


def test_a_node_that_always_runs_has_no_result_to_keep(store):
    cache = Cache(store=store)
    cache.put(step("a", "Clock"), (1,), SECOND, shown=True)
    assert cache.where(step("a", "Clock")) is None


def test_dropping_and_forgetting_give_the_room_back(store):
    cache = Cache(store=store)
    cache.put(step("a"), picture(2000), SECOND)
    cache.put(step("b"), picture(2000), SECOND)
    cache.drop(step("a"))
    cache.drop(step("never there"))
    assert cache.bytes == 2000
    assert cache.where(step("a")) == "disk"
    cache.clear()
    assert [cache.where(step(n)) for n in "ab"] == [None, None]


def test_what_is_being_made_is_released_by_its_maker_alone():
    cache, maker, other = Cache(), object(), object()
    assert cache.begin(step("a"), maker)
    assert cache.begin(step("b"), maker)
    cache.release(other, step("a"))
    assert not cache.begin(step("a"), other)
    cache.release(maker, step("a"))
    assert cache.begin(step("a"), other)
    assert not cache.begin(step("b"), other)
    cache.release(maker)
    assert not cache.begin(step("a"), maker)
    assert cache.begin(step("b"), other)


def test_threads_share_a_cache():
    def work():
        for k in range(200):
            cache.put(step(str(k % 7)), picture(1500), 1.0)
            cache.get(step(str(k % 5)))

    cache = Cache(6000)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.bytes == 1500 * len(kept(cache, map(str, range(7))))


# ------------------------------------------------------------------------------------------------ on disk


def test_a_second_cache_finds_on_disk_what_the_first_one_kept(store):
    Cache(store=store).put(step("a"), picture(2000, 0.25), SECOND)
    second = Cache(store=store)
    assert second.where(step("a")) == "disk"
    assert second.get(step("a"))[0].pixels[0] == 0.25
    assert second.where(step("a")) == "memory"


@pytest.mark.parametrize("salt", ["other", None])
def test_what_was_made_by_other_code_or_elsewhere_is_a_miss(store, salt):
    Cache(store=store).put(step("a"), (1,), SECOND)
    assert Cache(store=store).where(step("a", salt=salt)) is None


def test_what_is_quicker_to_make_than_to_store_is_not_stored_unless_it_is_shown(store):
    cache = Cache(store=store)
    size = 1_000_000
    cost = WRITE_START + 2 * (size - OVERHEAD) / WRITE_SPEED
    cache.put(step("quick"), picture(size), cost * 0.99)
    cache.put(step("slow"), picture(size), cost * 1.01)
    cache.put(step("shown"), picture(size), 0.0, shown=True)
    found = Cache(store=store)
    assert kept(found, ["quick", "slow", "shown"]) == ["slow", "shown"]


def test_a_cache_without_a_disk_keeps_in_memory_alone():
    cache = Cache()
    cache.put(step("a"), (1,), SECOND, shown=True)
    cache.drop(step("a"))
    assert cache.get(step("a")) is None


# ---------------------------------------------------------------------------- files whose hash comes later


def awaited(name="a"):
    """A step whose file is known by a stand-in, and the same once its content is known."""
    planned = plan({"x": Instance("limner.Load", {"name": name})}, NODES, ["x"],
                   lambda _, n: Fingerprint(f"stand-in {n}", settled=False), lambda _: "salt")  # fmt: skip
    return planned.steps["x"], resettled(planned, lambda _: Fingerprint("content"), lambda _: "salt")["x"]


@pytest.mark.parametrize("seconds", [0.0, SECOND])
def test_when_the_hash_arrives_a_result_is_known_by_it_and_stored_if_it_is_worth_it(store, seconds):
    cache = Cache(store=store)
    before, after = awaited()
    cache.put(before, picture(2000), seconds)
    assert store.info()["results"] == 0
    cache.rekey(before, after)
    assert cache.where(before) is None
    assert cache.where(after) == "memory"
    assert cache.bytes == 2000
    assert store.info()["results"] == (1 if seconds else 0)


def test_what_was_shown_is_stored_when_the_hash_arrives(store):
    cache = Cache(store=store)
    before, after = awaited()
    cache.put(before, picture(2000), 0.0, shown=True)
    cache.rekey(before, after)
    assert Cache(store=store).where(after) == "disk"


def test_a_result_that_has_gone_meanwhile_is_not_missed(store):
    cache = Cache(store=store)
    cache.rekey(*awaited())
    assert cache.bytes == 0
