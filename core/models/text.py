"""Language models that read prompts, through transformers.  From a local folder only: no network, no pickles, no code.

BERT and its kin, GPT-2 and its kin, T5's encoder, CLIP's text tower: what `AutoModel` knows.  A text is read by itself,
so what it becomes never depends on the texts beside it.
"""

from __future__ import annotations

import json
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from logging import CRITICAL
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import ModelFileError
from ..values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Pooling = Literal["auto", "mean", "max", "first", "last", "model"]

# Safetensors or nothing, and a report of what the file lacks and what has another shape.
WHOLE = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
MOST_TOKENS = 4096  # of a model that knows no maximum, or one that no prompt comes near
# sentence-transformers' names of poolings, as its 1_Pooling/config.json spells them in either form
POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
    "mean": "mean",
    "max": "max",
    "cls": "first",
    "lasttoken": "last",
}
# What transformers raises for a folder that it cannot make sense of
UNREADABLE = (OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError, AttributeError, SafetensorError)
_QUIET = threading.RLock()  # transformers keeps its verbosity in a global


@dataclass(frozen=True, slots=True)
class TextConfig:
    """How a language model is read.  What its folder says holds wherever this says nothing."""

    pooling: Pooling = "auto"  # to one vector: of which tokens, or "model": as the model itself does it
    normalize: bool | None = None  # that vector to length 1; None: where sentence-transformers would
    max_tokens: int | None = None  # longer texts are cut; None: at the model's own maximum
    length: int | None = None  # pad to so many tokens and show them all: Stable Diffusion's CLIP, 77; None: pad none
    layer: int = -1  # which hidden states become the tokens, -2 being those before the last block
    final_norm: bool = True  # through CLIP's last norm, when layer is not -1: yes in SD 1 and 2, no in SDXL

    def __post_init__(self) -> None:
        if self.layer >= 0:
            raise ValueError(f"layer counts from the end and is below 0, not {self.layer}")
        for name, number in (("max_tokens", self.max_tokens), ("length", self.length)):
            if number is not None and number < 1:
                raise ValueError(f"{name} is at least 1, not {number}")


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as its tokenizer sees it."""

    ids: tuple[int, ...]  # as many as the model will see, padding included
    kept: int  # how many of them are the text's
    cut: int  # how many more it has, that the model will not see


class TextNetwork(nn.Module):
    """A language model with its tokenizer."""

    def __init__(self, model: nn.Module, tokenizer: Any, config: TextConfig, maximum: int) -> None:
        """Take a model and tokenizer of transformers; config says pooling and normalize outright."""
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self.maximum = maximum  # tokens of a text, its special ones included
        self._turn = threading.Lock()  # a tokenizer keeps its truncation in itself

    def read(self, texts: Sequence[str]) -> list[Tokens]:
        """Split texts into tokens, and say how many of each are beyond the model's maximum."""
        with self._turn, _quietly():
            return [self._read(text) for text in texts]

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> list[Conditioning]:
        """Texts as the model sees them: tokens (1, T, D), each with a T of its own, and pooled (1, P).

        float32, on the CPU, without a mask.  `read` says what was cut.
        """
        return [self._encode(tokens) for tokens in self.read(texts)]

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """Ids (1, T) to hidden states (1, T, D), and the model's own pooled vector (1, P) if it has one."""
        deep = self.config.layer != -1
        with _quietly():
            out = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=deep)
        states: Tensor = out.hidden_states[self.config.layer] if deep else out.last_hidden_state  # (1, T, D)
        if deep and self.config.final_norm:
            states = _final_norm(self.model, states)
        embeds = getattr(out, "text_embeds", None)  # (1, P)
        return states, getattr(out, "pooler_output", None) if embeds is None else embeds

    def _read(self, text: str) -> Tokens:
        ids: list[int] = self.tokenizer(text, truncation=False, padding=False)["input_ids"]
        cut = max(len(ids) - self.maximum, 0)
        if cut:
            ids = self.tokenizer(text, truncation=True, max_length=self.maximum, padding=False)["input_ids"]
        ids = ids or [_blank(self.tokenizer)]  # GPT-2 makes nothing of an empty text
        padding = [_padding(self.tokenizer)] * ((self.config.length or 0) - len(ids))
        return Tokens((*ids, *padding), len(ids), cut)

    def _encode(self, tokens: Tokens) -> Conditioning:
        device = next(self.model.parameters()).device
        states, own = self(torch.tensor([tokens.ids], device=device))  # (1, T, D), (1, P) or None
        pooled = self._pool(states[:, : tokens.kept], own).float()  # (1, P)
        if self.config.normalize:
            pooled = nn.functional.normalize(pooled, dim=-1)
        return Conditioning(states.float().cpu(), None, pooled.cpu())

    def _pool(self, states: Tensor, own: Tensor | None) -> Tensor:
        match self.config.pooling:
            case "model" if own is not None:
                return own
            case "first":
                return states[:, 0]  # (1, T, D) -> (1, D)
            case "last":
                return states[:, -1]
            case "max":
                return states.amax(dim=1)
            case _:
                return states.mean(dim=1)


