"""Scenes, texts and batches, on pictures made up in place."""

import numpy as np
import torch
from limner.core.training.captions import BACKGROUNDS, SCENES, Concept, Scene
from limner.core.training.dataset import Corpus, batch, composed, pairs_of, texts_of, to_pixels
from limner.core.training.emoji import Picture
from limner.core.training.language import Embedded, padded
from limner.core.training.scenes import compose

STYLES = ("noto", "flat", "3d")
CONCEPTS = tuple(Concept(f"{k:X}", f"thing{k}", (f"word{k}", f"other{k}")) for k in range(40))


def square(size: int, alpha: int = 255) -> np.ndarray:
    made = np.zeros((size, size, 4), np.uint8)
    made[..., 0], made[..., 3] = 200, alpha
    return made


def pictures() -> list[Picture]:
    return [Picture(concept, style, square(64), square(36)) for concept in CONCEPTS for style in STYLES]


def corpus() -> Corpus:
    pairs = pairs_of(pictures())
    texts = texts_of(pairs, {})
    count = len(texts.captions)
    lengths = torch.arange(count) % 5 + 2
    starts = torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)))
    tokens = torch.arange(int(starts[-1]))[:, None].expand(-1, 4) % 997
    embedded = Embedded(tokens.half(), starts, torch.arange(count)[:, None].float())
    latents = torch.arange(len(pairs))[:, None, None, None, None].expand(-1, len(SCENES), 2, 2, 2).half()
    return Corpus(latents, pairs, texts, embedded)


def test_a_plain_scene_fills_the_frame_on_white():
    assert (compose(square(64), square(36), SCENES[0]) == (200, 0, 0)).all()
    assert (compose(square(64, alpha=0), square(36), SCENES[0]) == 255).all()


def test_a_background_shows_through_what_is_half_transparent():
    made = compose(square(64, alpha=51), square(36), Scene(background="blue"))
    expected = 0.2 * np.array([200, 0, 0]) + 0.8 * np.array(BACKGROUNDS["blue"])
    assert np.abs(made - expected).max() <= 0.5


def test_a_place_is_where_it_says():
    for place, edge in (("on the left", np.s_[:, 1:5]), ("on the right", np.s_[:, 58:62]), ("at the top", np.s_[1:5]),
                        ("at the bottom", np.s_[58:62])):  # fmt: skip
        painted = (compose(square(64), square(36), Scene(small=True, place=place)) == (200, 0, 0)).all(-1)
        assert painted.sum() == 36 * 36
        assert painted[edge].any()


def test_pixels_run_from_minus_one_to_one():
    pixels = to_pixels(composed(pictures()[0]))
    assert pixels.shape == (len(SCENES), 3, 64, 64)
    assert -1 <= pixels.min() < pixels.max() <= 1


def test_held_out_pairs_are_the_ones_the_hash_says_and_never_all_of_a_concept():
    pairs = pairs_of(pictures())
    held = [pair for pair in pairs if pair.held_out]
    assert held
    assert len({pair.concept.code for pair in held}) == len(held)


def test_a_batch_depends_on_nothing_but_its_step():
    data = corpus()
    rows = [row for row, pair in enumerate(data.pairs) if not pair.held_out]
    one, two = batch(data, rows, 7, size=16), batch(data, rows, 7, size=16)
    for name in ("latents", "tokens", "mask", "pooled"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert not torch.equal(one.latents, batch(data, rows, 8, size=16).latents)


def test_an_epoch_shows_every_picture_once_and_no_other():
    data = corpus()
    rows = list(range(0, len(data.pairs), 3))
    seen = torch.cat([batch(data, rows, step, size=8).latents[:, 0, 0, 0] for step in range(len(rows) // 8 * 3)])
    counts = torch.bincount(seen[: len(rows)].long(), minlength=len(data.pairs))
    assert counts[rows].tolist() == [1] * len(rows)
    assert counts.sum() == len(rows)


def test_captions_belong_to_their_pictures_and_a_part_of_them_is_empty():
    data = corpus()
    rows = list(range(len(data.pairs)))
    empty = 0
    for step in range(20):
        found = batch(data, rows, step, size=32, dropped=0.25)
        for picture, text in zip(found.latents[:, 0, 0, 0].long(), found.pooled[:, 0].long(), strict=True):
            said = data.texts.captions[int(text)]
            empty += said == ""
            number = data.pairs[int(picture)].concept.name.removeprefix("thing")
            assert said == "" or f"thing{number}" in said or f"word{number}" in said or f"other{number}" in said
    assert 0.15 < empty / 640 < 0.35


def test_texts_stand_side_by_side_with_a_mask_where_there_is_nothing():
    starts = torch.tensor([0, 2, 5])
    tokens, mask, pooled = padded(Embedded(torch.ones(5, 4).half(), starts, torch.ones(2, 4).half()), [1, 0])
    assert mask.tolist() == [[True, True, True], [True, True, False]]
    assert tokens.shape == (2, 3, 4)
    assert torch.equal(tokens.sum(-1) > 0, mask)
    assert pooled.dtype == tokens.dtype == torch.float32
