"""Fitting the patch autoencoder: principal components first, then the decoder (and the encoder with it) by descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ..models.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig
from .precision import mixed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Fit:
    """How an autoencoder is trained."""

    steps: int = 2000
    batch: int = 32
    rate: float = 2e-3  # of AdamW at its highest: a tenth of the steps rising, then a cosine down to 0
    encoder_rate: float = 0.1  # part of the rate at which the encoder learns; 0 keeps the principal components
    noise: float = 0.05  # added to half of the latents, so that the decoder forgives the small errors of a sampler
    whiten: float = 0.5  # 1: every latent channel has unit variance; 0: all keep the patches' own proportions
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Fitted:
    """How far a fit is."""

    step: int
    loss: float  # mean squared error of pixels in [-1, 1]


def principal(pixels: Tensor, config: PatchAutoencoderConfig, whiten: float) -> PatchAutoencoder:
    """An autoencoder of the leading principal components of patches of pixels (N, 3, H, W), its correction at 0.

    A channel of standard deviation s gets s^(1 - whiten), and all of them together a mean variance of 1.
    """
    model = PatchAutoencoder(config)
    patches = F.unfold(pixels, config.patch, stride=config.patch).transpose(1, 2).flatten(0, 1)  # (M, 3 p p)
    mean = patches.mean(0)
    centred = (patches - mean).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))  # rising
    count = config.latent_channels
    std, basis = values[-count:].flip(0).sqrt(), vectors[:, -count:].flip(1)  # (C,), (3 p p, C)
    spread = std ** (1 - whiten)
    gain = spread / spread.square().mean().sqrt() / std  # (C,)
    shape = (count, 3, config.patch, config.patch)
    with torch.no_grad():
        model.analysis.weight.copy_((basis * gain).T.reshape(shape))
        assert model.analysis.bias is not None
        model.analysis.bias.copy_(-(mean.double() @ (basis * gain)))
        model.synthesis.weight.copy_((basis / gain).T.reshape(shape))
        assert model.synthesis.bias is not None
        model.synthesis.bias.copy_(mean.reshape(3, -1).mean(1))
        model.correction.leave.weight.zero_()
        assert model.correction.leave.bias is not None
        model.correction.leave.bias.zero_()
    return model


def fit(model: PatchAutoencoder, batches: Callable[[int], Tensor], how: Fit) -> Iterator[Fitted]:
    """Train model in place on batches(step), pixels (N, 3, H, W) in [-1, 1]; yields after every step."""
    inner = [p for name, p in model.named_parameters() if not name.startswith("analysis.")]
    groups, rates = [inner], [how.rate]
    if how.encoder_rate > 0:
        groups.append(list(model.analysis.parameters()))
        rates.append(how.rate * how.encoder_rate)
    optimizer = torch.optim.AdamW([{"params": group} for group in groups], betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=how.steps, pct_start=0.1, cycle_momentum=False
    )
    generator = torch.Generator().manual_seed(how.seed)
    for step in range(how.steps):
        pixels = batches(step)
        with mixed():
            latents = model.encode(pixels)
            strength = how.noise * torch.randint(0, 2, (len(pixels), 1, 1, 1), generator=generator)
            latents = latents + strength * torch.randn(latents.shape, generator=generator)
            out = model.decode(latents)
        loss = F.mse_loss(out.float(), pixels)
        spread = 0.01 * (latents.float().square().mean() - 1).square()
        optimizer.zero_grad(set_to_none=True)
        (loss + spread).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield Fitted(step + 1, float(loss.detach()))


@torch.inference_mode()
def psnr(model: PatchAutoencoder, pixels: Tensor) -> Tensor:
    """Decibels of each picture there and back, (N, 3, H, W) in [-1, 1] -> (N,)."""
    error: Tensor = (model(pixels).clamp(-1, 1) - pixels).square().mean((1, 2, 3)) / 4  # of pixels in [0, 1]
    return -10 * error.log10()
