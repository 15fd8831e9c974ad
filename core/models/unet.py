"""The denoising UNet of Stable Diffusion 1, 2 and XL: one network, told apart by configuration alone.

Its parameters bear the names that diffusers gives them, so that its folders load as they are.  Ho et al. 2020 (arXiv
2006.11239) gave its shape, Rombach et al. 2022 (2112.10752) its attention to text, and Podell et al. 2023 (2307.01952)
its depth per level and its added vector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_BLOCKS = 64  # in a row: a file that says more would only take time
HIDDEN = -10000.0  # added to a logit, it hides a token: its exp is 0, and float16 can hold it


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """What tells one UNet from another.  The tuples run over the levels, the finest first."""

    in_channels: int = 4  # 9 to paint in a mask, 8 to edit by instruction
    out_channels: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers: int = 2  # residual blocks of a level on the way down; one more on the way up
    depth: tuple[int, ...] = (1, 1, 1, 0)  # transformer blocks after each residual block; 0: no attention there
    mid_depth: int | None = 1  # the same in the middle; 0: one residual block; None: no middle
    heads: tuple[int, ...] = (8, 8, 8, 8)  # of attention; the middle has those of the last level
    context_dim: int = 768  # D of the text's tokens
    vector_dim: int | None = None  # V of the vector that joins the time; None: it takes none
    norm_groups: int = 32
    norm_eps: float = 1e-5
    linear_projection: bool = False  # into and out of a transformer: a linear map, or a 1x1 convolution
    upcast_attention: bool = False  # queries and keys in float32: Stable Diffusion 2.1 overflows float16

    def __post_init__(self) -> None:
        levels = len(self.channels), len(self.depth), len(self.heads)
        if not self.channels or len(set(levels)) > 1:
            raise ValueError("channels, depth and heads are of one length, not {}, {} and {}".format(*levels))
        if not 0 < self.layers <= MOST_BLOCKS or max(*self.depth, self.mid_depth or 0) > MOST_BLOCKS:
            raise ValueError(f"a level has at most {MOST_BLOCKS} blocks in a row")
        for width, depth, heads in zip(self.channels, self.depth, self.heads, strict=True):
            if width % self.norm_groups:
                raise ValueError(f"a level's channels are a multiple of norm_groups {self.norm_groups}, not {width}")
            if depth and width % heads:
                raise ValueError(f"a level's channels are a multiple of its heads, not {width} with {heads} heads")


class Norms(Protocol):
    """What a configuration says of its group norms."""

    @property
    def norm_groups(self) -> int:
        """Groups of channels."""
        ...

    @property
    def norm_eps(self) -> float:
        """Added to a variance."""
        ...


def sinusoid(values: Tensor, width: int) -> Tensor:
    """Numbers as waves, (N,) -> (N, width) float32: cosines, then sines, wavelengths 2 pi to 20000 pi (2006.11239)."""
    half = width // 2
    order = torch.arange(half, dtype=torch.float32, device=values.device) / half  # (half,)
    rates = torch.exp(order * -math.log(10000.0))  # (half,)
    angles = values.float()[:, None] * rates  # (N, half)
    return F.pad(torch.cat((angles.cos(), angles.sin()), dim=-1), (0, width % 2))  # (N, width)


class UNet(nn.Module):
    """A network that sees a noisy latent, the time of each image and its text, and predicts what `Sampling` says."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        first, last = config.channels[0], config.channels[-1]
        time = first * 4
        self.conv_in = nn.Conv2d(config.in_channels, first, 3, padding=1)
        self.time_embedding = Embedding(first, time)
        self.add_embedding = None if config.vector_dim is None else Embedding(config.vector_dim, time)
        self.down_blocks = nn.ModuleList(Down(config, level, time) for level in range(len(config.channels)))
        self.mid_block = None if config.mid_depth is None else Middle(config, config.mid_depth, last, time)
        self.up_blocks = nn.ModuleList(Up(config, level, time) for level in reversed(range(len(config.channels))))
        self.conv_norm_out = nn.GroupNorm(config.norm_groups, first, eps=config.norm_eps)
        self.conv_out = nn.Conv2d(first, config.out_channels, 3, padding=1)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        context_mask: Tensor | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        """Predict for x (N, C, h, w) at timesteps (N,), given context (N, T, D): (N, out, h, w), in x's dtype.

        context_mask (N, T) is True where there is a token.  vector (N, V) is read where the network takes one.
        Inputs are cast to the dtype of the weights; nothing here waits for the device.
        """
        dtype = self.conv_in.weight.dtype
        time = self.time(timesteps, vector)  # (N, 4 first)
        context = context.to(dtype)
        bias = None if context_mask is None else _bias(context_mask, dtype)  # (N, 1, 1, T)
        h = self.conv_in(x.to(dtype))  # (N, first, h, w)
        skips = [h]
        for block in self.down_blocks:
            h = block(h, time, context, bias, skips)  # each level halves h, w
        if self.mid_block is not None:
            h = self.mid_block(h, time, context, bias)
        for block in self.up_blocks:
            h = block(h, time, context, bias, skips)  # each level doubles them again, to its skip's size
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(h)))  # (N, out, h, w)
        return out.to(x.dtype)

    def time(self, timesteps: Tensor, vector: Tensor | None) -> Tensor:
        """Time and vector in one, through the activation that every residual block wants: (N, 4 first)."""
        dtype = self.conv_in.weight.dtype
        time: Tensor = self.time_embedding(sinusoid(timesteps, self.config.channels[0]).to(dtype))
        if self.add_embedding is not None:
            if vector is None:
                wanted = self.config.vector_dim
                raise ValueError(f"this UNet takes a vector of {wanted} numbers with each text, and got none")
            time = time + self.add_embedding(vector.to(dtype))
        return F.silu(time)


