"""What a server is told when it starts: where it listens, who may come in, and how it works.  ComfyUI's names."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
Preview = Literal["none", "auto", "latent2rgb", "taesd"]
PREVIEWS: tuple[Preview, ...] = ("none", "auto", "latent2rgb", "taesd")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a server listens, and what it offers."""

    listen: tuple[str, ...] = ("127.0.0.1",)
    port: int = 8188  # 0: any that is free
    token: str = field(default="", repr=False)  # what visitors must show; "": nothing
    allow_hosts: frozenset[str] = frozenset()  # further names that the server is called by
    cors: str = ""  # another origin whose pages may come in, or "*"; "": none
    max_upload_size: int = 100 << 20  # bytes of a file that is sent
    max_connections: int = 1000
    max_sockets: int = 300  # WebSockets among them
    patience: float = 20.0  # seconds that a sender may fall silent in the middle of a body
    preview_method: Preview = "none"
    preview_size: int = 512  # pixels; previews are never scaled up
    front_end: Path | None = None  # another front end's files, instead of ours
    metadata: bool = True  # write workflows into pictures
    paused: bool = False  # take jobs, and run none until told to
    workers: int = 0  # processes that run jobs; 0: this one
    together: int = 1  # jobs that are driven side by side
    keep: int = 1000  # finished jobs that are remembered

    @property
    def public(self) -> bool:
        """Whether anybody else than this machine can reach the server."""
        return not all(is_loopback(host) for host in self.listen)


def is_loopback(host: str) -> bool:
    """Whether an address, or the name localhost, stands for this machine alone.  Nothing is looked up."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address in LOOPBACK if address.version == 4 else address == ipaddress.IPv6Address("::1")
