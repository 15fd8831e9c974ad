"""Language models of each family, tiny and random, read as transformers reads them: locally, alone, and in silence."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from limner.core.errors import ModelFileError
from limner.core.models.text import TextConfig, open_text
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["a", "red", "cat", "on", "the", "blue", "moon", "and", "two", "dogs"]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
TEXTS = ["a red cat", "two dogs and a cat on the blue moon", "moon", ""]
ONCE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.fixture(autouse=True)
def _offline_and_one_thread(monkeypatch):
    torch.set_num_threads(1)

    def refuse(*_: object) -> None:
        raise AssertionError("a text encoder reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def tokenizer(template: str | None, maximum: int = 12) -> Any:
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(SPECIAL + WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        core.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 1), ("</s>", 2)])
    core.enable_padding(length=10)  # as MiniLM's own file has it: nobody here wants it
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=maximum, **named)


def random(model: Any) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def save(folder: Path, model: Any, template: str | None, **more: Any) -> Any:
    torch.manual_seed(3)
    random(model).save_pretrained(folder)
    tokenizer(template, **more).save_pretrained(folder)
    return model


def bert(folder: Path, **more: Any) -> Any:
    config = transformers.BertConfig(vocab_size=14, max_position_embeddings=12, **ONCE)
    return save(folder, transformers.BertModel(config), "<s> $A </s>", **more)


def gpt2(folder: Path) -> Any:
    config = transformers.GPT2Config(vocab_size=14, n_positions=12, n_embd=16, n_layer=2, n_head=2)
    return save(folder, transformers.GPT2Model(config), None)


def t5(folder: Path) -> Any:
    config = transformers.T5Config(vocab_size=14, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    return save(folder, transformers.T5EncoderModel(config), "$A </s>")


def clip(folder: Path, kind: Any = transformers.CLIPTextModel) -> Any:
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = transformers.CLIPTextConfig(vocab_size=14, max_position_embeddings=12, projection_dim=6, **ends, **ONCE)
    return save(folder, kind(config), "<s> $A </s>")


def sentence(folder: Path, mode: str = "pooling_mode_mean_tokens", stages: tuple[str, ...] = ("Normalize",)) -> None:
    kinds = ("Transformer", "Pooling", *stages)
    (folder / "modules.json").write_text(
        json.dumps([{"idx": i, "type": f"sentence_transformers.models.{kind}"} for i, kind in enumerate(kinds)])
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 16, "pooling_mode_cls_token": False, mode: True})
    )


def theirs(folder: Path, model: Any, text: str, **options: Any) -> Any:
    ids = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", truncation=True)["input_ids"]
    if not ids.numel():
        ids = torch.tensor([[1]])
    with torch.no_grad():
        return model(input_ids=ids, **options)


FAMILIES = {
    "bert": (bert, lambda out: out.last_hidden_state.mean(dim=1)),
    "gpt2": (gpt2, lambda out: out.last_hidden_state[:, -1]),
    "t5": (t5, lambda out: out.last_hidden_state.mean(dim=1)),
    "clip": (clip, lambda out: out.pooler_output),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_is_read_as_transformers_reads_it(name, tmp_path):
    make, pool = FAMILIES[name]
    model = make(tmp_path)
    for text, got in zip(TEXTS, open_text(tmp_path, TextConfig()).encode(TEXTS), strict=True):
        want = theirs(tmp_path, model, text)
        torch.testing.assert_close(got.tokens, want.last_hidden_state, atol=1e-6, rtol=0)
        torch.testing.assert_close(got.pooled, pool(want), atol=1e-6, rtol=0)
        assert got.mask is None
        assert got.tokens.dtype == got.pooled.dtype == torch.float32


@pytest.mark.parametrize("name", FAMILIES)
def test_a_text_becomes_the_same_whatever_stands_beside_it(name, tmp_path):
    FAMILIES[name][0](tmp_path)
    network = open_text(tmp_path, TextConfig())
    together = network.encode(TEXTS)
    for text, beside in zip(TEXTS, together, strict=True):
        (alone,) = network.encode([text])
        assert torch.equal(alone.tokens, beside.tokens)
        assert torch.equal(alone.pooled, beside.pooled)
    assert len({c.tokens.shape[1] for c in together}) > 2  # each with a T of its own
    assert network.encode([]) == []


def test_a_sentence_transformer_is_averaged_and_made_a_unit_vector(tmp_path):
    model = bert(tmp_path)
    sentence(tmp_path)
    (got,) = open_text(tmp_path, TextConfig()).encode(["a red cat"])
    mean = theirs(tmp_path, model, "a red cat").last_hidden_state.mean(dim=1)
    torch.testing.assert_close(got.pooled, mean / mean.norm(), atol=1e-6, rtol=0)


def test_a_sentence_transformer_without_a_last_stage_keeps_its_length(tmp_path):
    model = bert(tmp_path)
    sentence(tmp_path, "pooling_mode_cls_token", stages=())
    (got,) = open_text(tmp_path, TextConfig()).encode(["a red cat"])
    want = theirs(tmp_path, model, "a red cat").last_hidden_state[:, 0]
    torch.testing.assert_close(got.pooled, want, atol=1e-6, rtol=0)


def test_an_explicit_pooling_overrules_the_folder(tmp_path):
    model = bert(tmp_path)
    sentence(tmp_path)
    network = open_text(tmp_path, TextConfig(pooling="max", normalize=False))
    want = theirs(tmp_path, model, "moon").last_hidden_state.amax(dim=1)
    torch.testing.assert_close(network.encode(["moon"])[0].pooled, want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("stage", ["Dense", "WordWeights"])
def test_a_stage_that_is_not_known_is_named(stage, tmp_path):
    bert(tmp_path)
    sentence(tmp_path, stages=(stage,))
    with pytest.raises(ModelFileError, match=f"a stage '{stage}', which is not known"):
        open_text(tmp_path, TextConfig())
    assert open_text(tmp_path, TextConfig(pooling="mean")).config.normalize is False


def test_a_projected_clip_gives_its_projection(tmp_path):
    model = clip(tmp_path, transformers.CLIPTextModelWithProjection)
    (got,) = open_text(tmp_path, TextConfig()).encode(["a red cat"])
    want = theirs(tmp_path, model, "a red cat")
    torch.testing.assert_close(got.pooled, want.text_embeds, atol=1e-6, rtol=0)
    assert got.pooled.shape == (1, 6)
    torch.testing.assert_close(got.tokens, want.last_hidden_state, atol=1e-6, rtol=0)


@pytest.mark.parametrize("final_norm", [True, False])
def test_clip_can_be_read_before_its_last_block(final_norm, tmp_path):
    model = clip(tmp_path, transformers.CLIPTextModelWithProjection)
    (got,) = open_text(tmp_path, TextConfig(layer=-2, final_norm=final_norm)).encode(["a red cat"])
    want = theirs(tmp_path, model, "a red cat", output_hidden_states=True).hidden_states[-2]
    want = model.text_model.final_layer_norm(want) if final_norm else want
    torch.testing.assert_close(got.tokens, want.detach(), atol=1e-6, rtol=0)


def test_stable_diffusions_clip_sees_its_padding(tmp_path):
    model = clip(tmp_path)
    network = open_text(tmp_path, TextConfig(length=9))
    (got,) = network.encode(["a red cat"])
    with torch.no_grad():
        want = model(input_ids=torch.tensor([[1, 4, 5, 6, 2, 0, 0, 0, 0]]))
    torch.testing.assert_close(got.tokens, want.last_hidden_state, atol=1e-6, rtol=0)
    torch.testing.assert_close(got.pooled, want.pooler_output, atol=1e-6, rtol=0)
    assert [c.tokens.shape[1] for c in network.encode(TEXTS)] == [9] * 4


def test_padding_that_is_seen_is_not_averaged(tmp_path):
    t5(tmp_path)
    (got,) = open_text(tmp_path, TextConfig(length=9)).encode(["moon"])
    torch.testing.assert_close(got.pooled, got.tokens[:, :2].mean(dim=1), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("options", "maximum"), [({}, 12), ({"max_tokens": 7}, 7), ({"max_tokens": 99}, 12)])
def test_a_long_text_is_cut_and_says_by_how_much(options, maximum, tmp_path):
    bert(tmp_path, maximum=10**30)  # a tokenizer that knows no maximum: the network does
    network = open_text(tmp_path, TextConfig(**options))
    (long, short) = network.read(["cat " * 30, "a red cat"])
    assert (len(long.ids), long.kept, long.cut) == (maximum, maximum, 32 - maximum)
    assert long.ids[0] == 1  # its ends are still there
    assert long.ids[-1] == 2
    assert (short.ids, short.kept, short.cut) == ((1, 4, 5, 6, 2), 5, 0)
    assert network.encode(["cat " * 30])[0].tokens.shape == (1, maximum, 16)


def test_the_maximum_of_a_sentence_transformer_is_its_own(tmp_path):
    bert(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    assert open_text(tmp_path, TextConfig()).maximum == 5


def test_the_positions_of_roberta_begin_after_its_padding(tmp_path):
    config = transformers.RobertaConfig(vocab_size=14, max_position_embeddings=12, pad_token_id=0, **ONCE)
    save(tmp_path, transformers.RobertaModel(config), "<s> $A </s>", maximum=10**30)
    network = open_text(tmp_path, TextConfig())
    assert network.maximum == 11
    assert network.encode(["cat " * 30])[0].tokens.shape[1] == 11


def test_weights_in_half_precision_are_computed_in_single(tmp_path):
    model = bert(tmp_path)
    model.half().save_pretrained(tmp_path)
    network = open_text(tmp_path, TextConfig())
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    want = theirs(tmp_path, model.float(), "a red cat").last_hidden_state
    torch.testing.assert_close(network.encode(["a red cat"])[0].tokens, want, atol=1e-6, rtol=0)


def test_a_folder_of_diffusers_keeps_its_tokenizer_beside_it(tmp_path):
    clip(tmp_path / "text_encoder_2")
    (tmp_path / "tokenizer_2").mkdir()
    for path in (tmp_path / "text_encoder_2").glob("*token*"):
        path.rename(tmp_path / "tokenizer_2" / path.name)
    assert open_text(tmp_path / "text_encoder_2", TextConfig()).encode(["moon"])[0].tokens.shape == (1, 3, 16)


def test_a_bert_without_its_pooler_is_whole(tmp_path):
    config = transformers.BertConfig(vocab_size=14, max_position_embeddings=12, **ONCE)
    model = save(tmp_path, transformers.BertModel(config, add_pooling_layer=False), "<s> $A </s>")
    got = open_text(tmp_path, TextConfig()).encode(["moon"])[0].tokens
    torch.testing.assert_close(got, theirs(tmp_path, model, "moon").last_hidden_state, atol=1e-6, rtol=0)


def test_weights_that_are_not_there_are_not_made_up(tmp_path):
    bert(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(described | {"num_hidden_layers": 4}))
    with pytest.raises(ModelFileError, match=r"16 are missing and 0 of another shape \(encoder\.layer\.3\."):
        open_text(tmp_path, TextConfig())


def test_weights_of_another_shape_are_refused(tmp_path):
    bert(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(described | {"intermediate_size": 32}))
    with pytest.raises(ModelFileError, match=r"0 are missing and 9 of another shape \(encoder\.layer\.0\."):
        open_text(tmp_path, TextConfig())


def test_a_tokenizer_with_more_tokens_than_the_network_is_refused(tmp_path):
    config = transformers.BertConfig(vocab_size=13, max_position_embeddings=12, **ONCE)
    save(tmp_path, transformers.BertModel(config), "<s> $A </s>")
    with pytest.raises(ModelFileError, match="tokenizer has 14 tokens and its network only 13"):
        open_text(tmp_path, TextConfig())


def test_weights_that_are_none_are_refused(tmp_path):
    bert(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"<!doctype html><title>Please log in</title>")
    with pytest.raises(ModelFileError, match="transformers cannot open it"):
        open_text(tmp_path, TextConfig())


class Canary:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_is_never_opened(tmp_path):
    bert(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(ModelFileError):
        open_text(tmp_path, TextConfig())
    assert not (tmp_path / "canary").exists()


def test_code_beside_a_model_is_never_run(tmp_path):
    bert(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    wild = {"auto_map": {"AutoConfig": "wild.C", "AutoModel": "wild.M"}, "model_type": "wild"}
    (tmp_path / "config.json").write_text(json.dumps(described | wild))
    (tmp_path / "wild.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()")
    with pytest.raises(ModelFileError, match="transformers cannot open it"):
        open_text(tmp_path, TextConfig())
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "wild", [{"attn_implementation": "somebody/kernel"}, {"a": [{"_attn_implementation": "somebody/kernel"}]}]
)
def test_a_kernel_from_elsewhere_is_refused(wild, tmp_path):
    bert(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(described | wild))
    with pytest.raises(ModelFileError, match="somebody/kernel'; only eager and sdpa"):
        open_text(tmp_path, TextConfig())


def test_an_adapter_is_refused(tmp_path):
    bert(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/model"}')
    with pytest.raises(ModelFileError, match="an adapter"):
        open_text(tmp_path, TextConfig())


@pytest.mark.parametrize("text", [None, "<!doctype html>", "[" * 100_000, "[]", "{}"])
def test_a_folder_without_a_description_is_refused(text, tmp_path):
    bert(tmp_path)
    (tmp_path / "config.json").unlink()
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelFileError):
        open_text(tmp_path, TextConfig())


def test_a_name_is_a_folder_and_not_a_repository():
    with pytest.raises(ModelFileError, match=r"folder with a config\.json"):
        open_text(Path("bert-base-uncased"), TextConfig())


def test_nothing_is_printed_or_logged_and_the_loggers_are_as_they_were(tmp_path, capfd, caplog):
    bert(tmp_path)
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "other.safetensors")
    transformers.utils.logging.set_verbosity_info()
    transformers.utils.logging.enable_progress_bar()
    capfd.readouterr()
    try:
        with caplog.at_level(logging.DEBUG):
            caplog.clear()
            open_text(tmp_path, TextConfig()).encode(["cat " * 1000])
        assert capfd.readouterr() == ("", "")
        assert not [r for r in caplog.records if r.name.startswith("transformers")]
        assert transformers.utils.logging.get_verbosity() == logging.INFO
        assert transformers.utils.logging.is_progress_bar_enabled()
    finally:
        transformers.utils.logging.set_verbosity_warning()


def test_it_is_a_module_that_moves_as_a_whole(tmp_path):
    model = gpt2(tmp_path)
    network = open_text(tmp_path, TextConfig())
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in model.parameters())
    assert {p.dtype for p in network.to(torch.bfloat16).parameters()} == {torch.bfloat16}
    assert network.encode(["moon"])[0].tokens.dtype == torch.float32
    assert not network.training


@pytest.mark.parametrize("wrong", [{"layer": 0}, {"length": 0}, {"max_tokens": -1}])
def test_a_configuration_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"is at least 1|is below 0"):
        TextConfig(**wrong)
