"""The sampler: walk from noise to a latent image, one noise level at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple

from ..core.diffusion.samplers import SAMPLERS
from ..core.schema import Choice, Context, Range, Seed, node
from ..core.values import Guider, Latent, Seeds, Sigmas
from .latent import fitted

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.diffusion.noise import Source
    from ..core.diffusion.samplers import Sampler, Walk
    from ..core.diffusion.walks import Work


@node("sampling", version=2, returns=Latent)
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
    from ..core.diffusion.noise import Apart

    if latent.noise_mask is not None and not add_noise:
        raise ValueError("a latent that is noisy already cannot be masked: its noise hides what is to be kept")
    batch = _repeated(latent, seeds)
    source = Apart(_numbers(batch, seed, seeds))
    way = Way(guider, sigmas.values, SAMPLERS[sampler], source, eta=None if eta < 0 else eta, add_noise=add_noise)
    return (yield from drawn(batch, way, context)).latent


@dataclass(frozen=True, slots=True)
class Way:
    """How the images of a batch are drawn."""

    guider: Guider
    levels: Tensor  # (steps + 1,)
    sampler: Sampler
    source: Source  # of the noise
    eta: float | None = None  # None: as is usual for the sampler
    flow: bool = True  # whether the sampler is told that the model is a flow, where it is one
    add_noise: bool = True
    whole: bool = False  # at the model's highest level a picture begins with all the noise that an empty latent does
    around: Source | None = None  # of the noise over what a mask keeps; None: that of the start


class Drawn(NamedTuple):
    """What a batch has become."""

    latent: Latent
    denoised: Latent  # as the model last saw it without its noise


def drawn(latent: Latent, way: Way, context: Context) -> Work[Drawn]:
    """Walk every image of a batch along the levels, side by side."""
    import torch

    from ..core.diffusion import parameterisation
    from ..core.diffusion.walks import side_by_side

    if not len(way.levels):  # the second half of a schedule that was cut at its end
        return Drawn(latent, latent)
    latent = fitted(latent, way.guider.model.latent)
    pure = (latent.samples == way.guider.model.latent.shift).flatten(1).all(1).tolist()  # before a device is waited for
    guider, samples, mask = context.networks.place((way.guider, latent.samples, latent.noise_mask))
    way = replace(way, guider=guider)
    seen: dict[int, Tensor] = {}
    walks = _walks(way, samples, mask, [way.whole or empty for empty in pure], seen)
    ends = yield from side_by_side(walks, guider, len(way.levels) - 1)

    def out(images: list[Tensor]) -> Latent:
        return replace(latent, samples=parameterisation.end(guider.model, torch.cat(images)).float().cpu())

    return Drawn(out(ends), out([seen.get(k, end) for k, end in enumerate(ends)]))


def _walks(
    way: Way, samples: Tensor, mask: Tensor | None, whole: Sequence[bool], seen: dict[int, Tensor]
) -> list[Walk]:
    """Each image of samples (B, C, h, w) on its way.

    `whole`: whether it begins with all the noise; `seen` gets what was denoised last.
    """
    from ..core.diffusion.parameterisation import begin
    from ..core.diffusion.walks import masked, noted

    model, levels = way.guider.model, way.levels
    starts = way.source.start(samples.shape).to(samples) if way.add_noise else None
    around = starts if way.around is None else way.around.start(samples.shape).to(samples)
    renewed = way.source.steps(samples, levels.tolist(), path=way.sampler.name.endswith("_sde"))
    flow = way.flow and model.sampling.prediction == "flow"
    walks: list[Walk] = []
    for k, noise in enumerate(renewed):
        image = samples[k : k + 1]  # (1, C, h, w)
        x = begin(model, image, _one(starts, k), float(levels[0]), pure=whole[k])
        walk = noted(way.sampler(x, levels, noise, eta=way.eta, flow=flow), partial(seen.__setitem__, k))
        if mask is not None:
            kept = partial(begin, model, image, _one(around, k))
            walk = masked(walk, mask[k : k + 1], kept, float(levels[-1]))
        walks.append(walk)
    return walks


def _one(batch: Tensor | None, k: int) -> Tensor | None:
    return None if batch is None else batch[k : k + 1]


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
