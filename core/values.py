"""What travels along wires, and what samplers, guiders and the driver say to each other.  Frozen: nobody changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:  # the catalogue reads these classes without loading torch
    from torch import Tensor

Prediction = Literal["eps", "v", "x0", "flow"]
Betas = Literal["linear", "scaled_linear", "cosine"]


@dataclass(frozen=True, slots=True)
class Image:
    """A batch of pictures."""

    pixels: Tensor  # (B, H, W, 3) float32 in [0, 1]


@dataclass(frozen=True, slots=True)
class Mask:
    """A batch of masks: 1 where something is to happen."""

    values: Tensor  # (B, H, W) float32 in [0, 1]


@dataclass(frozen=True, slots=True)
class Latent:
    """A batch of latent images as the VAE made them (a Model scales them in and out)."""

    samples: Tensor  # (B, C, h, w) float32
    noise_mask: Tensor | None = None  # (B, 1, h, w): 1 where the sampler may paint, 0 where it must keep
    batch_index: tuple[int, ...] | None = None  # image k draws its noise as image batch_index[k] of a batch would
    cells: int = 8  # pixels that a cell of an empty one, all zeros, is wide, until a model makes it one of its own


@dataclass(frozen=True, slots=True)
class Sigmas:
    """Noise levels: finite, at least 0, monotone.  Falling to denoise, rising to invert."""

    values: Tensor  # (steps + 1,) float64, on the CPU


@dataclass(frozen=True, slots=True)
class Seeds:
    """One seed for each picture of a batch."""

    values: tuple[int, ...]  # each 0..2**53 - 1


@dataclass(frozen=True, slots=True)
class Files:
    """What an output node has delivered."""

    paths: tuple[str, ...]  # absolute


@dataclass(frozen=True, slots=True)
class Items:
    """Several values where a node gives or takes one: what takes it is called for each."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Blocked:
    """In place of a value: what depends on it does not run, and that is no fault unless there is a message."""

    message: str | None = None


@dataclass(frozen=True, slots=True)
class Returned:
    """What a node returns that has more to say than its outputs."""

    outputs: tuple[Any, ...]  # with `expand`, a `graph.Link` is one of its nodes' outputs
    ui: Mapping[str, Any] | None = (
        None  # what an editor shows at the node, lists by name: {"images": [...]}, {"text": [...]}
    )
    expand: Mapping[str, Any] | None = None  # nodes in the API format that do the work in its place


@dataclass(frozen=True, slots=True)
class Conditioning:
    """A text as its encoder sees it."""

    tokens: Tensor  # (1, T, D)
    mask: Tensor | None = None  # (1, T) bool: True where there is a token; None: everywhere
    pooled: Tensor | None = None  # (1, P): the text in one vector


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make a network.  Nothing is loaded until it is first used."""

    kind: str  # which class of networks, a key of `checkpoint.KINDS`
    path: str  # a safetensors file, or a folder of transformers
    digest: str  # what names the content: its sha256, or what stands in for it
    config: str  # the network's configuration as canonical JSON


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a network predicts, and at which noise levels it was trained."""

    prediction: Prediction = "eps"
    betas: Betas = "scaled_linear"  # of the forward process; unused by flow
    beta_start: float = 0.00085
    beta_end: float = 0.012
    timesteps: int = 1000
    shift: float = 1.0  # of flow: sigma -> shift sigma / (1 + (shift - 1) sigma)


@dataclass(frozen=True, slots=True)
class LatentFormat:
    """How a VAE's latents are shaped, and how a network wants them scaled: (z - shift) * scale."""

    channels: int
    downscale: int  # pixels a latent cell is wide
    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class Model:
    """A denoising network, as a recipe."""

    recipe: Recipe
    sampling: Sampling
    latent: LatentFormat


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A language model that turns text into Conditioning, as a recipe."""

    WIRE: ClassVar[str] = "CLIP"

    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Vae:
    """An autoencoder between pictures and latents, as a recipe."""

    recipe: Recipe
    latent: LatentFormat


@dataclass(frozen=True, slots=True)
class Guider:
    """D(x; sigma) of Karras et al. 2022: a model, what it is told, and how strongly (`diffusion.guidance` does it)."""

    model: Model
    positive: Conditioning
    negative: Conditioning | None = None  # None: guided by nothing, one forward pass
    scale: float = 1.0  # classifier-free guidance; 1 is one forward pass
    interval: tuple[float, float] = (0.0, float("inf"))  # the sigmas, both inclusive, at which guidance acts
    rescale: float = 0.0  # 0..1: how much of the contrast that guidance adds is taken back


@dataclass(frozen=True, slots=True)
class SamplerName:
    """A way to walk down the noise levels, by the name that the field gives it."""

    WIRE: ClassVar[str] = "SAMPLER"

    name: str


@dataclass(frozen=True, slots=True)
class NoiseSeed:
    """What a batch's noise is drawn from."""

    WIRE: ClassVar[str] = "NOISE"

    seed: int | None  # 0..2**64 - 1; None: there is no noise


@dataclass(frozen=True, slots=True)
class Ask:
    """What a sampler wants to know: D(x; sigma)."""

    x: Tensor  # (1, C, h, w): one image, so that no image's steps depend on another's
    sigma: float
    step: int  # which step of the schedule it serves


@dataclass(frozen=True, slots=True)
class Answer:
    """What a sampler is told."""

    denoised: Tensor  # (1, C, h, w)
    uncond: Tensor | None = None  # the same without the prompt, where the guider had it computed


@dataclass(frozen=True, slots=True)
class Call:
    """One forward pass that somebody wants.  Calls of one model and equal shapes may run as one batch."""

    model: Model
    x: Tensor  # (1, C, h, w)
    sigma: float
    conditioning: Conditioning


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long node is."""

    done: int  # steps
    total: int
    preview: Tensor | None = None  # (1, C, h, w): the first image, denoised as far as is known