class Embedding(nn.Module):
    """A vector through two layers, (N, inputs) -> (N, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(inputs, outputs)
        self.linear_2 = nn.Linear(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Embed x."""
        out: Tensor = self.linear_2(F.silu(self.linear_1(x)))
        return out


class Down(nn.Module):
    """A level on the way down: residual blocks, each with its transformer, then half the size unless it is the last."""

    def __init__(self, config: UNetConfig, level: int, time: int) -> None:
        super().__init__()
        inputs, width = config.channels[max(level - 1, 0)], config.channels[level]
        self.resnets = nn.ModuleList(
            Residual(config, inputs if layer == 0 else width, width, time) for layer in range(config.layers)
        )
        self.attentions = _transformers(config, config.depth[level], level, config.layers)
        last = level == len(config.channels) - 1
        self.downsamplers = None if last else nn.ModuleList([Halve(width)])

    def forward(self, x: Tensor, time: Tensor, context: Tensor, bias: Tensor | None, skips: list[Tensor]) -> Tensor:
        """Go down a level, leaving every result in skips."""
        for layer, resnet in enumerate(self.resnets):
            x = resnet(x, time)  # (N, width, h, w)
            if self.attentions is not None:
                x = self.attentions[layer](x, context, bias)
            skips.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)  # (N, width, ceil(h / 2), ceil(w / 2))
            skips.append(x)
        return x


class Middle(nn.Module):
    """The coarsest level: residual, transformer, residual; or one residual block where the depth is 0."""

    def __init__(self, config: UNetConfig, depth: int, width: int, time: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Residual(config, width, width, time) for _ in range(2 if depth else 1))
        self.attentions = _transformers(config, depth, len(config.channels) - 1, 1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor, bias: Tensor | None) -> Tensor:
        """Think once more at the coarsest size."""
        x = self.resnets[0](x, time)
        if self.attentions is not None:
            x = self.resnets[1](self.attentions[0](x, context, bias), time)
        return x


class Up(nn.Module):
    """A level on the way up: residual blocks that take a skip each, then twice the size unless it is the finest."""

    def __init__(self, config: UNetConfig, level: int, time: int) -> None:
        super().__init__()
        width = config.channels[level]
        below = config.channels[min(level + 1, len(config.channels) - 1)]
        above = config.channels[max(level - 1, 0)]
        count = config.layers + 1
        inputs = [below, *[width] * (count - 1)]
        skips = [*[width] * (count - 1), above]
        self.resnets = nn.ModuleList(
            Residual(config, x + skip, width, time) for x, skip in zip(inputs, skips, strict=True)
        )
        self.attentions = _transformers(config, config.depth[level], level, count)
        self.upsamplers = nn.ModuleList([Double(width)]) if level else None

    def forward(self, x: Tensor, time: Tensor, context: Tensor, bias: Tensor | None, skips: list[Tensor]) -> Tensor:
        """Go up a level, taking results from skips."""
        for layer, resnet in enumerate(self.resnets):
            x = resnet(torch.cat((x, skips.pop()), dim=1), time)  # (N, x + skip, h, w) -> (N, width, h, w)
            if self.attentions is not None:
                x = self.attentions[layer](x, context, bias)
        if self.upsamplers is not None:
            x = self.upsamplers[0](x, skips[-1].shape[-2:])  # (N, width, H, W), as large as the next skip
        return x


class Halve(nn.Module):
    """Half the size, by a convolution of stride 2: (N, C, h, w) -> (N, C, ceil(h / 2), ceil(w / 2))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Halve x."""
        out: Tensor = self.conv(x)
        return out


class Double(nn.Module):
    """To another size, by nearest neighbours and a convolution: (N, C, h, w) -> (N, C, *size)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Enlarge x to size, its height and width: twice its own, or that of a skip, so that odd sizes come back."""
        out: Tensor = self.conv(F.interpolate(x, size=tuple(size), mode="nearest"))
        return out


