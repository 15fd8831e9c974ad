"""ComfyUI's door: our nodes as its classes, its raw values in and out, and the folder loaded as ComfyUI loads it."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest
import torch
from limner.core import comfy, pictures
from limner.core.comfy import node_classes
from limner.core.host import Host
from limner.nodes import NODES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def classes(base):
    return node_classes(NODES)


@pytest.fixture
def call(classes):
    """Run a node as ComfyUI does: an instance, its FUNCTION, and every widget with a value."""

    def run(name, /, **inputs):
        kind = classes[f"limner.{name}"]
        required = kind.INPUT_TYPES()["required"].items()
        widgets = {key: options["default"] for key, (_, options) in required if "default" in options}
        return getattr(kind(), kind.FUNCTION)(**(widgets | inputs))

    return run


def draw(call, **settings):
    model, clip, vae = call("LoadCheckpoint", name="tiny")
    (prompt,) = call("EncodeText", clip=clip, text="a red apple")
    (nothing,) = call("EncodeText", clip=clip, text="")
    (guider,) = call("Guide", model=model, positive=prompt, negative=nothing, scale=2.0)
    (sigmas,) = call("Schedule", model=model, kind="karras", steps=3)
    (empty,) = call("EmptyLatent", model=model, width=32, height=32, batch=2)
    (latent,) = call("Sample", **({"guider": guider, "sigmas": sigmas, "latent": empty, "seed": 5} | settings))
    return latent, call("Decode", vae=vae, latent=latent)[0]


def test_a_picture_is_drawn_by_wiring_the_classes_by_hand(call):
    latent, image = draw(call)
    assert latent["samples"].shape == (2, 4, 4, 4)
    assert image.shape == (2, 32, 32, 3)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1


def test_it_is_the_picture_that_the_same_graph_gives_elsewhere(call, base):
    from limner import Graph

    graph = Graph(base)
    model, clip, vae = graph.LoadCheckpoint("tiny")
    texts = [graph.EncodeText(clip, text) for text in ("a red apple", "")]
    guider = graph.Guide(model, *texts, 2.0)
    latent = graph.Sample(guider, graph.Schedule(model, "karras", 3), graph.EmptyLatent(model, 32, 32, 2), 5)
    torch.testing.assert_close(draw(call)[1], graph.Decode(vae, latent).run().pixels, rtol=0, atol=1e-5)


def test_networks_are_loaded_once_for_all_classes(base, call, monkeypatch):
    loaded = []
    monkeypatch.setattr(Host, "_heard", lambda _, event: loaded.append(event.recipe.kind))
    draw(call)
    draw(call)
    assert loaded == ["text_encoder", "unet", "patch_autoencoder"]


# ----------------------------------------------------------------------------------------- what ComfyUI sees of them


def test_every_node_is_a_class_under_its_own_id(classes):
    assert classes.keys() == NODES.keys()
    sample = classes["limner.Sample"]
    assert (sample.RETURN_TYPES, sample.RETURN_NAMES) == (("LATENT",), ("latent",))
    assert (sample.FUNCTION, sample.CATEGORY, sample.OUTPUT_NODE) == ("run", "limner/sampling", False)
    assert sample.DESCRIPTION == "Turn noise into a latent image."
    saving = {name: kind for name, kind in classes.items() if kind.OUTPUT_NODE}
    assert list(saving) == ["limner.SaveImage", "limner.PreviewImage"]
    hidden = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
    assert all(kind.INPUT_TYPES()["hidden"] == hidden for kind in saving.values())


def test_widgets_have_their_ranges_choices_defaults_and_tooltips(classes):
    inputs = classes["limner.Sample"].INPUT_TYPES()
    assert inputs["required"]["guider"] == ("LIMNER_GUIDER", {"tooltip": "The UNet, and what it is told."})
    kind, seed = inputs["required"]["seed"]
    assert (kind, seed["min"], seed["max"], seed["control_after_generate"]) == ("INT", 0, 2**53 - 1, True)
    choices, options = inputs["required"]["sampler"]
    assert choices[:2] == ["euler", "euler_ancestral"]
    assert options["default"] == "dpmpp_2m"
    assert inputs["optional"]["seeds"][0] == "LIMNER_SEEDS"
    assert classes["limner.LoadCheckpoint"].INPUT_TYPES()["required"]["name"][0] == ["limner-64", "tiny"]
    assert classes["limner.Text"].INPUT_TYPES()["required"]["value"][1] == {"default": "", "multiline": True}
    assert classes["limner.EmptyLatent"].INPUT_TYPES()["required"]["width"][1]["step"] == 8


def test_all_that_describes_a_node_is_json(classes):
    for kind in classes.values():
        json.dumps([kind.INPUT_TYPES(), kind.RETURN_TYPES])


def test_only_wires_that_mean_the_same_there_have_the_same_name(classes):
    wires = {wire for kind in classes.values() for wire in kind.RETURN_TYPES}
    assert {wire for wire in wires if not wire.startswith("LIMNER_")} <= comfy.SHARED
    assert {"LIMNER_MODEL", "LIMNER_CLIP", "LIMNER_VAE", "LIMNER_GUIDER"} <= wires


def test_an_optional_input_may_be_left_out(call):
    assert call("JoinText", first="a", second="b") == ("a, b",)
    image = torch.rand(1, 4, 4, 3)
    assert call("JoinImages", first=image)[0].equal(image)


def test_a_lazy_switch_asks_for_the_chosen_input_alone(classes, call):
    switch = classes["limner.Switch"]()
    assert classes["limner.Switch"].INPUT_TYPES()["optional"]["if_true"][1]["lazy"] is True
    assert switch.check_lazy_status(condition=True, if_true=None, if_false=None) == ["if_true"]
    assert switch.check_lazy_status(condition=False, if_true=None) == ["if_false"]
    assert switch.check_lazy_status(condition=True, if_true="here") == []
    assert call("Switch", condition=True, if_true="here", if_false=None) == ("here",)
    assert not hasattr(classes["limner.Sample"], "check_lazy_status")


def test_a_masked_latent_of_comfyuis_is_painted_where_it_may_be(call):
    latent, _ = draw(call)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 16:] = 1
    painted, _ = draw(call, latent=latent | {"noise_mask": mask}, seed=9)
    torch.testing.assert_close(painted["samples"][..., :2], latent["samples"][..., :2], rtol=1e-5, atol=1e-5)
    assert (painted["samples"] - latent["samples"])[..., 2:].abs().max() > 0.1


# ------------------------------------------------------------------------------------------------- inside of ComfyUI


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """ComfyUI's folders, as its module names them."""
    module = ModuleType("folder_paths")
    for kind in ("input", "output", "temp"):
        (tmp_path / kind).mkdir()
        setattr(module, f"get_{kind}_directory", lambda kind=kind: str(tmp_path / kind))
    monkeypatch.setitem(sys.modules, "folder_paths", module)
    return tmp_path


