"""The autoencoder of latent diffusion: pictures to latents and back, its parameters named as diffusers names them.

Rombach et al. 2022 (arXiv 2112.10752, section 3.1).  Its latents are raw: a Model scales them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .unet import MOST_BLOCKS, Double, Residual

# Files saved before diffusers 0.18 call the four maps of an attention by other names.
FORMER_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_FORMER = re.compile(r"(.*\.attentions\.0\.)(query|key|value|proj_attn)(\.(?:weight|bias))")


@dataclass(frozen=True, slots=True)
class VaeConfig:
    """What tells one autoencoder from another.  The channels run over the levels, the finest first."""

    in_channels: int = 3
    out_channels: int = 3
    channels: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2  # residual blocks of a level in the encoder; one more in the decoder
    latent_channels: int = 4
    norm_groups: int = 32
    norm_eps: float = 1e-6
    mid_attention: bool = True
    quant_conv: bool = True  # a 1x1 convolution after the encoder
    post_quant_conv: bool = True  # and one before the decoder: Stable Diffusion 3 and Flux have neither

    def __post_init__(self) -> None:
        if not 0 < self.layers <= MOST_BLOCKS:
            raise ValueError(f"a level has 1 to {MOST_BLOCKS} layers, not {self.layers}")
        wrong = [width for width in self.channels if width % self.norm_groups]
        if wrong or not self.channels:
            raise ValueError(f"channels are multiples of norm_groups {self.norm_groups}, not {list(self.channels)}")

    @property
    def downscale(self) -> int:
        """Pixels a latent cell is wide."""
        return int(2 ** (len(self.channels) - 1))


class AutoencoderKL(nn.Module):
    """An encoder and a decoder; between them a latent with a mean and a variance."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        moments, latent = 2 * config.latent_channels, config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(moments, moments, 1) if config.quant_conv else None
        self.post_quant_conv = nn.Conv2d(latent, latent, 1) if config.post_quant_conv else None

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (N, 3, H, W) in [-1, 1] to the mean of their latents (N, C, H // f, W // f)."""
        return self.moments(pixels)[0]

    def moments(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (N, 3, H, W) in [-1, 1] to mean and log variance, each (N, C, H // f, W // f)."""
        h = self.encoder(pixels.to(self.encoder.conv_in.weight.dtype))
        h = h if self.quant_conv is None else self.quant_conv(h)
        mean, logvar = h.to(pixels.dtype).chunk(2, dim=1)  # (N, 2 C, h, w) -> each (N, C, h, w)
        return mean, logvar.clamp(-30.0, 20.0)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (N, C, h, w) to pixels (N, 3, h f, w f), in about [-1, 1]."""
        h = latents.to(self.decoder.conv_in.weight.dtype)
        h = h if self.post_quant_conv is None else self.post_quant_conv(h)
        pixels: Tensor = self.decoder(h)
        return pixels.to(latents.dtype)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels there and back, through the mean."""
        return self.decode(self.encode(pixels))


def present_name(key: str) -> str:
    """The name that a parameter has today, for one that an old file may hold."""
    found = _FORMER.fullmatch(key)
    return key if found is None else found[1] + FORMER_NAMES[found[2]] + found[3]


class Encoder(nn.Module):
    """Pixels (N, 3, H, W) to moments (N, 2 C, H // f, W // f)."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        first, last = config.channels[0], config.channels[-1]
        self.conv_in = nn.Conv2d(config.in_channels, first, 3, padding=1)
        self.down_blocks = nn.ModuleList(Down(config, level) for level in range(len(config.channels)))
        self.mid_block = Middle(config, last)
        self.conv_norm_out = nn.GroupNorm(config.norm_groups, last, eps=config.norm_eps)
        self.conv_out = nn.Conv2d(last, 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode x."""
        x = self.conv_in(x)  # (N, first, H, W)
        for block in self.down_blocks:
            x = block(x)
        x = self.mid_block(x)  # (N, last, H // f, W // f)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))  # (N, 2 C, H // f, W // f)
        return out


class Decoder(nn.Module):
    """Latents (N, C, h, w) to pixels (N, 3, h f, w f)."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        first, last = config.channels[0], config.channels[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, last, 3, padding=1)
        self.mid_block = Middle(config, last)
        self.up_blocks = nn.ModuleList(Up(config, level) for level in reversed(range(len(config.channels))))
        self.conv_norm_out = nn.GroupNorm(config.norm_groups, first, eps=config.norm_eps)
        self.conv_out = nn.Conv2d(first, config.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Decode x."""
        x = self.mid_block(self.conv_in(x))  # (N, last, h, w)
        for block in self.up_blocks:
            x = block(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))  # (N, 3, h f, w f)
        return out


class Down(nn.Module):
    """A level of the encoder: residual blocks, then half the size unless it is the last."""

    def __init__(self, config: VaeConfig, level: int) -> None:
        super().__init__()
        inputs, width = config.channels[max(level - 1, 0)], config.channels[level]
        self.resnets = nn.ModuleList(
            Residual(config, inputs if layer == 0 else width, width) for layer in range(config.layers)
        )
        last = level == len(config.channels) - 1
        self.downsamplers = None if last else nn.ModuleList([Halve(width)])

    def forward(self, x: Tensor) -> Tensor:
        """Go down a level."""
        for resnet in self.resnets:
            x = resnet(x)  # (N, width, h, w)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)  # (N, width, h // 2, w // 2)
        return x


class Up(nn.Module):
    """A level of the decoder: residual blocks, then twice the size unless it is the finest."""

    def __init__(self, config: VaeConfig, level: int) -> None:
        super().__init__()
        below, width = config.channels[min(level + 1, len(config.channels) - 1)], config.channels[level]
        self.resnets = nn.ModuleList(
            Residual(config, below if layer == 0 else width, width) for layer in range(config.layers + 1)
        )
        self.upsamplers = nn.ModuleList([Double(width)]) if level else None

    def forward(self, x: Tensor) -> Tensor:
        """Go up a level."""
        for resnet in self.resnets:
            x = resnet(x)  # (N, width, h, w)
        if self.upsamplers is not None:
            x = self.upsamplers[0](x, (2 * x.shape[2], 2 * x.shape[3]))  # (N, width, 2 h, 2 w)
        return x


class Middle(nn.Module):
    """Residual, attention, residual: (N, C, h, w) stays."""

    def __init__(self, config: VaeConfig, width: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Residual(config, width, width) for _ in range(2))
        self.attentions = nn.ModuleList([SelfAttention(config, width)]) if config.mid_attention else None

    def forward(self, x: Tensor) -> Tensor:
        """Refine x at the coarsest size."""
        x = self.resnets[0](x)
        if self.attentions is not None:
            x = self.attentions[0](x)
        out: Tensor = self.resnets[1](x)
        return out


class Halve(nn.Module):
    """Half the size, padded at the right and below only: (N, C, h, w) -> (N, C, h // 2, w // 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Halve x."""
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class SelfAttention(nn.Module):
    """Each cell looks at all cells, with one head, added to what came in: (N, C, h, w) stays."""

    def __init__(self, config: VaeConfig, width: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(config.norm_groups, width, eps=config.norm_eps)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """Attend from x to itself."""
        n, width, height, breadth = x.shape
        cells = self.group_norm(x).permute(0, 2, 3, 1).reshape(n, 1, -1, width)  # (N, 1, h w, C)
        h = F.scaled_dot_product_attention(self.to_q(cells), self.to_k(cells), self.to_v(cells))
        h = self.to_out[0](h).reshape(n, height, breadth, width)  # (N, h, w, C)
        out: Tensor = x + h.permute(0, 3, 1, 2)  # (N, C, h, w)
        return out
