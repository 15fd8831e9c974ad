"""The sampler: walk from noise to a latent image, one noise level at a time."""

from __future__ import annotations

from dataclasses import replace
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

    steps = len(sigmas.values) - 1
    batch = _repeated(latent, seeds)
    guider, samples, mask = context.networks.place((guider, batch.samples, batch.noise_mask))
    walks = [
        _walk(
            guider,
            sigmas,
            samples[k : k + 1],
            mask if mask is None else mask[k : k + 1],
            number,
            sampler,
            eta,
            add_noise,
        )
        for k, number in enumerate(_numbers(batch, seed, seeds))
    ]
    ends = yield from side_by_side(walks, guider, steps)
    return replace(batch, samples=parameterisation.end(guider.model, torch.cat(ends)).float())


def _walk(
    guider: Guider,
    sigmas: Sigmas,
    image: Tensor,
    mask: Tensor | None,
    seed: int,
    sampler: str,
    eta: float,
    add_noise: bool,  # noqa: FBT001 - named at the one place that calls
) -> Walk:
    """One image's way, from its own streams of noise."""
    from ..core.diffusion import noise, parameterisation
    from ..core.diffusion.walks import masked

    levels = sigmas.values
    highest = float(levels[0])
    start = noise.start(seed, image.shape).to(image) if add_noise else None
    pure = not bool((image != guider.model.latent.shift).any())
    x = parameterisation.begin(guider.model, image, start, highest, pure=pure)
    renewed: Noise = noise.Brownian(seed, x) if sampler.endswith("_sde") else noise.fresh(seed, x)
    flow = guider.model.sampling.prediction == "flow"
    walk = SAMPLERS[sampler](x, levels, renewed, eta=None if eta < 0 else eta, flow=flow)
    if mask is None:
        return walk
    around = start if start is not None else noise.start(seed, image.shape).to(image)
    return masked(
        walk, mask, lambda sigma: parameterisation.begin(guider.model, image, around, sigma), float(levels[-1])
    )


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
