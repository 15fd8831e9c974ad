"""The sampler: walk from noise to a latent image, one noise level at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from ..core.diffusion.samplers import SAMPLERS
from ..core.schema import Choice, Context, Range, Seed, node
from ..core.values import Guider, Latent, Seeds, Sigmas

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.diffusion.noise import Noise
    from ..core.diffusion.samplers import Walk
    from ..core.diffusion.walks import Work


@node("sampling", returns=Latent)
def sample(
    guider: Annotated[Guider, "The UNet, and what it is told."],
    sigmas: Annotated[Sigmas, "The noise levels to visit."],
    latent: Annotated[Latent, "Where to start from: empty for text-to-image."],
    seed: Annotated[int, Seed(), "Image k of a batch is the image that seed + k gives alone."] = 0,
    sampler: Annotated[str, Choice(*SAMPLERS), "How to walk down the levels."] = "dpmpp_2m",
    eta: Annotated[float, Range(-1, 10, 0.01), "How much noise is renewed at each step; -1: as is usual there."] = -1.0,
    add_noise: Annotated[bool, "No: the latent is noisy already, as the first half of a schedule left it."] = True,
    seeds: Annotated[Seeds | None, "A seed for each image, instead of seed, seed + 1, ..."] = None,
    *,
    context: Context,
) -> Work[Latent]:
    """Turn noise into a latent image."""
    import torch

    from ..core.diffusion import parameterisation
    from ..core.diffusion.walks import side_by_side

    batch = _repeated(latent, seeds)
    if not len(sigmas.values):  # the second half of a schedule that was cut at its end
        return batch
    if batch.noise_mask is not None and not add_noise:
        raise ValueError("a latent that is noisy already cannot be masked: its noise hides what is to be kept")
    pure = (batch.samples == guider.model.latent.shift).flatten(1).all(1).tolist()  # before a device would wait for it
    guider, samples, mask = context.networks.place((guider, batch.samples, batch.noise_mask))
    way = _Way(guider, sigmas.values, sampler, None if eta < 0 else eta, add_noise)
    walks = [
        _walk(way, number, samples[k : k + 1], None if mask is None else mask[k : k + 1], pure=pure[k])
        for k, number in enumerate(_numbers(batch, seed, seeds))
    ]
    ends = yield from side_by_side(walks, guider, len(sigmas.values) - 1)
    return replace(batch, samples=parameterisation.end(guider.model, torch.cat(ends)).float().cpu())


@dataclass(frozen=True, slots=True)
class _Way:
    """What the images of a batch have in common."""

    guider: Guider
    levels: Tensor  # (steps + 1,)
    sampler: str
    eta: float | None
    add_noise: bool


def _walk(way: _Way, seed: int, image: Tensor, mask: Tensor | None, *, pure: bool) -> Walk:
    """One image (1, C, h, w) on its way, with noise of its own; `pure`: there is nothing in it."""
    from ..core.diffusion import noise
    from ..core.diffusion.parameterisation import begin
    from ..core.diffusion.walks import masked

    model, levels = way.guider.model, way.levels
    start = noise.start(seed, image.shape).to(image) if way.add_noise else None
    x = begin(model, image, start, float(levels[0]), pure=pure)
    renewed: Noise = noise.Brownian(seed, x) if way.sampler.endswith("_sde") else noise.fresh(seed, x)
    walk = SAMPLERS[way.sampler](x, levels, renewed, eta=way.eta, flow=model.sampling.prediction == "flow")
    if mask is None:
        return walk
    return masked(walk, mask, lambda sigma: begin(model, image, start, sigma), float(levels[-1]))


def _repeated(latent: Latent, seeds: Seeds | None) -> Latent:
    """One latent for each seed, where seeds are listed and there is one latent for all of them."""
    if seeds is None or len(latent.samples) == len(seeds.values):
        return latent
    if len(latent.samples) > 1:
        raise ValueError(f"there are {len(seeds.values)} seeds for {len(latent.samples)} images")
    count = len(seeds.values)
    mask = None if latent.noise_mask is None else latent.noise_mask.expand(count, -1, -1, -1)
    return Latent(latent.samples.expand(count, -1, -1, -1), mask)


def _numbers(latent: Latent, seed: int, seeds: Seeds | None) -> tuple[int, ...]:
    if seeds is not None:
        return seeds.values
    return tuple(seed + k for k in (latent.batch_index or range(len(latent.samples))))
