"""The workflows that come along have pictures, and those are what they draw."""

import pytest
import torch
from limner.core import examples as module
from limner.core.examples import examples, main
from limner.core.pictures import load
from PIL import Image


@pytest.mark.parametrize("example", examples().values(), ids=lambda example: example.name)
def test_an_example_has_words_and_a_small_picture(example):
    assert example.about.endswith(".")
    assert example.picture.stat().st_size < 15_000
    with Image.open(example.picture) as picture:
        assert picture.format == "WEBP"
        assert 256 <= max(picture.size) <= 600


@pytest.mark.long
def test_the_pictures_are_what_the_workflows_draw(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    main(str(tmp_path))
    for example in examples().values():
        drawn, shipped = load(tmp_path / f"{example.name}.webp")[0], load(example.picture)[0]
        assert drawn.shape == shipped.shape
        assert (drawn - shipped).abs().mean() < 0.02, example.name
        assert (drawn - torch.ones_like(drawn)).abs().mean() > 0.05  # which says something: it is not all paper


def test_a_workflow_without_words_is_an_example_all_the_same(tmp_path):
    (tmp_path / "a.json").write_text('{"limner": 1, "graph": {"1": {}, "2": {}}}')
    (found,) = module.examples(tmp_path).values()
    assert (found.name, found.about, found.nodes) == ("a", "", 2)
