"""The default model's autoencoder: patches to latents by one linear map, and back with a convolutional correction.

Its encoder is a linear transform, so latents blend as pictures do; only the decoder has to imagine detail.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class PatchAutoencoderConfig:
    """What tells one patch autoencoder from another."""

    latent_channels: int = 16
    patch: int = 8  # pixels a latent cell is wide: a power of two
    widths: tuple[int, ...] = (128, 96, 48)  # of the correction, at 1, 2, 4, ... cells per latent cell
    blocks: tuple[int, ...] = (2, 1, 1)  # residual blocks at each of these sizes

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.blocks) or not self.widths:
            raise ValueError(f"widths and blocks are of one length, not {len(self.widths)} and {len(self.blocks)}")
        if self.patch % 2 ** (len(self.widths) - 1):
            raise ValueError(f"a patch of {self.patch} pixels cannot be halved {len(self.widths) - 1} times")

    @property
    def downscale(self) -> int:
        """Pixels a latent cell is wide."""
        return self.patch


class PatchAutoencoder(nn.Module):
    """A linear map of patches to latents, its inverse, and a convolutional network that adds what the map lost."""

    def __init__(self, config: PatchAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = nn.Conv2d(3, config.latent_channels, config.patch, stride=config.patch)
        self.synthesis = nn.ConvTranspose2d(config.latent_channels, 3, config.patch, stride=config.patch)
        self.correction = Correction(config)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (N, 3, H, W) in [-1, 1] to latents (N, C, H // patch, W // patch), of about unit variance."""
        latents: Tensor = self.analysis(pixels.to(self.analysis.weight.dtype))
        return latents.to(pixels.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (N, C, h, w) to pixels (N, 3, h patch, w patch), in about [-1, 1]."""
        z = latents.to(self.synthesis.weight.dtype)
        pixels: Tensor = self.synthesis(z) + self.correction(z)
        return pixels.to(latents.dtype)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels there and back."""
        return self.decode(self.encode(pixels))


class Correction(nn.Module):
    """What the linear inverse misses: residual blocks from the size of the latents upwards, by pixel shuffle."""

    def __init__(self, config: PatchAutoencoderConfig) -> None:
        super().__init__()
        self.enter = nn.Conv2d(config.latent_channels, config.widths[0], 3, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(count)))
            for width, count in zip(config.widths, config.blocks, strict=True)
        )
        pairs = zip(config.widths, config.widths[1:], strict=False)
        self.doublings = nn.ModuleList(nn.Conv2d(width, 4 * after, 1) for width, after in pairs)
        rest = config.patch >> (len(config.widths) - 1)  # pixels a cell of the last stage is wide
        self.leave = nn.Conv2d(config.widths[-1], 3 * rest**2, 3, padding=1)
        self.rest = rest

    def forward(self, z: Tensor) -> Tensor:
        """Latents (N, C, h, w) to a correction (N, 3, h patch, w patch)."""
        h = self.enter(z)  # (N, widths[0], h, w)
        for index, stage in enumerate(self.stages):
            h = stage(h)
            if index < len(self.doublings):
                h = F.pixel_shuffle(self.doublings[index](h), 2)  # (N, widths[index + 1], 2 h, 2 w)
        return F.pixel_shuffle(self.leave(F.silu(h)), self.rest)


class Block(nn.Module):
    """A residual block of two 3x3 convolutions without norms, so that colours pass unchanged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Add to x what the two convolutions see in it."""
        out: Tensor = x + self.second(F.silu(self.first(F.silu(x))))
        return out
