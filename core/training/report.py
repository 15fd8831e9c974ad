"""What is told of the default model: the judge's training, the score, and sample pictures."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from .captions import phrase
from .classifier import Judge, Lesson, learn
from .emoji import STYLES
from .score import NEAR, Use, chosen, copies, draw, judged, named, prompts, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from ..models.patch_autoencoder import PatchAutoencoder
    from .dataset import Pair
    from .score import Shipped

SEEDS = (1, 2, 3)
SHOWN = (  # in the picture of the document: concepts by styles
    "frog", "cat", "lion", "penguin", "butterfly", "octopus", "rose", "cactus",
    "apple", "pizza", "hamburger", "donut", "house", "car", "rocket", "guitar",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Exam:
    """Real pictures, and what is asked about them."""

    pairs: tuple[Pair, ...]
    pixels: Tensor  # (P, 3, 64, 64) in [-1, 1]: each pair, filling the frame on white
    names: tuple[str, ...]  # all concepts
    among: tuple[int, ...]  # the judged ones

    @property
    def concepts(self) -> Tensor:
        """The number of each pair's concept, (P,)."""
        place = {name: k for k, name in enumerate(self.names)}
        return torch.tensor([place[pair.concept.name] for pair in self.pairs])

    @property
    def held_out(self) -> Tensor:
        """Which pairs the model and the judge never see, (P,) bool."""
        return torch.tensor([pair.held_out for pair in self.pairs])


def exam(pairs: Sequence[Pair], pixels: Tensor, count: int = 100) -> Exam:
    """An exam about count concepts."""
    names = tuple(dict.fromkeys(pair.concept.name for pair in pairs))
    return Exam(tuple(pairs), pixels, names, tuple(chosen(pairs, names, count)))


def trained_judge(about: Exam, vae: PatchAutoencoder, how: Lesson) -> Iterator[Judge | str]:
    """A judge of all concepts, without the held-out pairs; half of what it sees went through the autoencoder."""
    kept = ~about.held_out
    torch.manual_seed(how.seed)
    judge = Judge(len(about.names)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = torch.cat((about.pixels[kept], there_and_back(vae, about.pixels[kept])))
    for event in learn(judge, pixels, about.concepts[kept].repeat(2), how):
        if event.step % 200 == 0:
            yield f"judge {event.step}: loss {event.loss:.3f}"
    yield judge


@torch.inference_mode()
def there_and_back(vae: PatchAutoencoder, pixels: Tensor) -> Tensor:
    """Pictures through the autoencoder, (N, 3, H, W)."""
    return torch.cat([vae(part).clamp(-1, 1) for part in torch.split(pixels, 64)])


def measure(about: Exam, judge: Judge, shipped: Shipped, use: Use) -> dict[str, Any]:
    """The whole score, as JSON holds it."""
    asked = prompts(about.pairs, about.names, about.among)
    judged_pairs = about.held_out & torch.isin(about.concepts, torch.tensor(about.among))
    real, truth = about.pixels[judged_pairs], about.concepts[judged_pairs].tolist()
    training = about.pixels[~about.held_out]
    found: dict[str, Any] = {
        "use": asdict(use),
        "seeds": list(SEEDS),
        "concepts": len(about.among),
        "ceiling": named(judge, real, truth, about.among),
        "ceiling through the autoencoder": named(judge, there_and_back(shipped.vae, real), truth, about.among),
        "groups": {},
    }
    for group, wanted in asked.items():
        drawn = draw(shipped, [prompt.text for prompt in wanted], SEEDS, use)
        found["groups"][group] = {
            **judged(judge, drawn, wanted, about.among),
            "near_copies": copies(drawn.flatten(0, 1), training),
            "spread": spread(drawn),
        }
    return found


def table(found: Mapping[str, Any]) -> str:
    """The score as the document shows it."""
    use, ceiling, through = found["use"], found["ceiling"], found["ceiling through the autoencoder"]
    lines = [
        f"{found['concepts']} concepts, {len(found['seeds'])} seeds a prompt, {use['sampler']} "
        f"with {use['steps']} steps ({use['scheduler']}), guidance {use['guidance']:g}. Numbers are percentages; "
        "spread is the root mean square difference between the pictures of two seeds, white and black being 1 apart.",
        "",
        "| | prompts | top-1 | top-5 | floor top-1 | floor top-5 | near copies | spread |",
        "|---|---|---|---|---|---|---|---|",
        f"| real pictures of the held-out pairs (ceiling) | | {ceiling['top1']} | {ceiling['top5']} | | | | |",
        f"| the same through the autoencoder | | {through['top1']} | {through['top5']} | | | | |",
    ]
    for group, row in found["groups"].items():
        numbers = [row[key] for key in ("top1", "top5", "floor_top1", "floor_top5", "near_copies", "spread")]
        lines.append(f"| {group} | {row['prompts']} | {' | '.join(map(str, numbers))} |")
    lines += ["", f"A near copy is closer than {NEAR:g} dB (PSNR) to some picture the model was trained on."]
    return "\n".join(lines)


def write(found: Mapping[str, Any], names: Sequence[str], folder: Path) -> None:
    """Write default-model-score.json below folder, and score and concepts between their marks in default-model.md."""
    (folder / "default-model-score.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    document = folder / "default-model.md"
    said = replaced(document.read_text("utf-8"), "score", table(found))
    document.write_text(replaced(said, "concepts", ", ".join(sorted(names, key=str.lower)) + "."), "utf-8")


def replaced(document: str, mark: str, text: str) -> str:
    """A document with a text between `<!-- mark -->` and `<!-- /mark -->`, in place of what stood there.

    Raises ValueError where a mark is missing.
    """
    begin, end = f"<!-- {mark} -->\n", f"\n<!-- /{mark} -->"
    before, found, rest = document.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"the document has no place marked {mark!r}")
    return f"{before}{begin}{text}{end}{after}"


def samples(shipped: Shipped, use: Use, seed: int = 1) -> Image.Image:
    """SHOWN in every style, a style to a row, with a gap of 2 pixels."""
    texts = [f"{phrase(name)}, {style.name} style" for style in STYLES for name in SHOWN]
    drawn = draw(shipped, texts, [seed], use)[:, 0]  # (N, 3, 64, 64)
    bytes_ = ((drawn + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    rows = bytes_.reshape(len(STYLES), len(SHOWN), *bytes_.shape[1:])  # (R, C, 64, 64, 3)
    padded = np.pad(rows, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    joined = padded.transpose(0, 2, 1, 3, 4).reshape(len(STYLES) * 66, len(SHOWN) * 66, 3)
    return Image.fromarray(joined)
