"""A model of a few thousand random weights: it does all that the real one does, in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from limner.core.host import WORKFLOWS
from limner.core.models.checkpoint import save_network
from limner.core.models.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig
from limner.core.models.unet import UNet, UNetConfig
from limner.core.values import LatentFormat, Sampling

NAME = "tiny"
WIDTH = 16  # of the text encoder's tokens
MOST_TOKENS = 8
LATENT = LatentFormat(channels=4, downscale=8, scale=0.5, shift=0.25)
UNET = UNetConfig(
    4, 4, channels=(8, 16), layers=1, depth=(0, 1), heads=(1, 2), context_dim=WIDTH, vector_dim=WIDTH, norm_groups=4
)
VAE = PatchAutoencoderConfig(latent_channels=4, patch=8, widths=(8, 6), blocks=(1, 1))
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "green", "apple", "cat", "of", "blue", "frog", "style")


def checkpoint(base: Path, name: str = NAME, *, text: bool = True, **sampling: Any) -> Path:
    """Write models/checkpoints/<name> below `base`; without a text encoder it takes a moment, with one seconds."""
    folder = base / "models" / "checkpoints" / name
    folder.mkdir(parents=True)
    unet(folder / "unet.safetensors", **sampling)
    vae(folder / "vae.safetensors")
    if text:
        text_encoder(folder / "text_encoder")
    (folder / "model.json").write_text(json.dumps({"name": name}))
    return folder


def text_to_image(**changes: Any) -> dict[str, Any]:
    """The nodes of text-to-image for this model, small and of two steps; `node__input` changes an input."""
    nodes: dict[str, Any] = json.loads((WORKFLOWS / "text-to-image.json").read_text("utf-8"))["graph"]
    small = {"load__name": NAME, "schedule__steps": 2, "latent__width": 32, "latent__height": 32}
    for place, value in (small | changes).items():
        node_id, name = place.split("__")
        nodes[node_id]["inputs"][name] = value
    return nodes


def write(path: Path, nodes: dict[str, Any], **rest: Any) -> Path:
    """Write a workflow file of these nodes."""
    path.write_text(json.dumps({"limner": 1, "graph": nodes} | rest), "utf-8")
    return path


def unet(path: Path, latent: LatentFormat = LATENT, **sampling: Any) -> Path:
    """Write a UNet."""
    torch.manual_seed(0)
    described = Sampling(**{"prediction": "v", "timesteps": 100, "beta_start": 0.0085, "beta_end": 0.12, **sampling})
    save_network(path, UNet(UNET), {"kind": "unet", "config": UNET, "sampling": described, "latent": latent})
    return path


def vae(path: Path) -> Path:
    """Write an autoencoder whose linear maps are orthogonal, so that a picture comes back from it blurred, not lost."""
    torch.manual_seed(0)
    network = PatchAutoencoder(VAE)
    torch.nn.init.orthogonal_(network.analysis.weight.data.view(4, -1))
    network.synthesis.weight.data.copy_(network.analysis.weight.data)
    torch.nn.init.zeros_(network.correction.leave.weight)
    for layer in (network.analysis, network.synthesis, network.correction.leave):
        torch.nn.init.zeros_(layer.bias)
    save_network(path, network, {"kind": "patch_autoencoder", "config": VAE, "latent": LATENT})
    return path


def text_encoder(folder: Path) -> Path:
    """Write a BERT that knows a dozen words."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(0)
    words = {word: k for k, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=MOST_TOKENS, **named)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=MOST_TOKENS,
        initializer_range=1.0,
    )
    transformers.BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
