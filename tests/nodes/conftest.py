"""Nodes called as the functions that they are, on a tiny model."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
import torch
from limner.core.drive import alone
from limner.core.folders import Folders
from limner.core.models.residency import Residency
from limner.core.schema import Context
from limner.core.values import Conditioning
from limner.nodes import loader


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A base directory with the model `tiny`, without its text encoder."""
    base = tmp_path_factory.mktemp("models")
    tiny.checkpoint(base, text=False)
    tiny.unet(base / "models" / "unet" / "flow.safetensors", prediction="flow")
    tiny.unet(base / "models" / "unet" / "eps.safetensors", prediction="eps")
    tiny.vae(base / "models" / "vae" / "vae.safetensors")
    return base


@pytest.fixture
def warnings():
    """What nodes have warned of."""
    return []


@pytest.fixture
def context(models, warnings, tmp_path):
    """All that a node may ask of its host."""
    return Context(
        networks=Residency(torch.device("cpu"), torch.float32),
        library=replace(Folders.at(tmp_path), base=models),
        output=tmp_path / "output",
        temp=tmp_path / "temp",
        warn=warnings.append,
    )


@pytest.fixture
def run(context):
    """Take a long node to its end."""
    return lambda work: alone(work, context.networks)


@pytest.fixture
def model(context):
    return loader.load_unet("eps.safetensors", context=context)


@pytest.fixture
def flow(context):
    return loader.load_unet("flow.safetensors", context=context)


@pytest.fixture
def vae(context):
    return loader.load_vae("vae.safetensors", context=context)


@pytest.fixture
def words():
    """Two texts as an encoder would see them."""
    random = torch.Generator().manual_seed(0)
    tokens = [torch.randn(1, length, tiny.WIDTH, generator=random) for length in (5, 2)]
    texts = [Conditioning(t, None, t.mean(dim=1)) for t in tokens]
    return SimpleNamespace(prompt=texts[0], nothing=texts[1])
