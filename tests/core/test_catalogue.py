"""The nodes described, for programs and for people."""

from __future__ import annotations

from typing import Annotated

from limner.core.catalogue import as_json, described, markdown, section
from limner.core.schema import Choice, InputFile, ModelFile, Multiline, Range, Seed, node
from limner.core.values import Image, Latent


@node("kitchen")
def bake(
    image: Annotated[Image, "What to bake."],
    degrees: Annotated[int, Range(50, 250, 10), "Celsius."] = 180,
    way: Annotated[str, Choice("hot air", "fire")] = "fire",
    recipe: Annotated[str, Multiline()] = "",
    oven: Annotated[str, ModelFile("ovens")] = "old",
    dough: Annotated[str, InputFile()] = "bread.png",
    seed: Annotated[int, Seed()] = 0,
    filling: Latent | None = None,
) -> Image:
    """Bake a picture."""
    return image


@node("kitchen", delivers=True)
def serve(image: Image) -> None:
    """Put it on the table."""


def test_a_node_is_described_as_plain_data():
    assert described(bake) == {
        "id": "limner.Bake",
        "title": "Bake",
        "category": "kitchen",
        "version": 1,
        "help": "Bake a picture.",
        "output_node": False,
        "cached": True,
        "inputs": [
            {"name": "image", "wire": "IMAGE", "widget": False, "help": "What to bake."},
            {
                "name": "degrees",
                "wire": "INT",
                "widget": True,
                "help": "Celsius.",
                "default": 180,
                "min": 50,
                "max": 250,
                "step": 10,
            },
            {
                "name": "way",
                "wire": "STRING",
                "widget": True,
                "help": "",
                "default": "fire",
                "options": ["hot air", "fire"],
            },
            {"name": "recipe", "wire": "STRING", "widget": True, "help": "", "default": "", "multiline": True},
            {"name": "oven", "wire": "STRING", "widget": True, "help": "", "default": "old", "models": "ovens"},
            {"name": "dough", "wire": "STRING", "widget": True, "help": "", "default": "bread.png", "files": "input"},
            {"name": "seed", "wire": "INT", "widget": True, "help": "", "default": 0, "seed": True},
            {"name": "filling", "wire": "LATENT", "widget": False, "help": "", "default": None},
        ],
        "outputs": [{"name": "image", "wire": "IMAGE"}],
    }


def test_a_node_that_delivers_says_so():
    assert described(serve)["output_node"]
    assert described(serve)["outputs"] == []
    assert list(as_json({"x": bake, "y": serve})) == ["limner.Bake", "limner.Serve"]


def test_a_node_is_a_table_for_people():
    assert section(bake).splitlines() == [
        "Bake",
        "",
        "`limner.Bake`. Bake a picture.",
        "",
        "| input | takes | default | |",
        "|---|---|---|---|",
        "| image | IMAGE | required | What to bake. |",
        "| degrees | INT, 50 to 250 | 180 | Celsius. |",
        "| way | hot air, fire | `'fire'` |  |",
        "| recipe | STRING | `''` |  |",
        "| oven | a name in models/ovens | `'old'` |  |",
        "| dough | a name in input | `'bread.png'` |  |",
        "| seed | INT | 0 |  |",
        "| filling | LATENT | nothing |  |",
        "",
        "Gives image (IMAGE).",
    ]


def test_nodes_stand_under_their_categories_in_their_order():
    page = markdown({"a": bake, "b": serve})
    heads = [line for line in page.splitlines() if line.startswith("#")]
    assert heads == ["# The nodes", "## Kitchen", "### Bake", "### Serve"]
    assert "do not edit" in page
