"""How the default model is made, from packages to files that ship: `python -m limner.core.training.default_model`.

Stages, each of which goes on where it was stopped: data, autoencoder, train, export, judge, score; or all in turn.
Everything lies below `.data/` of the working folder, which git ignores.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..models.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig
from ..models.unet import UNet, UNetConfig
from ..values import LatentFormat, Sampling
from . import autoencoder, emoji, language, loop, report
from .captions import SCENES, distinct_tags, read_concepts
from .classifier import Judge, Lesson
from .dataset import Batch, Corpus, Pair, Texts, batch, composed, pairs_of, texts_of, to_pixels
from .export import write_card, write_networks
from .losses import diffusion_loss, linear_abar, noised, stratified_levels
from .precision import mixed
from .score import Use, named, open_shipped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides what comes out."""

    seed: int = 0
    batch: int = 64
    dropped: float = 0.1  # captions left out, for classifier-free guidance
    powers: tuple[tuple[int, float], ...] = ((0, 1.25), (2500, 0.9))  # of the levels, each from a step on: see `power`
    fit: autoencoder.Fit = field(default_factory=lambda: autoencoder.Fit(steps=2400))
    vae: PatchAutoencoderConfig = field(default_factory=PatchAutoencoderConfig)
    unet: UNetConfig = field(
        default_factory=lambda: UNetConfig(
            in_channels=16,
            out_channels=16,
            channels=(128, 256),
            layers=1,
            depth=(1, 1),
            mid_depth=1,
            heads=(4, 4),
            context_dim=384,
            vector_dim=384,
            linear_projection=True,
        )
    )
    sampling: Sampling = field(default_factory=lambda: Sampling("v", "linear", 1e-4, 0.02, 1000))
    latent: LatentFormat = field(default_factory=lambda: LatentFormat(channels=16, downscale=8))
    use: Use = field(default_factory=Use)
    lesson: Lesson = field(default_factory=Lesson)
    plan: loop.Plan = field(default_factory=lambda: loop.Plan(steps=6400, rate=8e-4, ema=0.999, save_every=250))


@dataclass(frozen=True, slots=True)
class Place:
    """Where things lie."""

    packages: Path
    state: Path  # what the stages leave for one another
    shipped: Path  # what the package carries
    documents: Path

    @property
    def checkpoint(self) -> Path:
        """The training run."""
        return self.state / "run.pt"


def default_place(folder: Path = Path(".data")) -> Place:
    """Below the working folder, but for what ships."""
    return Place(folder / "packages", folder / "default-model", ROOT / "core" / "models" / "default", ROOT / "docs")


