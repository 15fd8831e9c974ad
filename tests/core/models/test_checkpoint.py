"""Model files: what is written comes back, and what is none of ours is refused in a sentence, fast, and never run."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from limner.core.errors import ModelFileError, ModelMissing, StorageError
from limner.core.models import checkpoint
from limner.core.models.checkpoint import KINDS, canonical, describe, digest, header, locate, open_network, save_network
from limner.core.models.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig
from limner.core.models.unet import UNet, UNetConfig
from limner.core.models.vae import FORMER_NAMES, AutoencoderKL, VaeConfig
from limner.core.values import LatentFormat, Recipe, Sampling
from safetensors.torch import load_file, save_file

NETWORKS = {
    "unet": UNet(
        UNetConfig(channels=(8, 16), depth=(0, 1), heads=(1, 2), layers=1, context_dim=6, norm_groups=4, vector_dim=3)
    ),
    "autoencoder_kl": AutoencoderKL(VaeConfig(channels=(4, 8), layers=1, norm_groups=2)),
    "patch_autoencoder": PatchAutoencoder(PatchAutoencoderConfig(latent_channels=4, widths=(8, 6), blocks=(1, 1))),
}
LATENT = LatentFormat(channels=4, downscale=2, scale=0.5)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def recipe(path: Path, kind: str = "unet", config: Any = None) -> Recipe:
    config = NETWORKS[kind].config if config is None else config
    return Recipe(kind, str(path), "", config if isinstance(config, str) else canonical(config))


def saved(folder: Path, kind: str = "unet", **options: Any) -> Path:
    path = folder / f"{kind}.safetensors"
    save_network(path, NETWORKS[kind], {"kind": kind, "config": NETWORKS[kind].config, "latent": LATENT}, **options)
    return path


def entry(start: int = 0, end: int = 4, dtype: str = "F32", shape: Any = (1,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def raw(said: Any, data: bytes = b"") -> bytes:
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    return struct.pack("<Q", len(text)) + text + data


class Canary:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


# ------------------------------------------------------------------------------------------------------ what comes back


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_comes_back_as_it_was_saved(kind, tmp_path):
    network = open_network(recipe(saved(tmp_path, kind), kind))
    assert network.config == NETWORKS[kind].config
    assert network.state_dict().keys() == NETWORKS[kind].state_dict().keys()
    for name, value in NETWORKS[kind].state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    assert not [name for name, tensor in (*network.named_parameters(), *network.named_buffers()) if tensor.is_meta]


def test_every_kind_of_network_has_its_module_and_its_test():
    assert set(KINDS) == {*NETWORKS, "text_encoder"}


@pytest.mark.parametrize(("stored", "asked"), [(torch.float16, torch.float32), (None, torch.bfloat16)])
def test_weights_are_stored_and_opened_in_the_dtype_one_asks_for(stored, asked, tmp_path):
    path = saved(tmp_path, dtype=stored)
    assert {value.dtype for value in load_file(path).values()} == {stored or torch.float32}
    assert {value.dtype for value in open_network(recipe(path), "cpu", asked).parameters()} == {asked}
    assert {value.dtype for value in open_network(recipe(path)).parameters()} == {stored or torch.float32}


def test_a_file_says_which_network_it_holds(tmp_path):
    network, sampling = NETWORKS["unet"], Sampling(prediction="v", shift=2.0)
    save_network(
        tmp_path / "a", network, {"kind": "unet", "config": network.config, "sampling": sampling, "latent": LATENT}
    )
    said = {"kind": "unet", "config": asdict(network.config), "sampling": asdict(sampling), "latent": asdict(LATENT)}
    save_network(tmp_path / "b", network, said)
    for name in "ab":
        found = describe(tmp_path / name)
        assert (found.kind, found.sampling, found.latent) == ("unet", sampling, LATENT)
        assert canonical(found.config) == canonical(network.config)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert describe(saved(tmp_path, "autoencoder_kl")).sampling is None


def test_a_header_lists_every_tensor(tmp_path):
    found = header(saved(tmp_path))
    want = {name: tuple(value.shape) for name, value in NETWORKS["unet"].state_dict().items()}
    assert {name: entry.shape for name, entry in found.tensors.items()} == want
    assert {entry.dtype for entry in found.tensors.values()} == {"F32"}
    assert set(found.metadata) == {"limner"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_bytes_of_a_network_are_known_before_it_is_opened(dtype, tmp_path):
    path = saved(tmp_path, dtype=torch.bfloat16)
    want = sum(p.numel() for p in NETWORKS["unet"].parameters()) * dtype.itemsize
    assert checkpoint.weight_bytes(recipe(path), dtype.itemsize * 8) == want


def test_a_folder_of_diffusers_loads_as_it_is(tmp_path):
    import diffusers

    levels = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    theirs = diffusers.AutoencoderKL(block_out_channels=[4, 8], norm_num_groups=2, layers_per_block=1, **levels)
    theirs.save_pretrained(tmp_path)
    ours = open_network(recipe(tmp_path / "diffusion_pytorch_model.safetensors", "autoencoder_kl"))
    pixels = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels), theirs(pixels).sample, atol=1e-5, rtol=0)


def test_names_of_old_vaes_are_understood(tmp_path):
    weights = {}
    for key, value in NETWORKS["autoencoder_kl"].state_dict().items():
        for was, name in FORMER_NAMES.items():
            key = key.replace(f".attentions.0.{name}.", f".attentions.0.{was}.")  # noqa: PLW2901
        weights[key] = value
    save_file(weights, tmp_path / "old")
    network = open_network(recipe(tmp_path / "old", "autoencoder_kl"))
    assert torch.equal(
        network.state_dict()["encoder.mid_block.attentions.0.to_q.weight"],
        weights["encoder.mid_block.attentions.0.query.weight"],
    )
    weights["encoder.mid_block.attentions.0.to_q.weight"] = torch.zeros(8, 8)
    save_file(weights, tmp_path / "both")
    with pytest.raises(ModelFileError, match=r"1 unexpected: encoder\.mid_block\.attentions\.0\.query\.weight"):
        open_network(recipe(tmp_path / "both", "autoencoder_kl"))


def test_saving_replaces_a_file_as_a_whole_or_leaves_it(tmp_path, monkeypatch):
    path = saved(tmp_path)
    before = path.read_bytes()
    mapped = open_network(recipe(path))
    saved(tmp_path, dtype=torch.float16)  # the old file lives on, under the network that is mapped from it
    assert torch.equal(mapped.conv_in.weight, NETWORKS["unet"].conv_in.weight)
    path.write_bytes(before)

    def half(weights: Any, file: Path, metadata: Any) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", half)
    with pytest.raises(StorageError, match="the disk is full"):
        saved(tmp_path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["unet.safetensors"]


def test_saving_asks_for_what_describe_will_need(tmp_path):
    with pytest.raises(ValueError, match="metadata has kind, config"):
        save_network(tmp_path / "a", NETWORKS["unet"], {"kind": "unet"})


def test_equal_values_have_one_json():
    assert canonical({"b": (1, 2), "a": "é"}) == '{"a":"é","b":[1,2]}' == canonical({"a": "é", "b": [1, 2]})
    assert canonical(LATENT) == '{"channels":4,"downscale":2,"scale":0.5,"shift":0.0}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(float("nan"))


def test_a_digest_is_that_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    assert digest(tmp_path / "a") == sha256(b"x" * 100_000).hexdigest()


def test_the_digest_of_a_folder_is_that_of_its_models_files(tmp_path):
    def folder(name: str, **files: str) -> str:
        for file, text in files.items():
            path = tmp_path / name / file.replace("__", "/").replace("_json", ".json").replace("_md", ".md")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return digest(tmp_path / name)

    first = folder("a", config_json="{}", pool__config_json="1", readme_md="x")
    assert first == folder("b", config_json="{}", pool__config_json="1", readme_md="y")
    assert first != folder("c", config_json="{}", pool__config_json="2")
    assert first != folder("d", config_json="{}", other__config_json="1")
    text = folder("e/text_encoder", config_json="{}")
    assert text != (folder("e/tokenizer", vocab_json="{}"), folder("e/text_encoder"))[1]


def test_looking_at_a_file_loads_neither_torch_nor_transformers(tmp_path):
    path = saved(tmp_path)
    code = (
        "import sys; from pathlib import Path; from limner.core.models.checkpoint import *; p = Path(sys.argv[1]);"
        "header(p), describe(p), digest(p), weight_bytes(Recipe('unet', str(p), '', ''), 32);"
        "print([m for m in ('torch', 'transformers', 'safetensors', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


# ---------------------------------------------------------------------------------------------------- what does not fit


def altered(tmp_path: Path, change: Any) -> Recipe:
    weights = dict(NETWORKS["unet"].state_dict())
    change(weights)
    save_file(weights, tmp_path / "altered")
    return recipe(tmp_path / "altered")


def test_every_weight_that_does_not_fit_is_named(tmp_path):
    def change(weights: dict[str, torch.Tensor]) -> None:
        del weights["conv_in.bias"]
        del weights["conv_out.bias"]
        weights["a.__class__.__init__"] = torch.zeros(1)
        weights["conv_in.weight"] = torch.zeros(8, 9, 3, 3)

    with pytest.raises(ModelFileError) as caught:
        open_network(altered(tmp_path, change))
    assert caught.value.reason == (
        "its weights are not those that its configuration needs; 2 missing: conv_in.bias, conv_out.bias; "
        "1 unexpected: a.__class__.__init__; 1 of another shape: conv_in.weight [8, 9, 3, 3] and not [8, 4, 3, 3]"
    )


def test_a_long_list_of_weights_is_shortened(tmp_path):
    with pytest.raises(ModelFileError, match=r"[1-9]\d missing: .*, .* and \d+ more; 1 unexpected: x$"):
        open_network(altered(tmp_path, lambda weights: (weights.clear(), weights.update(x=torch.zeros(1)))))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "no JSON"),
        ("[]", "its UNetConfig is no JSON object"),
        ('{"wings": 2}', "its UNetConfig cannot have 'wings': 2"),
        ('{"channels": "wide"}', "cannot have 'channels': wide"),
        ('{"channels": [8, true]}', r"cannot have 'channels': \[8, True\]"),
        ('{"layers": 1.5}', "cannot have 'layers': 1.5"),
        ('{"layers": 1000000000}', "cannot have 'layers': 1000000000"),
        ('{"layers": 1000}', "cannot be: a level has at most 64 blocks"),
        ('{"channels": [8]}', "cannot be: channels, depth and heads are of one length"),
        ('{"norm_eps": NaN}', "NaN is no number"),
        ('{"layers": 1, "layers": 2}', "a name occurs twice"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(config, words, tmp_path):
    with pytest.raises(ModelFileError, match=words):
        open_network(recipe(saved(tmp_path), config=config))


def test_a_kind_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"one of unet, .*, not 'os'"):
        open_network(Recipe("os", str(saved(tmp_path)), "", "{}"))


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (None, "does not say which network"),
        ({"limner": "{"}, "no JSON"),
        ({"limner": '"unet"'}, "none of unet"),
        ({"limner": '{"kind": ["unet"], "config": {}}'}, "none of unet"),
        ({"limner": '{"kind": "os", "config": {}}'}, "none of unet"),
        ({"limner": '{"kind": "unet"}'}, "none of unet"),
        ({"limner": '{"kind": "unet", "config": {}, "sampling": {"prediction": "dream"}}'}, "'prediction': dream"),
        ({"limner": '{"kind": "unet", "config": {}, "latent": {"channels": 4}}'}, "LatentFormat cannot be"),
    ],
)
def test_a_file_that_does_not_describe_itself_is_refused(metadata, words, tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "a", metadata)
    with pytest.raises(ModelFileError, match=words):
        describe(tmp_path / "a")


def test_a_model_that_is_not_there_is_missing(tmp_path):
    for look in (header, describe, digest):
        with pytest.raises(ModelMissing, match="there is no model file"):
            look(tmp_path / "a")
    with pytest.raises(ModelMissing, match="no folder"):
        open_network(Recipe("text_encoder", str(tmp_path / "a"), "", "{}"))
    with pytest.raises(ModelFileError, match=r"a folder with a config\.json"):
        describe(tmp_path)


# ----------------------------------------------------------------------------------------------- what is no safetensors

LOGIN = b"\n<!DOCTYPE html><html><title>Log in to download</title>"
ZIPPED = io.BytesIO()
with zipfile.ZipFile(ZIPPED, "w") as archive:
    archive.writestr("archive/data.pkl", b"\x80\x02.")
GOOD = raw({"a": entry()}, bytes(4))

BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "has 0 bytes"),
    "seven bytes": (b"\1" + bytes(6), "has 7 bytes; a safetensors file begins with 8"),
    "eight bytes": (struct.pack("<Q", 64), "cut short: its header is 64 bytes long, and 0 are there"),
    "zeros": (bytes(100), "no JSON object"),
    "2^63": (struct.pack("<Q", 1 << 63) + b"{}", "would be 9223372036854775808 bytes long"),
    "200 MB": (struct.pack("<Q", 200_000_000) + b"{}", "would be 200000000 bytes long, and at most 16777216"),
    "cut in its header": (GOOD[:20], "cut short: its header is 61 bytes long, and 12 are there"),
    "cut in its tensors": (GOOD[:-1], "cut short: its tensors take 4 bytes, and 3 are there"),
    "junk behind": (GOOD + b"junk", "has 4 bytes behind its last tensor"),
    "zip": (ZIPPED.getvalue(), "is a zip archive, as PyTorch writes pickles; weights are read from safetensors only"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(40), "is a 7z archive"),
    "gzip": (gzip.compress(bytes(40)), "is a gzip archive"),
    "GGUF": (b"GGUF\3\0\0\0" + bytes(40), "is a GGUF file"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS"),
    "web page": (LOGIN, "is a web page, perhaps one that asks for a login"),
    "noise": (bytes(range(256)), "is no safetensors file: its header would be"),
    "no JSON": (raw(b"{nonsense"), "no JSON"),
    "no UTF-8": (raw(b'{"\xff": 1}'), "no JSON"),
    "nested": (raw(b'{"a":' + b"[" * 1_000_000), "no JSON"),
    "twice": (raw(b'{"a": {}, "a": {}}'), "a name occurs twice"),
    "a long number": (raw(b'{"a": ' + b"9" * 1_000_000 + b"}"), "no JSON"),
    "metadata is a list": (raw({"__metadata__": []}), "no JSON object of tensors"),
    "metadata is numbers": (raw({"__metadata__": {"a": 1}}), "its metadata is not all text"),
    "tensor is a list": (raw({"a": []}), "'a' is not described by dtype, shape and data_offsets"),
    "tensor lacks its shape": (raw({"a": {"dtype": "F32", "data_offsets": [0, 4]}}), "'a' is not described by"),
    "dtype unknown": (raw({"a": entry(dtype="F33")}, bytes(4)), "'a' has the dtype 'F33', which is not known"),
    "dtype a list": (raw({"a": entry(dtype=["F32"])}, bytes(4)), "which is not known"),  # type: ignore[arg-type]
    "shape below 0": (raw({"a": entry(shape=[-1])}, bytes(4)), "'a' has a shape or a place that is none"),
    "shape of truth": (raw({"a": entry(shape=[True])}, bytes(4)), "'a' has a shape or a place that is none"),
    "shape of a thousand": (raw({"a": entry(shape=[2**62] * 1000)}, bytes(4)), "shape or a place that is none"),
    "shape that overflows": (raw({"a": entry(shape=[2**33, 2**33])}, bytes(4)), "'a' contradicts itself"),
    "shape too small": (raw({"a": entry(0, 8)}, bytes(8)), r"F32 \[1\] does not take 8 bytes"),
    "place backwards": (raw({"a": entry(4, 0)}, bytes(4)), "'a' contradicts itself"),
    "past the end": (raw({"a": entry(0, 400, shape=[100])}, bytes(4)), "its tensors take 400 bytes, and 4 are there"),
    "overlap": (raw({"a": entry(), "b": entry(2, 6)}, bytes(6)), "'b' overlaps the one before it"),
    "gap": (raw({"a": entry(), "b": entry(8, 12)}, bytes(12)), "'b' leaves a gap before it"),
    "300 000 entries": (
        raw(
            b"{" + b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(300_000)) + b"}"
        ),
        "at most (16777216|100000) are read",
    ),
    "200 000 entries": (
        raw(
            b"{" + b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(200_000)) + b"}"
        ),
        "has 200000 tensors, and at most 100000 are read",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_a_sentence_and_within_a_second(name, tmp_path):
    data, words = BAD[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    for act in (header, describe, lambda path: open_network(recipe(path))):
        began = time.process_time()
        with pytest.raises(ModelFileError, match=words) as caught:
            act(path)
        assert time.process_time() - began < 1
        assert caught.value.path == str(path)
        assert len(str(caught.value)) < 500
        assert "\n" not in caught.value.reason


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("form", ["bare", "zipped", "torch"])
def test_a_pickle_under_another_name_is_never_run(form, protocol, tmp_path):
    path, canary = tmp_path / "model.safetensors", tmp_path / "canary"
    data = pickle.dumps(Canary(canary), protocol=protocol)
    if form == "bare":
        path.write_bytes(data)
    elif form == "zipped":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", data)
    else:
        torch.save(Canary(canary), path, pickle_protocol=max(protocol, 2))
    for act in (header, describe, lambda path: open_network(recipe(path))):
        with pytest.raises(ModelFileError, match="safetensors"):
            act(path)
    digest(path)
    assert not canary.exists()
    pickle.loads(data)
    assert canary.exists()  # the canary would have sung


def test_a_name_that_only_looks_like_many_tensors_costs_no_time(tmp_path):
    (tmp_path / "a").write_bytes(raw({"__metadata__": {"x": '"data_offsets"' * 10}, "a": entry()}, bytes(4)))
    assert list(header(tmp_path / "a").tensors) == ["a"]


# -------------------------------------------------------------------------------------------------------- text encoders


def text_folder(folder: Path) -> Path:
    import transformers
    from tokenizers import Tokenizer, models

    core = Tokenizer(models.WordLevel({"?": 0, "cat": 1}, unk_token="?"))
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = transformers.BertConfig(vocab_size=4, max_position_embeddings=8, **size)
    transformers.BertModel(config).half().save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=core, unk_token="?").save_pretrained(folder)
    return folder


def test_a_folder_of_transformers_is_a_text_encoder(tmp_path):
    folder = text_folder(tmp_path / "bert")
    assert describe(folder) == checkpoint.Description("text_encoder", {})
    network = open_network(Recipe("text_encoder", str(folder), digest(folder), '{"pooling":"first"}'))
    assert network.encode(["cat"])[0].tokens.shape == (1, 1, 8)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    count = sum(p.numel() for p in network.parameters())
    assert checkpoint.weight_bytes(Recipe("text_encoder", str(folder), "", ""), 32) == 4 * count


def test_a_bad_file_in_the_folder_of_a_text_encoder_is_named(tmp_path):
    folder = text_folder(tmp_path)
    (folder / "model.safetensors").write_bytes(LOGIN)
    with pytest.raises(ModelFileError, match=r"model\.safetensors: is a web page"):
        open_network(Recipe("text_encoder", str(folder), "", "{}"))


def test_an_installed_package_may_carry_a_model_and_none_of_its_code_runs(tmp_path, monkeypatch):
    folder = text_folder(tmp_path / "a_small_encoder" / "model")
    (tmp_path / "a_small_encoder" / "__init__.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    assert locate("package:a_small_encoder") == folder
    assert open_network(Recipe("text_encoder", "package:a_small_encoder", "", "{}")).encode(["cat"])
    assert "a_small_encoder" not in sys.modules
    text_folder(tmp_path / "a_small_encoder" / "other")
    with pytest.raises(ModelMissing, match=r"2 folders with a config\.json and weights, not one"):
        locate("package:a_small_encoder")
    with pytest.raises(ModelMissing, match="no installed package no_such_package_here"):
        locate("package:no_such_package_here")
    assert locate("a/b") == Path("a/b")
