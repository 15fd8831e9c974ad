"""The score of the default model: does a judge that never saw it name what it drew?  And does it copy, or vary?

Everything is measured beside a ceiling (the judge on real pictures) and a floor (the judge asked for something else).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from ..diffusion import noise, parameterisation, samplers, schedules, walks
from ..models import checkpoint, text
from ..values import Conditioning, Guider, Model, Progress, Recipe
from .captions import held_out_words, phrase, share
from .classifier import ranks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from ..diffusion.parameterisation import Network
    from ..models.patch_autoencoder import PatchAutoencoder
    from ..values import Call
    from .classifier import Judge
    from .dataset import Pair

NEAR = 25.0  # dB to the nearest training picture, above which a picture counts as a near copy


@dataclass(frozen=True, slots=True)
class Use:
    """How pictures are drawn."""

    sampler: str = "dpmpp_2m"
    scheduler: str = "karras"
    steps: int = 20
    guidance: float = 3.0


@dataclass(frozen=True, slots=True)
class Shipped:
    """The model as it ships, opened as anyone would open it."""

    model: Model
    unet: Network
    vae: PatchAutoencoder
    encoder: text.TextNetwork


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked for, and which concept that is."""

    text: str
    concept: int  # its place in the list


def open_shipped(folder: Path) -> Shipped:
    """The files below a folder, in float32 on the CPU."""
    unet, vae = _recipe(folder / "unet.safetensors"), _recipe(folder / "vae.safetensors")
    said = checkpoint.describe(folder / "unet.safetensors")
    assert said.sampling is not None
    assert said.latent is not None
    encoder = text.open_text(folder / "text_encoder", text.TextConfig())
    networks = [checkpoint.open_network(recipe, dtype=torch.float32).eval() for recipe in (unet, vae)]
    model = Model(unet, said.sampling, said.latent)
    return Shipped(model, cast("Network", networks[0]), cast("PatchAutoencoder", networks[1]), encoder)


@torch.inference_mode()
def draw(shipped: Shipped, texts: Sequence[str], seeds: Sequence[int], use: Use, together: int = 24) -> Tensor:
    """A picture for every text and seed, by the samplers of graphs: (texts, seeds, 3, 64, 64) in [-1, 1]."""
    table = parameterisation.table(shipped.model.sampling)
    sigmas = schedules.karras(use.steps, float(table[0]), float(table[-1]))
    nothing = shipped.encoder.encode([""])[0]
    drawn = []
    for first in range(0, len(texts), together):
        works = []
        for conditioning in shipped.encoder.encode(texts[first : first + together]):
            guider = Guider(shipped.model, conditioning, nothing, use.guidance)
            works.append(walks.side_by_side([_walk(shipped, seed, sigmas, use) for seed in seeds], guider, use.steps))
        ends = _together(works, shipped)  # [text][seed]: (1, C, h, w)
        drawn += [shipped.vae.decode(torch.cat(each)).clamp(-1, 1) for each in ends]
    return torch.stack(drawn)


def prompts(pairs: Sequence[Pair], names: Sequence[str], among: Sequence[int]) -> Mapping[str, list[Prompt]]:
    """What is asked for, of the concepts in among: a seen pair of each, held-out pairs, and held-out paraphrases."""
    place = {name: k for k, name in enumerate(names)}
    wanted = {names[k] for k in among}
    seen: dict[str, Pair] = {}
    found: dict[str, list[Prompt]] = {"seen pairs": [], "held-out pairs": [], "held-out paraphrases": []}
    for pair in pairs:
        name = pair.concept.name
        if name in wanted and pair.held_out:
            found["held-out pairs"].append(_styled(pair, place[name]))
        elif name in wanted and (name not in seen or _order(pair) < _order(seen[name])):
            seen[name] = pair
    found["seen pairs"] = [_styled(pair, place[name]) for name, pair in seen.items()]
    words = {pair.concept.name: held_out_words(pair.concept) for pair in seen.values()}
    found["held-out paraphrases"] = [Prompt(said, place[name]) for name, said in words.items() if said is not None]
    return found


def chosen(pairs: Sequence[Pair], names: Sequence[str], count: int = 100) -> list[int]:
    """The concepts that are judged: count of those with a held-out pair, by hash."""
    held = sorted({pair.concept.name for pair in pairs if pair.held_out}, key=lambda name: share("judged", name))
    return [names.index(name) for name in held[:count]]


def named(judge: Judge, pixels: Tensor, concepts: Sequence[int], among: Sequence[int]) -> dict[str, float]:
    """How often the judge names the concept, first and among its first five."""
    found = ranks(judge, pixels, torch.as_tensor(concepts), among)
    return {"top1": _percent(found < 1), "top5": _percent(found < 5)}