def say(text: str) -> None:
    """One line for whoever watches, with the time of day."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def data(_settings: Settings, place: Place) -> None:
    """Render all scenes, ship the text encoder, and read all captions with it."""
    if (place.state / "captions.pt").exists():
        return
    language.ship(place.packages, place.shipped / "text_encoder", ROOT / "LICENSE")
    concepts = read_concepts()
    pictures = list(emoji.pictures(concepts, place.packages))
    pairs = pairs_of(pictures)
    scenes = torch.stack([torch.from_numpy(composed(picture)) for picture in pictures])  # (P, S, 64, 64, 3) uint8
    loop.save(place.state / "pictures.pt", {"scenes": scenes})
    say(f"{len(concepts)} concepts, {len(pairs)} pictures, {sum(pair.held_out for pair in pairs)} held out")
    tags = {code: entry.get("tags", ()) for code, entry in emoji.names(place.packages).items()}
    texts = texts_of(pairs, distinct_tags(tags, concepts))
    say(f"{len(texts.captions)} captions")
    embedded = language.embed(place.shipped / "text_encoder", texts.captions)
    found = {"pairs": pairs, "texts": texts, "tokens": embedded.tokens, "starts": embedded.starts}
    loop.save(place.state / "captions.pt", {**found, "pooled": embedded.pooled})
    say("captions are read")


def scenes_of(place: Place) -> tuple[Tensor, tuple[Pair, ...]]:
    """What `data` rendered: (P, S, 64, 64, 3) uint8, and its pairs."""
    scenes: Tensor = torch.load(place.state / "pictures.pt", mmap=True)["scenes"]
    return scenes, _captions(place)[0]


def fit_autoencoder(settings: Settings, place: Place) -> None:
    """Train the autoencoder, then turn all scenes into latents."""
    if (place.state / "latents.pt").exists():
        return
    scenes, pairs = scenes_of(place)
    rows = [row for row, pair in enumerate(pairs) if not pair.held_out]
    draw = random.Random(settings.seed)  # noqa: S311

    def pixels(_step: int) -> Tensor:
        picked = [(draw.choice(rows), 0 if draw.random() < 0.6 else draw.randrange(1, len(SCENES))) for _ in range(32)]
        return to_pixels(torch.stack([scenes[row, scene] for row, scene in picked]).numpy())

    sample = torch.cat([to_pixels(scenes[rows, 0].numpy()), *(pixels(0) for _ in range(20))])
    model = autoencoder.principal(sample, settings.vae, settings.fit.whiten)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    held = to_pixels(scenes[[row for row, pair in enumerate(pairs) if pair.held_out], 0].numpy())
    for event in autoencoder.fit(model, pixels, settings.fit):
        if event.step % 200 == 0:
            say(f"autoencoder {event.step}: {event.loss:.5f}, held out {autoencoder.psnr(model, held).mean():.2f} dB")
    loop.save(place.state / "autoencoder.pt", model.to(memory_format=torch.contiguous_format).state_dict())
    encode_all(place, settings, scenes)


def encode_all(place: Place, settings: Settings, scenes: Tensor) -> None:
    """Write the latents of all scenes."""
    model = autoencoder_of(settings, place)
    with torch.inference_mode():
        latents = torch.stack([model.encode(to_pixels(each.numpy())).half() for each in scenes])
    loop.save(place.state / "latents.pt", {"latents": latents})
    say(f"latents have a standard deviation of {latents[:, 0].float().std():.3f}")


def autoencoder_of(settings: Settings, place: Place) -> PatchAutoencoder:
    """The trained autoencoder."""
    model = PatchAutoencoder(settings.vae)
    model.load_state_dict(torch.load(place.state / "autoencoder.pt"))
    return model.eval()


def corpus_of(place: Place) -> Corpus:
    """What the network is trained on."""
    pairs, texts, embedded = _captions(place)
    return Corpus(torch.load(place.state / "latents.pt")["latents"], pairs, texts, embedded)


def objective(settings: Settings, network: nn.Module, seen: Batch, seed: Sequence[int]) -> Tensor:
    """The loss of one batch; noise and levels come from the seed."""
    generator = torch.Generator().manual_seed(seed[0] * 1_000_003 + seed[1])
    noise = torch.randn(seen.latents.shape, generator=generator)
    uniform = torch.rand(len(noise), generator=generator)
    levels = stratified_levels(len(noise), settings.sampling.timesteps, uniform, power(settings, seed[1]))
    abar = linear_abar(settings.sampling.timesteps, settings.sampling.beta_start, settings.sampling.beta_end)[levels]
    with sdpa_kernel(SDPBackend.MATH), mixed():
        predicted = network(noised(seen.latents, noise, abar), levels.float(), seen.tokens, seen.mask, seen.pooled)
    return diffusion_loss(predicted.float(), seen.latents, noise, abar, kind="v").mean()


def power(settings: Settings, step: int) -> float:
    """How a step's levels are spread: above 1 the low ones come more often, below 1 the high ones.

    At first what a picture's surface looks like is learned, later what a text means, which only high levels ask.
    """
    return [value for start, value in settings.powers if start <= step][-1]


def train(settings: Settings, place: Place) -> None:
    """Train the network, from where it stands to the last step of the plan, with snapshots of its averaged weights."""
    corpus = corpus_of(place)
    seen = [row for row, pair in enumerate(corpus.pairs) if not pair.held_out]
    held = [row for row, pair in enumerate(corpus.pairs) if pair.held_out]
    torch.manual_seed(settings.seed)
    network = UNet(settings.unet)
    nn.init.zeros_(network.conv_out.weight)
    say(f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} million parameters, {len(seen)} pictures")
    fetch = partial(batch, corpus, size=settings.batch, seed=settings.seed, dropped=settings.dropped)
    losses: list[float] = []

    def loss(net: nn.Module, step: int) -> Tensor:
        return objective(settings, net, fetch(seen, step), (settings.seed, step))

    for event in loop.train(network, loss, settings.plan, place.checkpoint):
        if isinstance(event, loop.Step):
            losses.append(event.loss)
            if event.step % 50 == 0:
                mean = sum(losses[-50:]) / len(losses[-50:])
                say(f"step {event.step} loss {mean:.4f} rate {event.rate:.2e} eta {event.eta / 60:.1f} min")
        else:
            _snapshot(settings, place, fetch, held)


def _snapshot(settings: Settings, place: Place, fetch: Callable[..., Batch], held: Sequence[int]) -> None:
    """Keep the averaged weights of the checkpoint, and say their loss on held-out pairs, always on the same noise."""
    step, weights = loop.averaged(place.checkpoint)
    loop.save(place.state / "snapshots" / f"{step:06d}.pt", weights)
    network = UNet(settings.unet)
    network.load_state_dict(weights)
    with torch.inference_mode():
        found = [objective(settings, network, fetch(held, k), (settings.seed + 1, k)).item() for k in range(4)]
    say(f"snapshot {step} held-out loss {sum(found) / len(found):.4f}")


def export(settings: Settings, place: Place) -> None:
    """Write the averaged weights of the checkpoint, the autoencoder and their card into the package."""
    step, weights = loop.averaged(place.checkpoint)
    network = UNet(settings.unet)
    network.load_state_dict(weights)
    vae = autoencoder_of(settings, place)
    write_networks(place.shipped, network, vae, settings.sampling, settings.latent)
    write_card(place.shipped, read_concepts(), asdict(settings.use), step)
    say(f"exported the averaged weights of step {step}")


def judge(settings: Settings, place: Place) -> None:
    """Train the judge of the score, once."""
    if (place.state / "judge.pt").exists():
        return
    about, vae = exam_of(place), autoencoder_of(settings, place)
    for event in report.trained_judge(about, vae, settings.lesson):
        if isinstance(event, str):
            say(event)
        else:
            held = about.held_out & torch.isin(about.concepts, torch.tensor(about.among))
            found = named(event, about.pixels[held], about.concepts[held].tolist(), about.among)
            say(f"judge on real held-out pairs: {found}")
            loop.save(place.state / "judge.pt", event.state_dict())


def score(settings: Settings, place: Place) -> None:
    """Measure what ships, and write it and the sample pictures into docs/."""
    about, shipped = exam_of(place), open_shipped(place.shipped)
    examiner = Judge(len(about.names))
    examiner.load_state_dict(torch.load(place.state / "judge.pt"))
    report.samples(shipped, settings.use).save(place.documents / "default-model.png", optimize=True)
    found = report.measure(about, examiner.eval(), shipped, settings.use)
    report.write(found, about.names, place.documents)
    say(report.table(found))


def exam_of(place: Place) -> report.Exam:
    """What the judge is asked about."""
    scenes, pairs = scenes_of(place)
    return report.exam(pairs, to_pixels(scenes[:, 0].numpy()))


def _captions(place: Place) -> tuple[tuple[Pair, ...], Texts, language.Embedded]:
    from .captions import Concept

    with torch.serialization.safe_globals([Pair, Texts, Concept]):
        found = torch.load(place.state / "captions.pt")
    return found["pairs"], found["texts"], language.Embedded(found["tokens"], found["starts"], found["pooled"])


STAGES: Mapping[str, Callable[[Settings, Place], None]] = MappingProxyType(
    {"data": data, "autoencoder": fit_autoencoder, "train": train} | {"export": export, "judge": judge, "score": score}
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m limner.core.training.default_model", description=__doc__)
    parser.add_argument("stage", nargs="?", choices=tuple(STAGES), help="without one, all of them in turn")
    parser.add_argument("--threads", type=int, default=1, help="processor cores to use")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    for name, stage in STAGES.items():
        if options.stage in (None, name):
            stage(Settings(), default_place())


if __name__ == "__main__":
    main()
