"""The workflows that come along, each with its words and a picture of what it draws."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from .files import write
from .host import WORKFLOWS

SIDE = 256  # pixels that a picture has at least on its longer side: smaller ones are enlarged by a whole number


@dataclass(frozen=True, slots=True)
class Example:
    """A workflow that comes along."""

    name: str
    about: str
    nodes: int
    content: bytes
    picture: Path  # WebP


def examples(folder: Path = WORKFLOWS) -> dict[str, Example]:
    """Those in `folder`, by name."""
    return {path.stem: _example(path) for path in sorted(folder.glob("*.json"))}


def _example(path: Path) -> Example:
    content = path.read_bytes()
    data = json.loads(content)
    return Example(path.stem, data.get("about", ""), len(data["graph"]), content, path.with_suffix(".webp"))


def main(folder: str = str(WORKFLOWS)) -> None:
    """Run each workflow, and put what it draws beside it."""
    from PIL import Image

    from .notebook import Graph
    from .pictures import load, picture

    for example in examples().values():
        (drawn,) = Graph.open(example.name).run()
        image = picture(load(drawn)[0][0])
        times = -(-SIDE // max(image.size))
        larger = image.resize((image.width * times, image.height * times), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        larger.save(buffer, "WEBP", quality=75, method=6)
        write(Path(folder) / f"{example.name}.webp", buffer.getvalue())


if __name__ == "__main__":
    main(*sys.argv[1:])