def open_text(
    folder: Path, config: TextConfig, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> TextNetwork:
    """Open a folder of transformers, or of diffusers with its tokenizer beside it.

    Weights stored in half precision become dtype.  Raises ModelFileError, in words.
    """
    _check(folder)
    with _quietly():
        try:
            model, kind = _model(folder)
            tokenizer = _tokenizer(folder)
        except UNREADABLE as error:
            raise ModelFileError(folder, f"transformers cannot open it: {_first_line(error)}") from error
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ModelFileError(folder, f"its tokenizer has {len(tokenizer)} tokens and its network only {rows}")
    config = _settled(folder, config, kind)
    maximum = _maximum(folder, config, model.config, tokenizer)
    return TextNetwork(model, tokenizer, config, maximum).eval().to(device=device, dtype=dtype)


def _check(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelFileError(folder, "a text encoder is a folder with a config.json, and there is none in it")
    if (folder / "adapter_config.json").exists():
        raise ModelFileError(folder, "holds an adapter (adapter_config.json), which would fetch a model of its own")
    # A name that transformers does not know is that of a kernel, which it would fetch and run.
    wanted = _json(folder / "config.json")
    for key, value in _pairs(wanted):
        if key.endswith("implementation") and value not in (None, "eager", "sdpa"):
            raise ModelFileError(folder, f"config.json asks for {key} {value!r}; only eager and sdpa are built in")


def _model(folder: Path) -> tuple[Any, Literal["causal", "clip", "encoder"]]:
    import transformers
    from transformers.models.auto import modeling_auto as auto

    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config: Any = transformers.AutoConfig.from_pretrained(folder, **local)
    family, named = config.model_type, (config.architectures or [""])[0]
    loader: Any = transformers.AutoModel
    if family == "clip" or named == "CLIPTextModelWithProjection":
        loader, local = transformers.CLIPTextModelWithProjection, {"local_files_only": True}
    elif family in auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES:
        loader = transformers.AutoModelForTextEncoding
    model, report = loader.from_pretrained(folder, **WHOLE, **local)
    _complete(folder, report)
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    causal = family in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and family not in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return model, "clip" if family.startswith("clip") else "causal" if causal else "encoder"


def _complete(folder: Path, report: Any) -> None:
    # What a file lacks, transformers would make up at random.  Only a pooler that nobody asks may be missing.
    missing = sorted(str(key) for key in report["missing_keys"] if not str(key).startswith("pooler."))
    wrong = sorted(str(key[0]) for key in report["mismatched_keys"])
    if missing or wrong:
        found = f"{len(missing)} are missing and {len(wrong)} of another shape ({', '.join((missing + wrong)[:3])})"
        raise ModelFileError(folder, f"its weights are not those that config.json describes: {found}")


def _tokenizer(folder: Path) -> Any:
    import transformers

    beside = folder.with_name(folder.name.replace("text_encoder", "tokenizer"))  # as diffusers keeps them
    own = any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json"))
    return transformers.AutoTokenizer.from_pretrained(
        folder if own or not beside.is_dir() else beside, local_files_only=True, trust_remote_code=False
    )


def _settled(folder: Path, config: TextConfig, kind: Literal["causal", "clip", "encoder"]) -> TextConfig:
    """Say outright how the tokens become one vector."""
    described = _sentence_pooling(folder) if config.pooling == "auto" else None
    pooling, normalize = described or (config.pooling, False)
    if pooling == "auto":
        pooling = {"causal": "last", "clip": "model", "encoder": "mean"}[kind]  # type: ignore[assignment]
    return replace(config, pooling=pooling, normalize=normalize if config.normalize is None else config.normalize)


def _sentence_pooling(folder: Path) -> tuple[Pooling, bool] | None:
    """What sentence-transformers would do with the tokens of this folder; None: it is none of its."""
    stages = _json(folder / "modules.json", [])
    kinds = [str(stage.get("type", "")).rpartition(".")[2] for stage in stages if isinstance(stage, dict)]
    strange = sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"})
    if strange:
        raise ModelFileError(
            folder, f"modules.json has a stage {strange[0]!r}, which is not known: say a pooling instead"
        )
    pooling = _json(folder / "1_Pooling" / "config.json", None)
    if pooling is None:
        return None
    named = [key for key, on in pooling.items() if key.startswith("pooling_mode_") and on is True]
    modes = [str(pooling["pooling_mode"])] if "pooling_mode" in pooling else named
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ModelFileError(
            folder, f"its pooling is {' and '.join(modes) or 'empty'}, which is not known: say one instead"
        )
    return POOLINGS[modes[0]], "Normalize" in kinds or (folder / "2_Normalize").is_dir()


def _maximum(folder: Path, config: TextConfig, described: Any, tokenizer: Any) -> int:
    positions = getattr(described, "max_position_embeddings", None) or getattr(described, "n_positions", None)
    if positions and "roberta" in described.model_type:
        positions -= described.pad_token_id + 1  # its positions begin after the padding's
    sentence = _json(folder / "sentence_bert_config.json", {}).get("max_seq_length")
    known = (positions, sentence, tokenizer.model_max_length, config.max_tokens, config.length, MOST_TOKENS)
    return min(int(number) for number in known if number)


def _final_norm(model: nn.Module, states: Tensor) -> Tensor:
    norm = getattr(getattr(model, "text_model", model), "final_layer_norm", None)
    return states if norm is None else norm(states)


def _blank(tokenizer: Any) -> int:
    return next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), 0)


def _padding(tokenizer: Any) -> int:
    return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)


def _json(path: Path, otherwise: Any = None) -> Any:
    if not path.is_file():
        return otherwise
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(path, f"is no JSON: {_first_line(error)}") from error


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a JSON value with what it holds, at any depth."""
    open_values = [value]
    while open_values:
        found = open_values.pop()
        if isinstance(found, dict):
            yield from found.items()
            open_values.extend(found.values())
        elif isinstance(found, list):
            open_values.extend(found)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' log lines, warnings and progress bars, which are as they were afterwards."""
    from transformers.utils import logging

    progress: Any = logging  # whose functions for bars are untyped
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level, bars = progress.get_verbosity(), progress.is_progress_bar_enabled()
        progress.set_verbosity(CRITICAL)
        progress.disable_progress_bar()
        try:
            yield
        finally:
            progress.set_verbosity(level)
            if bars:
                progress.enable_progress_bar()
