"""Numbers, seeds, texts and choices."""

from __future__ import annotations

import pytest
from limner.core.schema import SEED_LIMIT, Need
from limner.nodes.number import number, seed_list, switch, true_or_false, whole_number
from limner.nodes.text import join_text, text


def test_a_value_is_what_was_set():
    assert (whole_number(3), number(0.5), text("é"), true_or_false(value=True)) == (3, 0.5, "é", True)


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        ("1..4", (1, 2, 3, 4)),
        ("3, 7, 10..12", (3, 7, 10, 11, 12)),
        (" 5 \n6\n\n, 7 .. 8 ,", (5, 6, 7, 8)),
        ("9, 9", (9, 9)),
        (f"{SEED_LIMIT}", (SEED_LIMIT,)),
        ("0..255", tuple(range(256))),
    ],
)
def test_seeds_are_listed_and_ranged(words, seeds):
    assert seed_list(words).values == seeds


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "there must be from 1 to 256 seeds, not 0"),
        ("1..200, 1..200", "there must be from 1 to 256 seeds, not 400"),
        ("4..1", r"'4\.\.1' is not a range of at most 256 seeds"),
        ("0..256", r"'0\.\.256' is not a range"),
        ("one", "'one' is not a seed: a whole number from 0 to 9007199254740991"),
        ("-1", "'-1' is not a seed"),
        ("1.5", "'1.5' is not a seed"),
        ("5..", "'' is not a seed"),
        (f"{SEED_LIMIT + 1}", "is not a seed"),
    ],
)
def test_what_is_no_seed_is_named(words, said):
    with pytest.raises(ValueError, match=said):
        seed_list(words)


@pytest.mark.parametrize(("condition", "chosen"), [(True, "if_true"), (False, "if_false")])
def test_a_switch_asks_for_the_chosen_input_only(condition, chosen):
    work = switch(condition)
    assert next(work) == Need(chosen)
    with pytest.raises(StopIteration) as end:
        work.send("the value")
    assert end.value.value == "the value"


def test_a_switch_with_nothing_plugged_in_says_so():
    work = switch(condition=True)
    next(work)
    with pytest.raises(ValueError, match="the condition is true, and nothing is plugged in there"):
        work.send(None)


def test_a_false_value_is_something():
    work = switch(condition=True)
    next(work)
    with pytest.raises(StopIteration) as end:
        work.send(0)
    assert end.value.value == 0


def test_texts_are_joined_and_empty_ones_left_out():
    assert join_text("a cat", "", "3d style") == "a cat, 3d style"
    assert join_text("a", "b", between="") == "ab"
    assert join_text() == ""
