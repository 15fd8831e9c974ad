"""Sampling under ComfyUI's ids: the same noise, levels and steps, so that a seed gives the picture that it gives there.

One source draws the noise of a whole batch.  (Noise is always drawn on the CPU; ComfyUI draws that of steps on a GPU.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from ...core.diffusion.samplers import SAMPLERS, lms
from ...core.diffusion.schedules import SCHEDULES, tail
from ...core.schema import Choice, Context, Range, Seed, node
from ...core.values import Ask, Conditioning, Guider, Latent, Model, NoiseSeed
from ..sampler import Drawn, Way, drawn
from ..unet import guide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ...core.diffusion.samplers import Options, Sampler, Walk
    from ...core.diffusion.walks import Work

SAMPLER_NAMES = Choice(
    "euler",
    "euler_ancestral",
    "heun",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "ddpm",
    "lcm",
    "ddim",
    "uni_pc",
    "uni_pc_bh2",
)
SCHEDULER_NAMES = Choice("simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal")
LEAVE_OUT_LAST = {"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"}  # the level before 0, where they are unsteady
KNOW_FLOWS = {"euler_ancestral", "dpm_2_ancestral", "dpmpp_2m_sde", "lcm"}  # others take a flow's levels as they are
ALMOST_NOTHING = 0.001  # where UniPC stops instead of at 0
LARGEST_SEED = 2**64 - 1


@node("sampling", namespace="", name="KSampler", label="KSampler", returns=Latent)
def k_sampler(
    *,
    model: Annotated[Model, "The model that takes the noise away."],
    seed: Annotated[int, Seed(LARGEST_SEED), "Another one gives another picture."] = 0,
    steps: Annotated[int, Range(1, 10000), "Denoising steps: more is slower and finer."] = 20,
    cfg: Annotated[
        float,
        Range(0, 100, 0.1),
        "How strictly the words are followed.  1 ignores the negative ones, in half the time.",
    ] = 8.0,
    sampler_name: Annotated[str, SAMPLER_NAMES, "How to walk down the noise levels."],
    scheduler: Annotated[str, SCHEDULER_NAMES, "How the noise levels are spaced."],
    positive: Annotated[Conditioning, "What to draw."],
    negative: Annotated[Conditioning, "What to steer away from."],
    latent_image: Annotated[Latent, "Where to start from: empty for text-to-image."],
    denoise: Annotated[float, Range(0, 1, 0.01), "Below 1, some of the picture that is there is kept."] = 1.0,
    context: Context,
) -> Work[Latent]:
    """Turn noise into a latent image."""
    guider = guide(model, positive, negative, cfg)
    visited = levels(model, sampler_name, scheduler, steps, denoise)
    source = NoiseSeed(seed)
    return (yield from walked(guider, visited, sampler_name, source, seed, latent_image, context)).latent


@node("sampling", namespace="", name="KSamplerAdvanced", label="KSampler (Advanced)", returns=Latent)
def k_sampler_advanced(
    *,
    model: Annotated[Model, "The model that takes the noise away."],
    add_noise: Annotated[str, Choice("enable", "disable"), "Disable it where the latent is noisy already."],
    noise_seed: Annotated[int, Seed(LARGEST_SEED), "Another one gives another picture."] = 0,
    steps: Annotated[int, Range(1, 10000), "Denoising steps of the whole schedule."] = 20,
    cfg: Annotated[float, Range(0, 100, 0.1), "How strictly the words are followed."] = 8.0,
    sampler_name: Annotated[str, SAMPLER_NAMES, "How to walk down the noise levels."],
    scheduler: Annotated[str, SCHEDULER_NAMES, "How the noise levels are spaced."],
    positive: Annotated[Conditioning, "What to draw."],
    negative: Annotated[Conditioning, "What to steer away from."],
    latent_image: Annotated[Latent, "Where to start from: empty for text-to-image."],
    start_at_step: Annotated[int, Range(0, 10000), "The first step that is walked."] = 0,
    end_at_step: Annotated[int, Range(0, 10000), "The first one after it that is not."] = 10000,
    return_with_leftover_noise: Annotated[
        str, Choice("disable", "enable"), "Enable it where another sampler goes on from there."
    ],
    context: Context,
) -> Work[Latent]:
    """Turn noise into a latent image, by some of a schedule's steps."""
    guider = guide(model, positive, negative, cfg)
    visited = levels(model, sampler_name, scheduler, steps)
    if end_at_step < steps:
        visited = visited[: end_at_step + 1]
        if return_with_leftover_noise == "disable":
            visited[-1] = 0
    if start_at_step >= len(visited) - 1:
        return latent_image
    visited, source = visited[start_at_step:], NoiseSeed(noise_seed if add_noise == "enable" else None)
    return (yield from walked(guider, visited, sampler_name, source, noise_seed, latent_image, context)).latent


def walked(
    guider: Guider, visited: Tensor, name: str, noise: NoiseSeed, seed: int, latent: Latent, context: Context
) -> Work[Drawn]:
    """Walk a batch along the levels `visited` as ComfyUI does.  `seed` is that of the noise of steps."""
    from ...core.diffusion.noise import Shared

    if name.startswith("uni_pc") and len(visited) > 1 and visited[-1] == 0:
        visited = visited.clone()
        visited[-1] = ALMOST_NOTHING
    way = Way(
        guider,
        visited,
        sampler(name),
        Shared(seed, latent.batch_index),
        flow=name in KNOW_FLOWS,
        add_noise=noise.seed is not None,
        whole=True,
        around=Shared((seed + 1) % 2**64) if name == "ddim" else None,
    )
    return (yield from drawn(latent, way, context))


def levels(model: Model, sampler_name: str, scheduler: str, steps: int, denoise: float = 1.0) -> Tensor:
    """The noise levels that a sampler visits: (steps + 1,), or the last of more where denoise is below 1."""
    from ...core.diffusion import parameterisation

    table = parameterisation.table(model.sampling)

    def spaced(count: int) -> Tensor:
        if sampler_name not in LEAVE_OUT_LAST:
            return SCHEDULES[scheduler](table, count)
        found = SCHEDULES[scheduler](table, count + 1)
        found[-2] = found[-1]
        return found[:-1]

    return tail(spaced, steps, 1.0 if denoise > 0.9999 else denoise)


def sampler(name: str) -> Sampler:
    """The sampler that ComfyUI calls `name`."""
    if name == "ddim":  # without noise it is Euler's method
        return SAMPLERS["euler"]
    return replace(SAMPLERS[name], steps=_lms) if name == "lms" else SAMPLERS[name]


def _lms(x: Tensor, sigmas: Sequence[float], options: Options) -> Walk:
    """Adams-Bashforth, but for the step to 0, which is Euler's."""
    if len(sigmas) < 2 or sigmas[-1] > 0:
        return (yield from lms(x, sigmas, options))
    x = yield from lms(x, sigmas[:-1], options)
    return (yield Ask(x, sigmas[-2], len(sigmas) - 2)).denoised