def test_saved_pictures_go_to_comfyuis_folder_and_are_shown(call, folders):
    shown = call("SaveImage", image=torch.rand(2, 8, 8, 3), prefix="mine/a", prompt={"1": {"class_type": "X"}})
    assert shown == {
        "ui": {"images": [{"filename": f"a_0000{k}.png", "subfolder": "mine", "type": "output"} for k in (1, 2)]}
    }
    texts = pictures.texts(folders / "output" / "mine" / "a_00001.png")
    assert json.loads(texts["prompt"]) == {"1": {"class_type": "X"}}


def test_previews_go_to_comfyuis_temporary_folder(call, folders):
    shown = call("PreviewImage", image=torch.rand(1, 8, 8, 3))
    assert shown["ui"]["images"] == [{"filename": "preview_00001.png", "subfolder": "", "type": "temp"}]
    assert (folders / "temp" / "preview_00001.png").is_file()


def test_outside_of_comfyui_pictures_go_to_our_own_folder(call, base):
    shown = call("SaveImage", image=torch.rand(1, 8, 8, 3))
    assert shown["ui"]["images"] == [{"filename": "limner_00001.png", "subfolder": "", "type": "output"}]
    assert (base / "output" / "limner_00001.png").is_file()


def test_pictures_are_read_from_comfyuis_folder_and_may_name_another(classes, call, folders):
    pictures.write(folders / "input" / "a.png", torch.zeros(4, 4, 3))
    pictures.write(folders / "output" / "b.png", torch.ones(4, 4, 3))
    load = classes["limner.LoadImage"]
    choices, options = load.INPUT_TYPES()["required"]["name"]
    assert choices == ["a.png"]
    assert options["image_upload"]
    assert call("LoadImage", name="a.png")[0].max() == 0
    assert call("LoadImage", name="b.png [output]")[0].min() == 1
    assert load.VALIDATE_INPUTS(name="b.png [output]") is True
    assert "there is no picture 'b.png'" in load.VALIDATE_INPUTS(name="b.png")
    assert "is no file name" in load.VALIDATE_INPUTS(name="../output/b.png")
    assert load.VALIDATE_INPUTS(name=None) is True  # it is plugged in
    assert inspect.getfullargspec(load.VALIDATE_INPUTS).kwonlyargs == ["name"]  # what ComfyUI leaves to it
    assert not hasattr(classes["limner.SaveImage"], "VALIDATE_INPUTS")


