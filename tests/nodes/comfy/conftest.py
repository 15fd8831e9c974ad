"""A model whose latents stay small, so that float32 holds them to 1e-5."""

from __future__ import annotations

import pytest
import tiny
from limner.nodes import loader


@pytest.fixture
def model(models, context):
    file = models / "models" / "unet" / "v.safetensors"
    if not file.exists():
        tiny.unet(file)
    return loader.load_unet("v.safetensors", context=context)