def judged(judge: Judge, drawn: Tensor, asked: Sequence[Prompt], among: Sequence[int]) -> dict[str, float]:
    """What the judge says of pictures (texts, seeds, ...): top-1, top-5, and the floor, for prompts shuffled."""
    concepts = [prompt.concept for prompt in asked for _ in range(drawn.shape[1])]
    order = torch.randperm(len(asked), generator=torch.Generator().manual_seed(0))
    shuffled = [asked[k].concept for k in order.tolist() for _ in range(drawn.shape[1])]
    floor = named(judge, drawn.flatten(0, 1), shuffled, among)
    return {
        "prompts": len(asked),
        **named(judge, drawn.flatten(0, 1), concepts, among),
        "floor_top1": floor["top1"],
        "floor_top5": floor["top5"],
    }


@torch.inference_mode()
def copies(drawn: Tensor, training: Tensor) -> float:
    """The percentage of pictures (N, 3, H, W) that are near copies of a training picture (M, 3, H, W)."""
    best = torch.stack([(each - training).square().mean((1, 2, 3)).min() for each in drawn]) / 4
    return _percent(-10 * best.log10() > NEAR)


def spread(drawn: Tensor) -> float:
    """How far apart the pictures of one prompt are, (texts, seeds, ...): the RMS of their pixels, white - black = 1."""
    count = drawn.shape[1]
    pairs = [(a, b) for a in range(count) for b in range(a)]
    apart = [(drawn[:, a] - drawn[:, b]).flatten(1).square().mean(1).sqrt() for a, b in pairs]
    return round(float(torch.stack(apart).mean()) / 2, 4)


def _percent(hits: Tensor) -> float:
    return round(100 * float(hits.double().mean()), 1)


def _styled(pair: Pair, concept: int) -> Prompt:
    return Prompt(f"{phrase(pair.concept.name)}, {pair.style} style", concept)


def _order(pair: Pair) -> float:
    return share("seen", pair.concept.code, pair.style)


def _recipe(path: Path) -> Recipe:
    said = checkpoint.describe(path)
    return Recipe(said.kind, str(path), checkpoint.digest(path), checkpoint.canonical(said.config))


def _walk(shipped: Shipped, seed: int, sigmas: Tensor, use: Use) -> samplers.Walk:
    start = noise.start(seed, (1, shipped.model.latent.channels, 8, 8))
    x = parameterisation.begin(shipped.model, torch.zeros_like(start), start, float(sigmas[0]))
    return samplers.SAMPLERS[use.sampler](x, sigmas, noise.fresh(seed, start))


def _together(works: Sequence[walks.Work[list[Tensor]]], shipped: Shipped) -> list[list[Tensor]]:
    """Take works to their ends, answering all their calls of a round in one forward pass."""
    answers: dict[int, list[Tensor] | None] = dict.fromkeys(range(len(works)))
    ends: dict[int, list[Tensor]] = {}
    while answers:
        wants: dict[int, list[Call]] = {}
        for k, answer in answers.items():
            try:
                said = works[k].send(answer)  # type: ignore[arg-type]  # a generator is started by sending None
                while isinstance(said, Progress):
                    said = works[k].send([])
                wants[k] = said
            except StopIteration as end:
                ends[k] = end.value
        flat = iter(_answered([call for calls in wants.values() for call in calls], shipped) if wants else [])
        answers = {k: [next(flat) for _ in calls] for k, calls in wants.items()}
    return [ends[k] for k in range(len(works))]


def _answered(calls: Sequence[Call], shipped: Shipped) -> list[Tensor]:
    tokens, mask, pooled = _padded([call.conditioning for call in calls])
    x = torch.cat([call.x for call in calls])
    sigmas = [call.sigma for call in calls]
    denoised = parameterisation.denoise(
        shipped.unet, shipped.model.sampling, shipped.model.latent, x, sigmas, tokens, mask, pooled
    )
    return list(torch.split(denoised, 1))


def _padded(conditionings: Sequence[Conditioning]) -> tuple[Tensor, Tensor, Tensor]:
    lengths = torch.tensor([each.tokens.shape[1] for each in conditionings])
    tokens = torch.nn.utils.rnn.pad_sequence([each.tokens[0] for each in conditionings], batch_first=True)  # (N, T, D)
    mask = torch.arange(tokens.shape[1]) < lengths[:, None]  # (N, T)
    return tokens, mask, torch.cat([each.pooled for each in conditionings if each.pooled is not None])