def test_a_picture_or_a_model_that_changes_is_read_again(classes, folders, base):
    load = classes["limner.LoadImage"]
    pictures.write(folders / "input" / "a.png", torch.zeros(4, 4, 3))
    before = load.IS_CHANGED(name="a.png")
    assert load.IS_CHANGED(name="a.png") == before
    pictures.write(folders / "input" / "a.png", torch.ones(4, 4, 3))
    assert load.IS_CHANGED(name="a.png") != before
    assert load.IS_CHANGED(name=None) == ""  # it is plugged in: nobody knows yet
    model = classes["limner.LoadCheckpoint"]
    before = model.IS_CHANGED(name="tiny")
    assert model.IS_CHANGED(name="tiny") == before
    (base / "models" / "checkpoints" / "tiny" / "model.json").write_text("{}")
    assert model.IS_CHANGED(name="tiny") != before
    assert not hasattr(classes["limner.EncodeText"], "IS_CHANGED")


class Pressed(Exception):
    """What ComfyUI raises when somebody has pressed stop."""


def test_steps_move_comfyuis_bar_and_its_stop_stops_them(call, monkeypatch):
    moved = []

    class ProgressBar:
        def __init__(self, total):
            self.total = total

        def update_absolute(self, value, total):
            moved.append((value, total))
            if len(moved) > 4:
                raise Pressed

    utils = ModuleType("comfy.utils")
    utils.ProgressBar = ProgressBar
    monkeypatch.setitem(sys.modules, "comfy", ModuleType("comfy"))
    monkeypatch.setitem(sys.modules, "comfy.utils", utils)
    draw(call)
    assert moved == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Pressed):
        draw(call)


def test_a_warning_goes_to_the_log(call, caplog):
    _, clip, _ = call("LoadCheckpoint", name="tiny")
    call("EncodeText", clip=clip, text="red " * 20)
    assert [(row.name, row.message) for row in caplog.records] == [
        ("limner", "the text is too long: its last 14 tokens are not read")
    ]


DOOR = """
import importlib.util, json, sys
from types import ModuleType

folder, out = sys.argv[1:]
for name in ("nodes", "folder_paths"):  # ComfyUI has modules of these names
    sys.modules[name] = ModuleType(name)
for kind in ("output", "temp", "input"):
    setattr(sys.modules["folder_paths"], f"get_{kind}_directory", lambda: out)
assert importlib.util.find_spec("limner") is None, "the installed package is on the path"

name = folder.replace(".", "_x_")  # as ComfyUI names the module of a pack
spec = importlib.util.spec_from_file_location(name, f"{folder}/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
classes, titles = module.NODE_CLASS_MAPPINGS, module.NODE_DISPLAY_NAME_MAPPINGS
described = {key: kind.INPUT_TYPES() for key, kind in classes.items()}
light = {"torch", "transformers", "numpy"}.isdisjoint(sys.modules)

def call(key, **inputs):
    widgets = {k: o["default"] for k, (_, o) in described[f"limner.{key}"]["required"].items() if "default" in o}
    kind = classes[f"limner.{key}"]
    return getattr(kind(), kind.FUNCTION)(**(widgets | inputs))

model, clip, vae = call("LoadCheckpoint", name="tiny")
(text,) = call("EncodeText", clip=clip, text="a red apple")
(guider,) = call("Guide", model=model, positive=text)
(sigmas,) = call("Schedule", model=model, steps=2)
(latent,) = call("EmptyLatent", model=model, width=32, height=32)
(latent,) = call("Sample", guider=guider, sigmas=sigmas, latent=latent)
(image,) = call("Decode", vae=vae, latent=latent)
shown = call("SaveImage", image=image)
ours = [key for key in sys.modules if key.split(".")[0] in ("limner", "core")]
print(json.dumps({
    "light": light, "ids": list(classes), "titled": titles.keys() == classes.keys(), "shown": shown, "strangers": ours,
    "web": hasattr(module, "WEB_DIRECTORY"),
}))
"""


def test_the_folder_loads_as_comfyui_loads_it_without_the_installed_package(base, tmp_path):
    folder = tmp_path / "custom_nodes" / "Limner 0.1 (dev)"
    leave = shutil.ignore_patterns(".*", "__pycache__", "tests", "docs", "default")
    shutil.copytree(ROOT, folder, ignore=leave)
    said = subprocess.run(
        [sys.executable, "-S", "-c", DOOR, str(folder), str(tmp_path)],  # -S: no finder of an editable install
        env=os.environ | {"PYTHONPATH": sysconfig.get_paths()["purelib"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert found["ids"] == list(NODES)
    assert found["light"]
    assert found["titled"]
    assert not found["web"]
    assert found["strangers"] == []
    assert found["shown"]["ui"]["images"][0]["filename"] == "limner_00001.png"
    assert (tmp_path / "limner_00001.png").is_file()
