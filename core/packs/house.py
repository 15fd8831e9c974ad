"""What packs are shown of the program that they run in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..folders import Folders
from ..host import Host
from ..schema import Registry
from .prompt_server import PromptServer

if TYPE_CHECKING:
    from ..models.residency import Residency


@dataclass(frozen=True, slots=True)
class House:
    """The host as the shims see it.  The tables grow while packs are loaded."""

    host: Host
    classes: dict[str, type] = field(default_factory=dict)  # every node as a class of ComfyUI's convention
    titles: dict[str, str] = field(default_factory=dict)
    web: dict[str, str] = field(default_factory=dict)  # the folder that each pack wants served to browsers
    server: PromptServer = field(default_factory=PromptServer)

    @property
    def folders(self) -> Folders:
        """Where files lie."""
        return self.host.folders

    @property
    def output(self) -> Path:
        """Where pictures are saved."""
        return (self.host.settings.output or self.folders.output).absolute()

    @property
    def device(self) -> str:
        """Where networks compute: auto, cpu, cuda or cuda:n."""
        return self.host.settings.device

    @property
    def networks(self) -> Residency:
        """Where networks are loaded and kept."""
        return self.host.networks

    @property
    def registry(self) -> Registry:
        """Every node there is."""
        return self.host.registry
