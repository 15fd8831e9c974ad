"""What nodes there are, as ComfyUI's clients read it."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import pytest
import serving as tools
from limner.core.catalogue import v1
from limner.core.schema import REQUIRED, Choice, Input, InputFile, ModelFile, Node, Output, Range, Says, Seed, node
from limner.core.server.listing import Stamp, listing
from limner.core.values import Image, Returned


def files(hint: ModelFile | InputFile) -> Sequence[str]:
    return ["a.png", "b.png"] if isinstance(hint, InputFile) else ["m.safetensors"]


@node("utils", namespace="", delivers=True, label="Preview Any")
def preview_any(source: Any) -> Returned:
    return Returned(())


preview_any = replace(preview_any, help=" ")


def test_a_node_is_described_exactly_as_comfyui_does_it():
    assert v1(preview_any, files) == {
        "input": {"required": {"source": ["*", {}]}},
        "input_order": {"required": ["source"]},
        "output": [],
        "output_is_list": [],
        "output_name": [],
        "name": "PreviewAny",
        "display_name": "Preview Any",
        "description": "",
        "python_module": "nodes",
        "category": "utils",
        "output_node": True,
    }


def test_widgets_are_described_with_their_bounds_choices_and_help():
    @node("kitchen")
    def bake(
        image: Annotated[Image, "What to bake."],
        degrees: Annotated[int, Range(50, 250, 10)] = 180,
        way: Annotated[str, Choice("hot air", "fire")] = "fire",
        seed: Annotated[int, Seed(7)] = 0,
        oven: Annotated[str, ModelFile("ovens")] = "m.safetensors",
        dough: Annotated[str, InputFile()] = "a.png",
        size: Annotated[float, Range(0.0, math.inf)] = 1.0,
        filling: Image | None = None,
    ) -> Sequence[Image]:
        """Bake a picture."""
        return [image]

    found = v1(bake, files)
    assert found["input"] == {
        "required": {
            "image": ["IMAGE", {"tooltip": "What to bake."}],
            "degrees": ["INT", {"default": 180, "min": 50, "max": 250, "step": 10}],
            "way": [["hot air", "fire"], {"default": "fire"}],
            "seed": ["INT", {"default": 0, "min": 0, "max": 7, "control_after_generate": True}],
            "oven": [["m.safetensors"], {"default": "m.safetensors"}],
            "dough": [["a.png", "b.png"], {"default": "a.png", "image_upload": True}],
            "size": ["FLOAT", {"default": 1.0, "min": 0.0}],
        },
        "optional": {"filling": ["IMAGE", {}]},
    }
    assert found["input_order"] == {kind: list(group) for kind, group in found["input"].items()}
    assert (found["output"], found["output_is_list"], found["output_name"]) == (["IMAGE"], [True], ["image"])
    assert (found["python_module"], found["name"]) == ("custom_nodes.limner", "limner.Bake")


def test_a_foreign_node_is_described_in_its_own_words():
    options = {"default": 3, "min": 1, "max": 9, "round": 0.1, "dynamicPrompts": False}
    foreign = Node(
        name="Theirs",
        category="theirs/deep",
        version="d",
        function=lambda: None,
        inputs=(
            Input("count", int, "INT", REQUIRED, Range(1, 9), options=options),
            Input("way", str, "COMBO", REQUIRED, Choice("a", "b"), options={}),
            Input("later", str, "COMBO", None, Choice("a"), options={"options": ["a"]}),
            Input("me", object, "UNIQUE_ID", None, hidden="UNIQUE_ID"),
        ),
        outputs=(Output("out", "THEIRS", doc="What comes."),),
        namespace="",
        help=" ",
        label="Theirs, too",
        pack="my pack",
        deprecated=True,
        experimental=True,
    )
    found = v1(foreign, files)
    assert found["input"] == {
        "required": {"count": ["INT", options], "way": [["a", "b"], {}]},
        "optional": {"later": ["COMBO", {"options": ["a"]}]},
        "hidden": {"me": "UNIQUE_ID"},
    }
    assert found["python_module"] == "custom_nodes.my pack"
    assert (found["output_tooltips"], found["deprecated"], found["experimental"]) == (["What comes."], True, True)
    assert (found["display_name"], found["description"]) == ("Theirs, too", "")


def test_our_own_words_for_comfyuis_editor_stand_beside_what_is_known():
    @node("x", namespace="")
    def primitive(value: Annotated[int, Range(-5, 5), Says({"control_after_generate": True})]) -> int:
        return value

    assert v1(primitive, files)["input"] == {
        "required": {"value": ["INT", {"min": -5, "max": 5, "control_after_generate": True}]}
    }


def test_a_node_that_cannot_be_told_is_left_out_and_odd_values_become_json(caplog):
    class Broken(Choice):
        def __iter__(self):
            raise RuntimeError("no")

    odd = Input("x", float, "FLOAT", REQUIRED, options={"default": math.nan, "of": {1}, "by": object, 3: (True,)})
    good = Node("Odd", "x", "d", lambda: None, (odd,), (), namespace="", pack="p")
    bad = replace(good, name="Bad", inputs=(Input("x", str, "COMBO", REQUIRED, Broken("a"), options={}),))
    found = listing([bad, good], files)
    assert list(found.nodes) == ["Odd"]
    told = json.loads(found.page.body)["Odd"]["input"]["required"]["x"][1]
    assert told == {"default": None, "of": [1], "by": str(object), "3": [True]}
    assert "Bad cannot be described" in caplog.text


def test_a_folder_that_changes_is_seen_and_one_that_does_not_costs_a_look(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):
        os.utime(folder, (1e9, 1e9))
    stamp = Stamp.of([tmp_path, tmp_path / "none"])
    assert stamp.holds
    (tmp_path / "a" / "b" / "new").touch()
    assert not stamp.holds
    fresh = Stamp.of([tmp_path])
    assert not fresh.holds  # one more file in the same moment would not show
    os.utime(tmp_path / "a" / "b", (1e9, 1e9))
    assert Stamp.of([tmp_path]).holds


def test_a_circle_of_links_is_looked_at_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "back").symlink_to(tmp_path, target_is_directory=True)
    assert set(Stamp.of([tmp_path]).times) == {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "back")}


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_all_nodes_are_listed_and_each_by_itself(serving, prefix):
    async def check():
        async with serving() as client:
            everything = await (await client.get(f"{prefix}/object_info")).json()
            assert set(everything) == set(tools.TOYS)
            one = await (await client.get(f"{prefix}/object_info/Join")).json()
            assert one == {"Join": everything["Join"]}

    asyncio.run(check())


def test_an_unknown_node_is_an_empty_object_not_an_error(serving):
    async def check():
        async with serving() as client:
            answer = await client.get("/object_info/None such")
            assert (answer.status, await answer.json()) == (200, {})

    asyncio.run(check())


def test_who_has_the_listing_is_told_so_and_who_can_unpack_gets_it_packed(serving):
    async def check():
        async with serving() as client:
            plain = await client.get("/object_info", headers={"Accept-Encoding": "identity"})
            packed = await client.get("/object_info", headers={"Accept-Encoding": "gzip"}, auto_decompress=False)
            assert packed.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(await packed.read()) == await plain.read()
            assert plain.headers["ETag"] == packed.headers["ETag"]
            again = await client.get("/object_info", headers={"If-None-Match": plain.headers["ETag"]})
            assert (again.status, await again.read()) == (304, b"")

    asyncio.run(check())


def test_a_file_that_comes_or_goes_changes_the_choices_and_the_tag(serving, tmp_path):
    async def check():
        async with serving() as client:
            tags = []
            for change in (
                lambda: None,
                lambda: (tmp_path / "input").mkdir() or (tmp_path / "input" / "new.png").touch(),
                lambda: (
                    (tmp_path / "models" / "loras" / "deep").mkdir(parents=True)
                    or (tmp_path / "models" / "loras" / "deep" / "l.safetensors").touch()
                ),
                (tmp_path / "input" / "new.png").unlink,
            ):
                change()
                answer = await client.get("/object_info")
                required = (await answer.json())["File"]["input"]["required"]
                tags.append((answer.headers["ETag"], required["picture"][0], required["model"][0]))
            assert [pictures for _, pictures, _ in tags] == [[], ["new.png"], ["new.png"], []]
            assert [models for _, _, models in tags] == [[], [], ["deep/l.safetensors"], ["deep/l.safetensors"]]
            assert len({tag for tag, _, _ in tags}) == 4

    asyncio.run(check())
