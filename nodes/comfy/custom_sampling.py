"""Sampling taken apart, under ComfyUI's ids: noise, guidance, levels and sampler each come from a node of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from ...core.schema import Context, Range, Seed, node
from ...core.values import Conditioning, Guider, Latent, Model, NoiseSeed, SamplerName, Sigmas
from ..unet import guide
from .sampling import LARGEST_SEED, SAMPLER_NAMES, SCHEDULER_NAMES, levels, walked

if TYPE_CHECKING:
    from ...core.diffusion.walks import Work

ALMOST_NOTHING = 0.0001  # the level at which a walk up begins instead of at 0

Steps = Annotated[int, Range(1, 10000), "Denoising steps: more is slower and finer."]
Level = Range(0, 5000, 0.01)


class Output(NamedTuple):
    """A batch where its walk ended, and as the model last saw it without its noise."""

    output: Latent
    denoised_output: Latent


class Halves(NamedTuple):
    """A schedule in two."""

    high_sigmas: Sigmas
    low_sigmas: Sigmas


@node(
    "sampling/custom_sampling",
    namespace="",
    name="SamplerCustomAdvanced",
    label="SamplerCustomAdvanced",
    returns=Output,
)
def sampler_custom_advanced(
    *,
    noise: Annotated[NoiseSeed, "Where the noise comes from."],
    guider: Annotated[Guider, "The model, and what it is told."],
    sampler: Annotated[SamplerName, "How to walk down the noise levels."],
    sigmas: Annotated[Sigmas, "The noise levels to visit."],
    latent_image: Annotated[Latent, "Where to start from: empty for text-to-image."],
    context: Context,
) -> Work[Output]:
    """Turn noise into a latent image."""
    drawn = yield from walked(guider, sigmas.values, sampler.name, noise, noise.seed or 0, latent_image, context)
    return Output(*drawn)


@node("sampling/custom_sampling", namespace="", name="SamplerCustom", label="SamplerCustom", returns=Output)
def sampler_custom(
    *,
    model: Annotated[Model, "The model that takes the noise away."],
    add_noise: Annotated[bool, "No: the latent is noisy already."] = True,
    noise_seed: Annotated[int, Seed(LARGEST_SEED), "Another one gives another picture."] = 0,
    cfg: Annotated[float, Range(0, 100, 0.1), "How strictly the words are followed."] = 8.0,
    positive: Annotated[Conditioning, "What to draw."],
    negative: Annotated[Conditioning, "What to steer away from."],
    sampler: Annotated[SamplerName, "How to walk down the noise levels."],
    sigmas: Annotated[Sigmas, "The noise levels to visit."],
    latent_image: Annotated[Latent, "Where to start from: empty for text-to-image."],
    context: Context,
) -> Work[Output]:
    """Turn noise into a latent image, by a sampler and levels of one's own."""
    guider, noise = guide(model, positive, negative, cfg), NoiseSeed(noise_seed if add_noise else None)
    drawn = yield from walked(guider, sigmas.values, sampler.name, noise, noise_seed, latent_image, context)
    return Output(*drawn)


@node("sampling/custom_sampling/noise", namespace="", name="RandomNoise", label="RandomNoise")
def random_noise(
    *, noise_seed: Annotated[int, Seed(LARGEST_SEED), "Another one gives another picture."] = 0
) -> NoiseSeed:
    """Noise from a seed."""
    return NoiseSeed(noise_seed)


@node("sampling/custom_sampling/noise", namespace="", name="DisableNoise", label="DisableNoise")
def disable_noise() -> NoiseSeed:
    """No noise: for latents that are noisy already."""
    return NoiseSeed(None)


@node("sampling/custom_sampling/guiders", namespace="", name="BasicGuider", label="BasicGuider")
def basic_guider(
    *,
    model: Annotated[Model, "The model that takes the noise away."],
    conditioning: Annotated[Conditioning, "What to draw."],
) -> Guider:
    """Tell a model what to draw, and nothing to steer away from."""
    return guide(model, conditioning, None, 1.0)


@node("sampling/custom_sampling/guiders", namespace="", name="CFGGuider", label="CFGGuider")
def cfg_guider(
    *,
    model: Annotated[Model, "The model that takes the noise away."],
    positive: Annotated[Conditioning, "What to draw."],
    negative: Annotated[Conditioning, "What to steer away from."],
    cfg: Annotated[float, Range(0, 100, 0.1), "How strictly the words are followed."] = 8.0,
) -> Guider:
    """Tell a model what to draw and what to steer away from."""
    return guide(model, positive, negative, cfg)


@node("sampling/custom_sampling/samplers", namespace="", name="KSamplerSelect", label="KSamplerSelect")
def k_sampler_select(
    *, sampler_name: Annotated[str, SAMPLER_NAMES, "How to walk down the noise levels."]
) -> SamplerName:
    """Choose a sampler."""
    return SamplerName(sampler_name)


@node("sampling/custom_sampling/schedulers", namespace="", name="BasicScheduler", label="BasicScheduler")
def basic_scheduler(
    *,
    model: Annotated[Model, "Whose noise levels they are."],
    scheduler: Annotated[str, SCHEDULER_NAMES, "How the noise levels are spaced."],
    steps: Steps = 20,
    denoise: Annotated[float, Range(0, 1, 0.01), "Below 1, only the last part."] = 1.0,
) -> Sigmas:
    """Noise levels from a model's own."""
    found = levels(model, "", scheduler, steps, denoise)
    return Sigmas(found if denoise > 0 else found[:0])


@node("sampling/custom_sampling/schedulers", namespace="", name="KarrasScheduler", label="KarrasScheduler")
def karras_scheduler(
    *,
    steps: Steps = 20,
    sigma_max: Annotated[float, Level, "Where the schedule starts."] = 14.614642,
    sigma_min: Annotated[float, Level, "Where it ends, before 0."] = 0.0291675,
    rho: Annotated[float, Range(0, 100, 0.01), "Higher spends more steps at low noise."] = 7.0,
) -> Sigmas:
    """Noise levels spaced as in Karras et al. 2022 (arXiv:2206.00364)."""
    from ...core.diffusion import schedules

    return Sigmas(schedules.karras(steps, sigma_min, sigma_max, rho))


@node("sampling/custom_sampling/sigmas", namespace="", name="SplitSigmas", label="SplitSigmas")
def split_sigmas(
    *, sigmas: Annotated[Sigmas, "What to cut."], step: Annotated[int, Range(0, 10000), "Where the second begins."] = 0
) -> Halves:
    """Cut a schedule in two."""
    from ...core.diffusion import schedules

    high, low = schedules.split(sigmas.values, step)
    return Halves(Sigmas(high), Sigmas(low))


@node("sampling/custom_sampling/sigmas", namespace="", name="FlipSigmas", label="FlipSigmas")
def flip_sigmas(*, sigmas: Annotated[Sigmas, "What to turn round."]) -> Sigmas:
    """Turn a schedule round, to walk from a picture to its noise."""
    flipped = sigmas.values.flip(0)
    if len(flipped) and flipped[0] == 0:
        flipped[0] = ALMOST_NOTHING
    return Sigmas(flipped)
