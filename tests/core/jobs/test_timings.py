"""Timings: what a node is expected to take, from what nodes like it took."""

import pytest
from limner.core.jobs import timings as module
from limner.core.jobs.timings import Timings


def test_nothing_is_expected_of_what_has_never_run():
    assert Timings().expect("KSampler", {"steps": 20}) is None


def test_a_node_is_expected_to_take_what_it_took_with_these_constants():
    timings = Timings()
    timings.note("KSampler", {"steps": 20, "seed": 1, "model": ["4", 0]}, 2.0)
    timings.note("KSampler", {"steps": 50, "seed": 1, "model": ["4", 0]}, 5.0)
    assert timings.expect("KSampler", {"steps": 20, "seed": 7, "model": ["9", 0]}) == 2.0
    assert timings.expect("KSampler", {"steps": 50, "noise_seed": 3}) == 5.0


def test_others_of_its_type_stand_for_a_node_with_new_constants():
    timings = Timings()
    timings.note("KSampler", {"steps": 20}, 2.0)
    timings.note("KSampler", {"steps": 50}, 5.0)
    assert 2.0 < timings.expect("KSampler", {"steps": 30}) < 5.0
    assert timings.expect("VAEDecode", {}) is None


def test_the_latest_times_count_most():
    timings = Timings()
    for seconds in [10.0] * 5 + [1.0] * 10:
        timings.note("A", {}, seconds)
    assert timings.expect("A", {}) == pytest.approx(1.0, abs=0.3)


def test_values_that_look_alike_are_told_apart():
    timings = Timings()
    timings.note("A", {"x": 1}, 1.0)
    timings.note("A", {"x": "1"}, 9.0)
    assert timings.expect("A", {"x": 1}) == 1.0


def test_timings_outlive_a_restart(tmp_path):
    timings = Timings(tmp_path / "timings.db")
    timings.note("A", {"x": 1}, 3.0)
    timings.close()
    again = Timings(tmp_path / "timings.db")
    assert again.expect("A", {"x": 1}) == 3.0
    assert again.expect("A", {"x": 2}) == 3.0
    again.close()


def test_timings_are_bounded_and_the_oldest_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEEP", 10)
    timings = Timings(tmp_path / "timings.db")
    for k in range(50):
        timings.note("A", {"x": k}, float(k))
    timings.close()
    again = Timings(tmp_path / "timings.db")
    assert again.expect("A", {"x": 49}) == 49.0
    average = again.expect("A", {"x": 0})
    assert average not in (0.0, None)  # what stands for all of its type
    again.close()


def test_a_table_that_cannot_be_written_costs_nothing_but_the_memory(tmp_path):
    (tmp_path / "file").touch()
    timings = Timings(tmp_path / "file" / "timings.db")
    timings.note("A", {}, 1.0)
    timings.close()
    assert timings.expect("A", {}) == 1.0
