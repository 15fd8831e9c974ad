"""The default model as files that ship: float16 safetensors that say what they are, and a list of them with hashes."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch

from ..models import checkpoint
from . import emoji
from .captions import BACKGROUNDS, PLACES, Concept

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ..models.patch_autoencoder import PatchAutoencoder
    from ..models.unet import UNet
    from ..values import LatentFormat, Sampling

NAME = "limner-64"
SIZE = 64  # pixels a side
LICENCES: Mapping[str, str] = {
    "unet.safetensors": "Apache-2.0; learned from the artwork listed in NOTICE",
    "vae.safetensors": "Apache-2.0; learned from the artwork listed in NOTICE",
    "text_encoder/model.safetensors": "Apache-2.0; see text_encoder/ORIGIN",
}


def write_networks(folder: Path, unet: UNet, vae: PatchAutoencoder, sampling: Sampling, latent: LatentFormat) -> None:
    """The denoising network and the autoencoder, each with its configuration, so that they open by themselves."""
    said = {"kind": "unet", "config": unet.config, "sampling": sampling, "latent": latent}
    checkpoint.save_network(folder / "unet.safetensors", unet, said, torch.float16)
    said = {"kind": "patch_autoencoder", "config": vae.config, "latent": latent}
    checkpoint.save_network(folder / "vae.safetensors", vae, said, torch.float16)
    for name in ("unet", "vae"):
        (folder / f"{name}.safetensors").chmod(0o644)  # a package is for everybody


def write_card(folder: Path, concepts: Sequence[Concept], use: Mapping[str, Any], steps: int) -> None:
    """model.json: what the model is called, what it can draw, how it is best sampled, and the hash of every file."""
    card = {
        "name": NAME,
        "size": SIZE,
        "sampling": dict(use),
        "steps_trained": steps,
        "concepts": [concept.name for concept in concepts],
        "styles": [style.name for style in emoji.STYLES],
        "backgrounds": list(BACKGROUNDS),
        "places": list(PLACES),
        "files": {name: {"sha256": sha256(folder / name), "licence": licence} for name, licence in LICENCES.items()},
        "artwork": {
            style.name: {"package": f"{style.package.name}@{style.package.version}", "licence": style.licence}
            for style in emoji.STYLES
        },
    }
    (folder / "model.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", "utf-8")


def sha256(path: Path) -> str:
    """The hash of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
