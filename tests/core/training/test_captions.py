"""Concepts, splits and captions."""

import pytest
from limner.core.training.captions import (
    SCENES,
    Concept,
    Scene,
    captions,
    distinct_tags,
    held_out_style,
    held_out_words,
    phrase,
    read_concepts,
)

CONCEPTS = read_concepts()
STYLES = ("noto", "twemoji", "fluent", "flat", "3d", "emojione")


def test_at_least_300_concepts_are_known_each_once_and_in_other_words():
    assert len(CONCEPTS) >= 300
    assert len({concept.code for concept in CONCEPTS}) == len({concept.name for concept in CONCEPTS}) == len(CONCEPTS)
    assert all(concept.words and all(concept.words) for concept in CONCEPTS)


def test_no_other_words_are_another_concepts_name():
    names = {concept.name for concept in CONCEPTS}
    assert not [words for concept in CONCEPTS for words in concept.words if words in names]


def test_a_split_is_the_same_whatever_the_order_of_styles_and_the_other_concepts():
    for concept in CONCEPTS:
        assert held_out_style(concept, STYLES) == held_out_style(concept, STYLES[::-1])


def test_about_eight_in_a_hundred_pairs_are_held_out_and_of_no_concept_more_than_one():
    held = [held_out_style(concept, STYLES) for concept in CONCEPTS]
    assert 0.05 < sum(style is not None for style in held) / (len(CONCEPTS) * len(STYLES)) < 0.11
    assert {style for style in held if style} == set(STYLES)


def test_a_concept_with_one_style_is_never_held_out():
    assert all(held_out_style(concept, STYLES[:1], pairs=1.0) is None for concept in CONCEPTS)


def test_held_out_words_are_in_no_caption():
    held = [concept for concept in CONCEPTS if held_out_words(concept)]
    assert len(held) > 100
    for concept in held:
        texts = [text for scene in SCENES for text, _ in captions(concept, "noto", scene, ("tag",))]
        assert held_out_words(concept) not in {text.split(",")[0] for text in texts}


def test_tags_of_several_concepts_and_held_out_words_are_not_used():
    frog, toad = Concept("1", "frog", ("hopper",)), Concept("2", "toad", ("brown hopper",))
    tags = {"1": ["pond", "croak", "toad"], "2": ["pond", "wart"]}
    assert distinct_tags(tags, [frog, toad]) == {"1": ("croak",), "2": ("wart",)}


@pytest.mark.parametrize("scene", SCENES)
def test_the_weights_of_captions_sum_to_one(scene):
    for style in (None, "flat"):
        found = captions(CONCEPTS[0], style, scene, ("tag", "other"))
        assert sum(weight for _, weight in found) == pytest.approx(1.0)
        assert len({text for text, _ in found}) == len(found)


def test_captions_say_what_is_seen():
    frog = Concept("1F438", "frog", ("green toad",))

    def texts(scene: Scene) -> list[str]:
        return [text for text, _ in captions(frog, "flat", scene)]

    assert texts(SCENES[0]) == [
        "a frog", "frog", "green toad", "a frog, flat style", "frog, flat style", "green toad, flat style"
    ]  # fmt: skip
    assert texts(Scene(background="blue")) == ["a frog on a blue background", "a frog on a blue background, flat style"]
    assert texts(Scene(small=True)) == ["a small frog", "a small frog, flat style"]
    assert texts(Scene(small=True, place="on the left")) == ["a frog on the left", "a frog on the left, flat style"]


def test_most_pictures_are_plain():
    assert 0.55 < SCENES[0].weight / sum(scene.weight for scene in SCENES) < 0.75


@pytest.mark.parametrize(
    ("name", "said"),
    [("frog", "a frog"), ("apple", "an apple"), ("unicorn", "a unicorn"), ("ufo", "a ufo"), ("grapes", "grapes"),
     ("french fries", "french fries"), ("octopus", "an octopus"), ("bus", "a bus"), ("dress", "a dress"),
     ("magnifying glass", "a magnifying glass"), ("scissors", "scissors")],
)  # fmt: skip
def test_a_name_takes_its_article(name, said):
    assert phrase(name) == said
