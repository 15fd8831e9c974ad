"""`comfy.samplers`: the names of samplers and schedules, for drop-downs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...diffusion.samplers import SAMPLERS
from ...diffusion.schedules import SCHEDULES

if TYPE_CHECKING:
    from ..house import House

__all__: list[str] = []


def members(house: House) -> dict[str, Any]:
    """The names that KSampler offers; those of our own sampler where there is no KSampler."""
    samplers = _offered(house, "sampler_name") or list(SAMPLERS)
    schedulers = _offered(house, "scheduler") or list(SCHEDULES)
    ksampler = type("KSampler", (), {"SAMPLERS": samplers, "SCHEDULERS": schedulers})
    return {"KSampler": ksampler, "SAMPLER_NAMES": samplers, "SCHEDULER_NAMES": schedulers}


def _offered(house: House, name: str) -> list[str]:
    node = house.registry.get("KSampler")
    spec = node.input(name) if node else None
    return list(spec.hint) if spec and isinstance(spec.hint, tuple) else []
