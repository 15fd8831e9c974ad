"""The workflows that ship: each runs on the model that ships, and draws what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from limner import Graph
from limner.core import pictures, workflow
from limner.core.host import WORKFLOWS

FILES = sorted(WORKFLOWS.glob("*.json"))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """One base directory for all, as one person has."""
    return tmp_path_factory.mktemp("base")


def drawn(name: str, base: Path, **settings):
    """The pixels (H, W, 3) that a workflow saves, with `node__input` set."""
    graph = Graph.open(name, base)
    for place, value in settings.items():
        node_id, key = place.split("__")
        graph.set(node_id, **{key: value})
    (path,) = graph.run()
    return pictures.load(path)[0][0]


def redder(pixels) -> float:
    """How much more red than green there is in the middle: about 0 in noise and in grey."""
    height, width, _ = pixels.shape
    middle = pixels[height // 4 : -height // 4, width // 4 : -width // 4]
    red, green, _ = middle.mean(dim=(0, 1)).tolist()
    return red - green


def cell(pixels, column: int, row: int = 0, side: int = 128, gap: int = 4, band: int = 16):
    """A picture of a grid with labels."""
    left, top = gap + column * (side + gap), gap + row * (side + band + gap)
    return pixels[top : top + side, left : left + side]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_says_what_it_is_for_and_is_written_as_limner_writes(path):
    document = workflow.read(path)
    assert document.rest["about"].endswith(".")
    assert workflow.dumps(document) == path.read_text("utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_can_run(path, base):
    assert Graph.open(path, base).problems() == []


def test_every_workflow_has_a_test_that_looks_at_what_it_draws():
    said = Path(__file__).read_text("utf-8")
    assert [path.stem for path in FILES if f'drawn("{path.stem}"' not in said] == []


def test_words_become_a_picture(base):
    red = drawn("text-to-image", base)
    assert red.shape == (64, 64, 3)
    assert redder(red) > 0.3
    green = drawn("text-to-image", base, prompt__value="a green apple, 3d style")
    assert redder(green) < 0  # yellow is as much red as green: this one is green
    assert red[:4, :4].mean() > 0.8  # the paper around it is white


def test_a_picture_is_changed_in_words_and_keeps_its_shape(base):
    pixels = drawn("image-to-image", base)
    before, after = cell(pixels, 0), cell(pixels, 1)
    assert redder(before) > 0.3
    assert redder(after) < 0.1
    inside = [(picture.amin(dim=2) < 0.6).float() for picture in (before, after)]  # not the paper
    both, either = (inside[0] * inside[1]).sum(), (inside[0] + inside[1]).clamp(max=1).sum()
    assert both / either > 0.6


def test_eight_samplers_draw_one_thing(base):
    pixels = drawn("samplers-compared", base)
    cells = [cell(pixels, k % 4, k // 4, gap=6) for k in range(8)]
    assert all(redder(picture) > 0.3 for picture in cells)
    euler, heun, *_ = cells
    assert (euler - heun).abs().mean() < 0.1  # both walk the same way, which neither noise nor chance changes
    assert not any(euler.equal(other) for other in cells[1:])


def test_the_long_walk_also_arrives_when_it_is_short(base):
    assert redder(drawn("the-1000-step-walk", base, schedule__steps=15)) > 0.3


@pytest.mark.long
def test_the_long_walk_arrives(base):
    assert redder(drawn("the-1000-step-walk", base)) > 0.3
