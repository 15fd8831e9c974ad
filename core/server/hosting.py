"""What a host is made from, as plain values: the server makes one, and so does each of its worker processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..folders import Folders, default_base
from ..host import Host, Settings

if TYPE_CHECKING:
    from ..packs.loading import Packs

FACTORY = f"{__name__}:made"  # what a worker process calls


@dataclass(frozen=True, slots=True)
class Plan:
    """Where files lie and how networks compute.  Paths are texts: it crosses a pipe as JSON."""

    base: str = ""  # "": the platform's folder for a user's data
    inputs: str = ""
    output: str = ""
    temp: str = ""
    data: str = ""
    first: Mapping[str, Sequence[str]] = field(default_factory=dict)
    further: Mapping[str, Sequence[str]] = field(default_factory=dict)
    packs: Sequence[str] = ()
    device: str = "auto"
    dtype: str = "auto"
    vram_budget: int | None = None
    cache_entries: int | None = None  # results that are kept; None: as many as fit; 0: none, on disk neither
    metadata: bool = True

    @property
    def folders(self) -> Folders:
        """Where files lie."""
        return Folders.at(
            Path(self.base) if self.base else default_base(),
            inputs=_path(self.inputs),
            output=_path(self.output),
            temp=_path(self.temp),
            data=_path(self.data),
            first={kind: [Path(path) for path in paths] for kind, paths in self.first.items()},
            further={kind: [Path(path) for path in paths] for kind, paths in self.further.items()},
        )

    def as_json(self) -> dict[str, Any]:
        """The plan as plain data."""
        return asdict(self)


def made(data: Mapping[str, Any], send: Callable[[str | int, Any, str | None], None]) -> Host:
    """The host of a plan that came through JSON, with all packs, which `send` what they say, for a worker process."""
    plan = Plan(**data)
    host, packs = opened(Plan(**{**data, "device": _own_device(plan.device)}))
    packs.attach(send)
    return host


def opened(plan: Plan) -> tuple[Host, Packs]:
    """The host of a plan, and what packs bring along."""
    from ...nodes import ALL
    from ..packs.loading import load

    settings = Settings(
        device=plan.device,
        dtype=plan.dtype,
        vram_budget=plan.vram_budget,
        disk_cache=plan.cache_entries != 0,
        metadata=plan.metadata,
        folders=plan.folders,
        cache_entries=math.inf if plan.cache_entries is None else plan.cache_entries,
    )
    host = Host(ALL, settings)
    return host, load([Path(path) for path in plan.packs], ALL, host)


def devices(plan: Plan, workers: int) -> list[str]:
    """The device of each worker: the one that was named, or one of its own as far as there are enough."""
    return [f"auto:{k}" if plan.device == "auto" else plan.device for k in range(workers)]


def _own_device(device: str) -> str:
    """What `auto:2` is on this machine: the third GPU, or one of those that there are, or the CPU."""
    name, _, number = device.partition(":")
    if name != "auto" or not number:
        return device
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{int(number) % count}" if count else "cpu"


def _path(text: str) -> Path | None:
    return Path(text) if text else None
