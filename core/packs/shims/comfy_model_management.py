"""`comfy.model_management`: which device a node may use, and whether somebody has pressed stop."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

from ...call import CALLING
from ...errors import Interrupted
from ...values import Progress

if TYPE_CHECKING:
    import torch

    from ..house import House

__all__ = ["InterruptProcessingException", "soft_empty_cache", "throw_exception_if_processing_interrupted"]

InterruptProcessingException = Interrupted


def throw_exception_if_processing_interrupted() -> None:
    """Raise what stops the run, if somebody has pressed stop."""
    if (calling := CALLING.get(None)) is not None:
        calling.report(Progress(0, 0))


def soft_empty_cache(force: bool = False) -> None:  # noqa: ARG001, FBT001 - its signature there
    """Give back the memory that nobody uses."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def members(house: House) -> dict[str, Any]:
    """What depends on the host."""

    def get_torch_device() -> torch.device:
        """Where networks compute."""
        from ...models.residency import resolve_device

        return resolve_device(house.device)

    def cpu() -> torch.device:
        """Where values are between nodes."""
        import torch

        return torch.device("cpu")

    return {
        "get_torch_device": get_torch_device,
        "vae_device": get_torch_device,
        "text_encoder_device": get_torch_device,
        "intermediate_device": cpu,
        "unet_offload_device": cpu,
        "vae_offload_device": cpu,
        "text_encoder_offload_device": cpu,
    }
