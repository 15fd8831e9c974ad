"""The judge, and what is counted, on pictures made up in place."""

import pytest
import torch
from limner.core.training import score
from limner.core.training.captions import Concept, held_out_words
from limner.core.training.classifier import Judge, Lesson, jitter, learn, ranks
from limner.core.training.dataset import Pair
from limner.core.training.report import replaced, table


class Oracle(torch.nn.Module):
    """Says what stands in the first pixel."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return -(pixels[:, 0, 0, 0, None] * 10 - torch.arange(10)).abs()


def numbered(*values: int) -> torch.Tensor:
    return (torch.tensor(values) / 10)[:, None, None, None].expand(-1, 3, 8, 8)


def test_a_rank_counts_the_concepts_preferred_to_the_true_one():
    found = ranks(Oracle(), numbered(3, 3, 3, 3), torch.tensor([3, 4, 5, 0]), range(10))
    assert found.tolist() == [0, 1, 3, 5]
    assert ranks(Oracle(), numbered(3), torch.tensor([5]), [5, 6, 7]).tolist() == [0]


def test_the_floor_is_what_chance_gives():
    asked = [score.Prompt("", k) for k in range(10)]
    drawn = numbered(*range(10))[:, None].expand(-1, 3, -1, -1, -1)
    found = score.judged(Oracle(), drawn, asked, range(10))
    assert (found["top1"], found["top5"]) == (100.0, 100.0)
    assert found["floor_top1"] < 50


def test_a_near_copy_is_one_that_lies_within_the_bound():
    training = numbered(0, 5)
    near = training + 2 * 10 ** (-(score.NEAR + 1) / 20)
    far = training + 2 * 10 ** (-(score.NEAR - 1) / 20)
    assert score.copies(near, training) == 100.0
    assert score.copies(torch.cat((near, far)), training) == 50.0


def test_spread_is_the_distance_between_seeds_and_white_is_one_from_black():
    black, white = -torch.ones(4, 1, 3, 8, 8), torch.ones(4, 1, 3, 8, 8)
    assert score.spread(torch.cat((black, white), 1)) == 1.0
    assert score.spread(torch.cat((white, white), 1)) == 0.0


def test_what_is_asked_for_is_split_into_seen_and_held_out():
    concepts = [Concept(f"{k:X}", f"thing{k}", (f"word{k}", f"other{k}")) for k in range(60)]
    pairs = [Pair(c, style, held_out=style == "flat" and k % 2 == 0)
             for k, c in enumerate(concepts) for style in ("noto", "flat")]  # fmt: skip
    names = [concept.name for concept in concepts]
    among = score.chosen(pairs, names, 20)
    assert len(among) == 20
    assert all(k % 2 == 0 for k in among)
    found = score.prompts(pairs, names, among)
    assert {p.text.split(", ")[1] for p in found["held-out pairs"]} == {"flat style"}
    assert {p.text.split(", ")[1] for p in found["seen pairs"]} == {"noto style"}
    assert [p.concept for p in found["seen pairs"]] == sorted(among)
    words = {held_out_words(concepts[k]) for k in among} - {None}
    assert {p.text for p in found["held-out paraphrases"]} == words


def test_a_judge_learns_to_tell_colours_apart():
    torch.manual_seed(0)
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    pixels = colours[:, :, None, None].expand(-1, -1, 32, 32)
    judge = Judge(3, (8, 8, 16, 16))
    for _ in learn(judge, pixels, torch.arange(3), Lesson(steps=30, batch=9, rate=2e-2)):
        pass
    assert ranks(judge, pixels, torch.arange(3), range(3)).tolist() == [0, 0, 0]


def test_jitter_moves_pictures_and_fills_with_white():
    picture = torch.ones(6, 3, 64, 64)
    picture[:, :, 16:48, 16:48] = -1
    moved = jitter(picture, torch.Generator().manual_seed(0))
    assert moved.shape == picture.shape
    assert not torch.equal(moved, picture)
    corners = moved[:, :, :4, :4]
    assert corners.mean() > 0.5
    assert moved.abs().max() <= 1


def test_the_table_holds_every_number_of_the_score():
    row = {"prompts": 7, "top1": 61.5, "top5": 83.25, "floor_top1": 1.5, "floor_top5": 5.5, "near_copies": 12.5,
           "spread": 0.123}  # fmt: skip
    found = {
        "use": {"sampler": "ddim", "scheduler": "karras", "steps": 20, "guidance": 3.0},
        "seeds": [1, 2],
        "concepts": 100,
        "ceiling": {"top1": 91.25, "top5": 97.0},
        "ceiling through the autoencoder": {"top1": 90.5, "top5": 96.5},
        "groups": {"seen pairs": row},
    }
    text = table(found)
    for number in (*row.values(), 91.25, 97.0, 90.5, 96.5):
        assert f"| {number} |" in text
    assert "ddim with 20 steps (karras), guidance 3." in text


def test_a_text_takes_the_place_between_its_marks_and_no_other():
    document = "a\n<!-- score -->\nold\n<!-- /score -->\nb\n<!-- concepts -->\n\n<!-- /concepts -->\n"
    once = replaced(document, "score", "new")
    assert once == document.replace("old", "new")
    assert replaced(once, "score", "new") == once
    with pytest.raises(ValueError, match="marked 'grid'"):
        replaced(document, "grid", "new")


@pytest.mark.parametrize("together", [1, 3])
def test_prompts_that_are_drawn_together_are_drawn_as_if_alone(together):
    found = score.draw(toy(), ["a", "b", "c"], [1, 2], score.Use(steps=4), together=together)
    torch.testing.assert_close(found, score.draw(toy(), ["a", "b", "c"], [1, 2], score.Use(steps=4), together=2))
    assert found.shape == (3, 2, 3, 64, 64)


def toy() -> score.Shipped:
    """A model whose network leans on the text, and an encoder that makes the text's letters its tokens."""
    from limner.core.values import Conditioning, LatentFormat, Model, Recipe, Sampling

    class Encoder:
        def encode(self, texts):
            numbers = [float(sum(map(ord, text))) / 100 for text in texts]
            return [Conditioning(torch.full((1, 2 + len(t), 4), n), None, torch.full((1, 4), n))
                    for t, n in zip(texts, numbers, strict=True)]  # fmt: skip

    class Decoder:
        def decode(self, z):
            return torch.nn.functional.interpolate(z[:, :3], scale_factor=8).tanh()

    def network(x, timesteps, context, mask, vector):
        lean = (context * mask[..., None]).sum((1, 2)) / mask.sum(1)
        return 0.1 * x + 0.01 * (lean + vector.sum(1))[:, None, None, None]

    model = Model(Recipe("unet", "", "", ""), Sampling("v", "linear", 1e-4, 0.02), LatentFormat(16, 8))
    return score.Shipped(model, network, Decoder(), Encoder())
