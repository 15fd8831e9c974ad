"""A small network that names the concept of a picture: it judges the default model, and learns from real pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .losses import cosine
from .precision import mixed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Lesson:
    """How the judge is trained."""

    steps: int = 3000
    batch: int = 64
    rate: float = 2e-3
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Learned:
    """How far it is."""

    step: int
    loss: float  # cross-entropy, in nats


class Judge(nn.Module):
    """A residual network of four levels: pixels (N, 3, H, W) in [-1, 1] to one number for each concept, (N, K)."""

    def __init__(self, concepts: int, widths: Sequence[int] = (32, 64, 128, 256)) -> None:
        super().__init__()
        pairs = zip((widths[0], *widths), widths, strict=False)
        self.enter = nn.Conv2d(3, widths[0], 3, stride=2, padding=1)
        self.levels = nn.Sequential(*(Level(before, after) for before, after in pairs))
        self.leave = nn.Linear(widths[-1], concepts)

    def forward(self, pixels: Tensor) -> Tensor:
        """Judge pictures."""
        h = self.levels(self.enter(pixels))  # (N, widths[-1], H / 32, W / 32)
        out: Tensor = self.leave(F.dropout(F.silu(h).mean((2, 3)), 0.2, self.training))
        return out


class Level(nn.Module):
    """A residual block that halves the size."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.second = nn.Conv2d(after, after, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1)
        self.norms = nn.ModuleList((nn.GroupNorm(8, before), nn.GroupNorm(8, after)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) to (N, after, H / 2, W / 2)."""
        h = self.first(F.silu(self.norms[0](x)))
        out: Tensor = self.second(F.silu(self.norms[1](h))) + self.shortcut(F.avg_pool2d(x, 2))
        return out


def jitter(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures on white, each moved, scaled, turned, mirrored and tinted a little: (N, 3, H, W) in [-1, 1]."""

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    count = len(pixels)
    zoom, angle = between(0.85, 1.35, count), between(-0.25, 0.25, count)  # above 1: smaller
    mirror = torch.where(between(0, 1, count) < 0.5, -1.0, 1.0)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    shift = between(-0.15, 0.15, count, 2)
    rows = torch.stack((cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]), 1).reshape(count, 2, 3)
    grid = F.affine_grid(rows, list(pixels.shape), align_corners=False)
    moved = 1 - F.grid_sample(1 - pixels, grid, align_corners=False)  # what comes in from outside is white
    gain, tint = between(0.8, 1.1, count, 1, 1, 1), between(-0.1, 0.1, count, 3, 1, 1)
    grain = torch.randn(pixels.shape, generator=generator) * between(0, 0.08, count, 1, 1, 1)
    return (1 + (moved - 1) * gain + tint + grain).clamp(-1, 1)


def learn(judge: Judge, pixels: Tensor, names: Tensor, how: Lesson) -> Iterator[Learned]:
    """Train a judge in place on pixels (N, 3, H, W) and the number of each one's concept (N,)."""
    optimizer = torch.optim.AdamW(judge.parameters(), lr=how.rate, weight_decay=0.05)
    generator = torch.Generator().manual_seed(how.seed)
    judge.train()
    for step in range(how.steps):
        for group in optimizer.param_groups:
            group["lr"] = how.rate * min(1.0, (step + 1) / 100) * cosine(step, how.steps // 4, how.steps)
        rows = torch.randint(len(pixels), (how.batch,), generator=generator)
        seen = jitter(pixels[rows], generator)
        with mixed():
            said = judge(seen)
        loss = F.cross_entropy(said.float(), names[rows], label_smoothing=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield Learned(step + 1, float(loss.detach()))
    judge.eval()


@torch.inference_mode()
def ranks(judge: Judge, pixels: Tensor, names: Tensor, among: Sequence[int]) -> Tensor:
    """How many of the concepts in among the judge prefers to the true one: (N,) int64, 0 where it names it first."""
    judge.eval()
    said = torch.cat([judge(part) for part in torch.split(pixels, 256)])  # (N, K)
    true = said.gather(1, names[:, None])  # (N, 1)
    return (said[:, torch.as_tensor(among)] > true).sum(1)
