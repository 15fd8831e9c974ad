"""Pictures with captions, ready to train on: every scene of every picture as latents, every caption as vectors.

A batch is a pure function of (seed, step), so a run that is taken up again sees what it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .captions import SCENES, Concept, captions, held_out_style
from .language import Embedded, padded
from .scenes import compose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .emoji import Picture


@dataclass(frozen=True, slots=True)
class Pair:
    """A concept in a style, and whether the model may see it."""

    concept: Concept
    style: str
    held_out: bool


@dataclass(frozen=True, slots=True)
class Texts:
    """All captions of a data set, and which of them each scene of each picture may bear."""

    captions: tuple[str, ...]  # the empty one first
    choices: tuple[tuple[tuple[tuple[int, ...], tuple[float, ...]], ...], ...]  # [picture][scene]: indices, weights


@dataclass(frozen=True, slots=True)
class Corpus:
    """What the network is trained on."""

    latents: Tensor  # (P, S, C, h, w) float16: pictures by scenes
    pairs: tuple[Pair, ...]  # P of them
    texts: Texts
    embedded: Embedded


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step sees."""

    latents: Tensor  # (N, C, h, w) float32
    tokens: Tensor  # (N, T, D)
    mask: Tensor  # (N, T) bool
    pooled: Tensor  # (N, D)


def pairs_of(pictures: Sequence[Picture]) -> tuple[Pair, ...]:
    """The pairs of these pictures, in their order."""
    styles: dict[str, list[str]] = {}
    for picture in pictures:
        styles.setdefault(picture.concept.code, []).append(picture.style)
    held = {picture.concept.code: held_out_style(picture.concept, styles[picture.concept.code]) for picture in pictures}
    return tuple(
        Pair(picture.concept, picture.style, held[picture.concept.code] == picture.style) for picture in pictures
    )


def texts_of(pairs: Sequence[Pair], tags: Mapping[str, Sequence[str]]) -> Texts:
    """Every caption that these pairs may bear, each once."""
    index: dict[str, int] = {"": 0}
    choices = []
    for pair in pairs:
        scenes = []
        for scene in SCENES:
            found = captions(pair.concept, pair.style, scene, tags.get(pair.concept.code, ()))
            rows = tuple(index.setdefault(text, len(index)) for text, _ in found)
            scenes.append((rows, tuple(weight for _, weight in found)))
        choices.append(tuple(scenes))
    return Texts(tuple(index), tuple(choices))


def composed(picture: Picture) -> npt.NDArray[np.uint8]:
    """Every scene of a picture, (S, 64, 64, 3)."""
    return np.stack([compose(picture.full, picture.small, scene) for scene in SCENES])


def to_pixels(scenes: npt.NDArray[np.uint8]) -> Tensor:
    """Bytes (..., H, W, 3) to (..., 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(scenes).movedim(-1, -3).float() / 127.5 - 1


def batch(  # noqa: PLR0913 - which pictures, which step, and how they are drawn
    corpus: Corpus,
    rows: Sequence[int],
    step: int,
    *,
    size: int,
    seed: int = 0,
    dropped: float = 0.1,
) -> Batch:
    """What a step sees: size of the pictures in rows, each in some scene under some caption, a part of them empty.

    Epochs are walked through in shuffled order, so every picture is seen equally often.
    """
    draw = np.random.default_rng([seed, step])
    places = np.arange(step * size, (step + 1) * size)
    order = {
        int(epoch): np.random.default_rng([seed, 1, int(epoch)]).permutation(len(rows))
        for epoch in np.unique(places // len(rows))
    }
    pictures = [rows[order[int(place) // len(rows)][int(place) % len(rows)]] for place in places]
    weights = np.array([scene.weight for scene in SCENES])
    scenes = draw.choice(len(SCENES), size, p=weights / weights.sum())
    words = []
    for picture, scene, uniform in zip(pictures, scenes, draw.random(size), strict=True):
        choices, odds = corpus.texts.choices[picture][int(scene)]
        words.append(choices[min(int(np.searchsorted(np.cumsum(odds), uniform)), len(choices) - 1)])
    words = [0 if drop < dropped else row for row, drop in zip(words, draw.random(size), strict=True)]
    latents = corpus.latents[torch.as_tensor(pictures), torch.as_tensor(scenes)].float()
    return Batch(latents, *padded(corpus.embedded, words))
