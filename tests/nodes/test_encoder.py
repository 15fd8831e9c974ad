"""Encode text: words to tokens, each text by itself, and a warning where some are not read."""

from __future__ import annotations

import pytest
import tiny
import torch
from limner.core.errors import ModelFileError
from limner.nodes.encoder import encode_text
from limner.nodes.loader import load_text_encoder


@pytest.fixture(scope="module")
def encoder(models):
    return tiny.text_encoder(models / "models" / "text_encoders" / "bert")


@pytest.fixture
def clip(encoder, context):
    return load_text_encoder("bert", context=context)


def test_a_text_becomes_a_vector_for_each_of_its_tokens_and_one_for_all(clip, context):
    found = encode_text(clip, "a red apple", context=context)
    assert found.tokens.shape == (1, 5, tiny.WIDTH)  # with [CLS] and [SEP]
    assert found.pooled is not None
    assert found.pooled.shape == (1, tiny.WIDTH)
    assert found.tokens.device.type == "cpu"
    torch.testing.assert_close(encode_text(clip, "a red apple", context=context).tokens, found.tokens)


def test_other_words_become_other_tokens(clip, context):
    red, green = (encode_text(clip, f"a {colour} apple", context=context).tokens for colour in ("red", "green"))
    assert (red - green).abs().max() > 0.1


def test_an_empty_text_is_a_text(clip, context, warnings):
    assert encode_text(clip, "", context=context).tokens.shape == (1, 2, tiny.WIDTH)
    assert warnings == []


def test_a_text_that_is_too_long_is_cut_with_a_warning(clip, context, warnings):
    found = encode_text(clip, "a red apple of a green cat of a blue frog", context=context)
    assert found.tokens.shape[1] == tiny.MOST_TOKENS
    assert warnings == ["the text is too long: its last 5 tokens are not read"]


def test_a_folder_that_is_no_text_encoder_is_refused(models, context):
    folder = models / "models" / "text_encoders" / "broken"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    clip = load_text_encoder("broken", context=context)
    with pytest.raises(ModelFileError, match="broken: transformers cannot open it"):
        encode_text(clip, "a cat", context=context)


def test_the_encoder_that_comes_along_reads_meaning(context):
    clip = load_text_encoder(context=context)
    texts = ["a red apple", "a crimson apple", "three zebras asleep"]
    apple, crimson, zebras = (encode_text(clip, text, context=context).pooled[0] for text in texts)
    assert apple @ crimson > 2 * (apple @ zebras)