class Residual(nn.Module):
    """Two convolutions around the time, if any, added to what came in: (N, inputs, h, w) -> (N, outputs, h, w)."""

    def __init__(self, config: Norms, inputs: int, outputs: int, time: int | None = None) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(config.norm_groups, inputs, eps=config.norm_eps)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time_emb_proj = None if time is None else nn.Linear(time, outputs)
        self.norm2 = nn.GroupNorm(config.norm_groups, outputs, eps=config.norm_eps)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """Refine x at the activated time (N, time)."""
        h = self.conv1(F.silu(self.norm1(x)))  # (N, outputs, h, w)
        if self.time_emb_proj is not None and time is not None:
            h = h + self.time_emb_proj(time)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        out: Tensor = (x if self.conv_shortcut is None else self.conv_shortcut(x)) + h
        return out


class Transformer(nn.Module):
    """An image that looks at itself and at the text, cell by cell, added to what came in: (N, C, h, w) stays."""

    def __init__(self, config: UNetConfig, depth: int, width: int, heads: int) -> None:
        super().__init__()
        self.linear = config.linear_projection
        self.norm = nn.GroupNorm(config.norm_groups, width, eps=1e-6)  # not norm_eps: so it was trained
        self.proj_in = nn.Linear(width, width) if self.linear else nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList(TransformerBlock(config, width, heads) for _ in range(depth))
        self.proj_out = nn.Linear(width, width) if self.linear else nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None) -> Tensor:
        """Attend from x to itself and to context (N, T, D), whose hidden tokens bias (N, 1, 1, T) marks."""
        h = self.norm(x)
        h = _cells(h) if self.linear else _cells(self.proj_in(h))  # (N, h w, C)
        h = self.proj_in(h) if self.linear else h
        for block in self.transformer_blocks:
            h = block(h, context, bias)
        h = _image(self.proj_out(h), x) if self.linear else self.proj_out(_image(h, x))  # (N, C, h, w)
        return x + h


class TransformerBlock(nn.Module):
    """Self-attention, attention to the text, and a gated feed-forward layer, each added to what came in: (N, S, C)."""

    def __init__(self, config: UNetConfig, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, width, heads, upcast=config.upcast_attention)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, config.context_dim, heads, upcast=config.upcast_attention)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None) -> Tensor:
        """Attend from x (N, S, C) to itself and to context (N, T, D)."""
        own = self.norm1(x)
        x = x + self.attn1(own, own, None)
        x = x + self.attn2(self.norm2(x), context, bias)
        out: Tensor = x + self.ff(self.norm3(x))
        return out


class Attention(nn.Module):
    """Scaled dot-product attention with several heads: (N, S, C) looks at (N, T, D), and stays (N, S, C)."""

    def __init__(self, width: int, context: int, heads: int, *, upcast: bool) -> None:
        super().__init__()
        self.heads, self.upcast = heads, upcast
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None) -> Tensor:
        """Attend from x to context; bias (N, 1, 1, T) is added to the logits."""
        q = self._split(self.to_q(x))  # (N, heads, S, C / heads)
        k, v = self._split(self.to_k(context)), self._split(self.to_v(context))  # each (N, heads, T, C / heads)
        if self.upcast:
            q, k, v, bias = q.float(), k.float(), v.float(), None if bias is None else bias.float()
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        h = h.to(x.dtype).transpose(1, 2).flatten(2)  # (N, S, C)
        out: Tensor = self.to_out[0](h)
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)  # (N, S, C) -> (N, heads, S, C / heads)


class FeedForward(nn.Module):
    """Four times as wide and back, gated by GELU (Shazeer 2020, arXiv 2002.05202): (N, S, C) -> (N, S, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([Gate(width, width * 4), nn.Identity(), nn.Linear(width * 4, width)])

    def forward(self, x: Tensor) -> Tensor:
        """Transform each cell by itself."""
        out: Tensor = self.net[2](self.net[0](x))
        return out


class Gate(nn.Module):
    """GEGLU: one half of a linear map, gated by the other: (N, S, inputs) -> (N, S, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, outputs * 2)

    def forward(self, x: Tensor) -> Tensor:
        """Widen and gate x."""
        value, gate = self.proj(x).chunk(2, dim=-1)  # each (N, S, outputs)
        out: Tensor = value * F.gelu(gate)
        return out


def _transformers(config: UNetConfig, depth: int, level: int, count: int) -> nn.ModuleList | None:
    if not depth:
        return None
    width, heads = config.channels[level], config.heads[level]
    return nn.ModuleList(Transformer(config, depth, width, heads) for _ in range(count))


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    # Not minus infinity: a text all of whose tokens are hidden would be NaN.
    return mask.logical_not().to(dtype).mul(HIDDEN)[:, None, None, :]  # (N, T) -> (N, 1, 1, T)


def _cells(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1, 2)  # (N, C, h, w) -> (N, h w, C): a view, where x is channels_last


def _image(cells: Tensor, like: Tensor) -> Tensor:
    n, _, h, w = like.shape
    return cells.reshape(n, h, w, -1).permute(0, 3, 1, 2)  # (N, h w, C) -> (N, C, h, w)
