"""The tensors inside wire values: found, replaced, and written down as plain data and back."""

from dataclasses import fields
from typing import NamedTuple

import pytest
import torch
from limner.core.trees import STORABLE, finite, flattened, mapped, rebuilt, size, tensors
from limner.core.values import (
    Conditioning,
    Files,
    Guider,
    Image,
    Latent,
    LatentFormat,
    Mask,
    Model,
    Recipe,
    Sampling,
    Seeds,
    Sigmas,
    TextEncoder,
    Vae,
)

RECIPE = Recipe("unet", "/a", "0" * 64, "{}")
CONDITIONING = Conditioning(torch.randn(1, 3, 2), torch.tensor([[True, True, False]]), torch.randn(1, 4))
VALUES = {
    "Conditioning": CONDITIONING,
    "Files": Files(("/a.png", "/ü.png")),
    "Image": Image(torch.rand(1, 2, 3, 3)),
    "Latent": Latent(torch.randn(2, 4, 1, 1).half(), torch.ones(2, 1, 1, 1), (3, 5)),
    "Mask": Mask(torch.zeros(1, 0, 2)),
    "Seeds": Seeds((1, 2**53 - 1)),
    "Sigmas": Sigmas(torch.tensor([1.5, 0.0], dtype=torch.float64)),
}
RECIPES = [
    TextEncoder(RECIPE),
    Vae(RECIPE, LatentFormat(4, 8)),
    Model(RECIPE, Sampling(), LatentFormat(4, 8)),
    Guider(Model(RECIPE, Sampling(), LatentFormat(4, 8)), CONDITIONING),
]


class Pair(NamedTuple):
    first: int
    second: int


def same(a, b):
    """Equal, tensors bit for bit and with their dtypes."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)) if hasattr(a, "__slots__") else a == b


def test_a_list_that_holds_itself_ends():
    endless: list[object] = [torch.zeros(2)]
    endless.append({"again": endless})
    assert len(list(tensors((endless,)))) == 1
    assert size((endless,)) == 8


def test_every_storable_value_has_its_case():
    assert set(VALUES) == set(STORABLE)


@pytest.mark.parametrize(
    "value", [*VALUES.values(), 1, 1.5, True, "é", None, (), ((1,), ("a",))], ids=lambda v: type(v).__name__
)
def test_plain_values_come_back_as_they_were(value):
    data, found = flattened((value, value))
    assert same(rebuilt(data, found), (value, value))


@pytest.mark.parametrize("value", [*RECIPES, object(), {"a": 1}, [1], Pair(1, 2), int], ids=lambda v: type(v).__name__)
def test_what_is_not_plain_is_not_written_down(value):
    with pytest.raises(TypeError, match="is not plain data"):
        flattened((1, value))


@pytest.mark.parametrize(
    "data",
    [{}, {"Model": {}}, {"Image": {"pixels": {"tensor": "1"}}}, {"Image": {"other": 1}}, {"Image": 3}, {"tuple": 3}],
)
def test_damaged_data_is_refused(data):
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        rebuilt(data, {})


def test_tensors_are_found_wherever_they_are():
    a, b, c = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    assert {t.numel() for t in tensors((Image(a), [b, {"x": (c,)}], 3, Image))} == {1, 2, 3}
    assert size((Latent(torch.zeros(2, 3)), torch.zeros(4, dtype=torch.float64), "text")) == 24 + 32


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_value_that_is_no_number_spoils_a_result(bad):
    pixels = torch.zeros(1, 2, 2, 3)
    assert finite((Image(pixels), torch.tensor([1])))
    pixels[0, 1, 1, 2] = bad
    assert not finite((1, Image(pixels)))


def test_replacing_tensors_leaves_the_original_and_all_that_has_none():
    value = (Latent(torch.zeros(1), None, (1,)), [torch.ones(1)], "text")
    changed = mapped(value, lambda t: t + 1)
    assert [t.item() for t in (changed[0].samples, changed[1][0])] == [1, 2]
    assert [t.item() for t in (value[0].samples, value[1][0])] == [0, 1]
    assert mapped(value, lambda t: t) is value
