"""The arithmetic of training: bfloat16 where the processor multiplies matrices in it, float32 elsewhere."""

from __future__ import annotations

import torch


def mixed() -> torch.autocast:
    """A context in which networks compute in bfloat16 on processors with AMX; on others that would be far slower."""
    known = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return torch.autocast("cpu", torch.bfloat16, enabled=known is not None and bool(known()))
