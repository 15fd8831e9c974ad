"""What the default model is told about its pictures: concepts, scenes, captions, and which of them are held out.

Pure functions of names; a split is a hash of names, so it never moves when concepts are added.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

BACKGROUNDS: Mapping[str, tuple[int, int, int]] = {
    "red": (214, 48, 49),
    "orange": (243, 146, 55),
    "yellow": (250, 219, 94),
    "green": (80, 170, 90),
    "blue": (64, 120, 216),
    "purple": (132, 80, 180),
    "pink": (246, 166, 196),
    "brown": (130, 88, 56),
    "grey": (150, 150, 150),
    "black": (16, 16, 16),
}
PLACES: Mapping[str, tuple[int, int]] = {  # of a small picture's left upper corner, in pixels
    "on the left": (1, 14),
    "on the right": (27, 14),
    "at the top": (14, 1),
    "at the bottom": (14, 27),
}


@dataclass(frozen=True, slots=True)
class Concept:
    """A thing the model can draw."""

    code: str  # its codepoint in hex, as emojibase writes it
    name: str  # what a user calls it
    words: tuple[str, ...]  # other ways to say it


@dataclass(frozen=True, slots=True)
class Scene:
    """How a picture is laid out: filling the frame on white unless told otherwise."""

    background: str | None = None  # a key of BACKGROUNDS
    small: bool = False
    place: str | None = None  # a key of PLACES; small, then
    weight: float = 1.0  # how often it is drawn from


SCENES: tuple[Scene, ...] = (
    Scene(weight=0.64),
    *(Scene(background=colour, weight=0.022) for colour in BACKGROUNDS),
    Scene(small=True, weight=0.04),
    *(Scene(small=True, place=place, weight=0.025) for place in PLACES),
)


def read_concepts(path: Path | None = None) -> tuple[Concept, ...]:
    """The committed list: `code | name | words; words` on each line."""
    lines = (path or Path(__file__).with_name("concepts.txt")).read_text("utf-8").splitlines()
    rows = [[part.strip() for part in line.split("|")] for line in lines if line and not line.startswith("#")]
    return tuple(Concept(code, name, tuple(word.strip() for word in words.split(";"))) for code, name, words in rows)


def share(*parts: str) -> float:
    """A number in [0, 1) that depends on nothing but these words."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def held_out_style(concept: Concept, styles: Sequence[str], pairs: float = 0.08) -> str | None:
    """The one style, if any, in which a concept is never trained on, so that about that share of pairs is held out."""
    if len(styles) < 2 or share("pair", concept.code) >= pairs * len(styles):
        return None
    return min(styles, key=lambda style: share("style", concept.code, style))


def held_out_words(concept: Concept, part: float = 0.4) -> str | None:
    """The paraphrase, if any, that a concept is never trained on."""
    if len(concept.words) < 2 or share("words", concept.code) >= part:
        return None
    return min(concept.words, key=lambda words: share(concept.code, words))


def distinct_tags(tags: Mapping[str, Collection[str]], concepts: Sequence[Concept]) -> Mapping[str, tuple[str, ...]]:
    """The tags, by codepoint, that mean one concept only and are not held-out words of it."""
    counts: dict[str, int] = {}
    for concept in concepts:
        for tag in set(tags.get(concept.code, ())):
            counts[tag] = counts.get(tag, 0) + 1
    taken = {concept.name for concept in concepts} | {held_out_words(concept) for concept in concepts}
    return {
        concept.code: tuple(
            sorted(tag for tag in set(tags.get(concept.code, ())) if counts[tag] == 1 and tag not in taken)
        )
        for concept in concepts
    }


def phrase(name: str) -> str:
    """A name with its article: "a frog", "an apple", "french fries"."""
    last = name.rsplit(maxsplit=1)[-1].lower()
    if last.endswith("s") and not last.endswith(("ss", "us", "bus", "compass", "cactus", "lens")):
        return name
    return f"{'an' if name[0].lower() in 'aeiou' and not name.startswith(('uni', 'uke', 'ufo')) else 'a'} {name}"


def captions(
    concept: Concept, style: str | None, scene: Scene, tags: Sequence[str] = ()
) -> tuple[tuple[str, float], ...]:
    """What a picture may be called, each with its weight; the weights of one picture in one scene sum to 1."""
    named = captions_in(concept, scene, tags)
    if style is None:
        return named
    bare = 0.4 if scene == SCENES[0] else 0.3
    styled = tuple((f"{text}, {style} style", weight) for text, weight in named if text not in tags)
    total = sum(weight for _, weight in styled)
    return (
        *((text, weight * bare) for text, weight in named),
        *((text, weight / total * (1 - bare)) for text, weight in styled),
    )


def captions_in(concept: Concept, scene: Scene, tags: Sequence[str] = ()) -> tuple[tuple[str, float], ...]:
    """Captions without a style."""
    subject = phrase(concept.name)
    if scene.background is not None:
        return ((f"{subject} on a {scene.background} background", 1.0),)
    if scene.place is not None:
        return ((f"{subject} {scene.place}", 1.0),)
    if scene.small:
        return ((f"{_sized(subject, concept.name)}", 1.0),)
    words = [text for text in concept.words if text != held_out_words(concept)]
    groups: list[tuple[list[str], float]] = [([subject], 0.5), ([concept.name], 0.15), (words, 0.25), (list(tags), 0.1)]
    total = sum(weight for texts, weight in groups if texts)
    return tuple((text, weight / total / len(texts)) for texts, weight in groups for text in texts)


def _sized(subject: str, name: str) -> str:
    return f"small {name}" if subject == name else f"a small {name}"
