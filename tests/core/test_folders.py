"""Where files lie below the base directory, what is offered of them, and what stands for them in keys."""

import os
import threading

import pytest
from limner.core import folders as module
from limner.core.digests import Digests
from limner.core.errors import ImageFileError, ModelFileError, ModelMissing, UsageError
from limner.core.folders import DEFAULT_ENCODER, DEFAULT_MODEL, SHIPPED, Folders, default_base, known_as
from limner.core.plan import Fingerprint
from limner.core.schema import InputFile, ModelFile

UNET = ModelFile("unet")


@pytest.fixture
def folders(tmp_path):
    return Folders.at(tmp_path / "base")


def put(path, content="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_looking_makes_nothing(folders):
    assert [*folders.choices(UNET), *folders.choices(InputFile())] == []
    assert not folders.base.exists()


def test_the_platform_says_where_a_users_data_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_base().name == "limner"


def test_models_are_offered_by_their_names_below_their_folder(folders):
    unet = folders.base / "models" / "unet"
    for name in (
        "b.safetensors",
        "a/c.safetensors",
        "whole/config.json",
        "whole/x.safetensors",
        "notes.txt",
        "old.ckpt",
        "whole2/model.json",
    ):
        put(unet / name)
    assert folders.choices(UNET) == ["a/c.safetensors", "b.safetensors", "whole", "whole2"]
    for name in folders.choices(UNET):
        assert folders.model("unet", name) == unet / name


def test_what_ships_is_offered_first(folders):
    put(folders.base / "models" / "checkpoints" / "a.safetensors")
    assert folders.choices(ModelFile("checkpoints")) == [DEFAULT_MODEL, "a.safetensors"]
    assert folders.model("checkpoints", DEFAULT_MODEL) == SHIPPED
    assert folders.choices(ModelFile("text_encoders")) == [DEFAULT_ENCODER]
    assert folders.model("text_encoders", DEFAULT_ENCODER).parent == SHIPPED


def test_pictures_are_offered_from_the_folder_input(folders):
    for name in ("b.png", "a/c.JPG", "d.webp", "notes.txt", ".0123.tmp.png", "e.gif", "e.jpeg"):
        put(folders.inputs / name)
    assert folders.choices(InputFile()) == ["a/c.JPG", "b.png", "d.webp", "e.jpeg"]
    assert folders.input("a/c.JPG") == folders.inputs / "a" / "c.JPG"


def test_what_is_not_there_is_named_with_what_is(folders):
    put(folders.base / "models" / "unet" / "a.safetensors")
    with pytest.raises(ModelMissing, match=r"there is no 'b.safetensors' in .*unet; there are: a.safetensors"):
        folders.model("unet", "b.safetensors")
    with pytest.raises(UsageError, match=r"there is no picture 'b\.png'"):
        folders.input("b.png")


@pytest.mark.parametrize("name", ["../unet/a.safetensors", "/etc/passwd", "", "..", "nul", "a\x00", "x" * 5000])
def test_a_name_never_leads_out(folders, name):
    put(folders.base / "models" / "unet" / "a.safetensors")
    for look in (lambda: folders.model("vae", name), lambda: folders.input(name)):
        with pytest.raises(UsageError, match="is no file name"):
            look()


def test_links_are_followed_to_models_and_not_to_pictures(folders, tmp_path):
    outside = put(tmp_path / "outside" / "a.safetensors")
    put(tmp_path / "outside" / "a.png")
    unet = folders.base / "models" / "unet"
    inside = put(unet / "b.safetensors")
    (unet / "link.safetensors").symlink_to(outside)
    (unet / "folder").symlink_to(tmp_path / "outside")
    (unet / "again").symlink_to(unet)
    (unet / "itself").symlink_to("itself")
    (unet / "same.safetensors").symlink_to(inside)
    folders.inputs.mkdir()
    (folders.inputs / "a.png").symlink_to(tmp_path / "outside" / "a.png")
    names = ["b.safetensors", "folder/a.safetensors", "link.safetensors", "same.safetensors"]
    assert folders.choices(UNET) == names
    assert all(folders.model("unet", name).is_file() for name in names)
    assert folders.choices(InputFile()) == []
    with pytest.raises(UsageError, match="leads out of"):
        folders.input("a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_neither_offered_nor_waited_for(folders):
    for path in (folders.base / "models" / "unet" / "a.safetensors", folders.inputs / "a.png"):
        path.parent.mkdir(parents=True)
        os.mkfifo(path)
    assert [*folders.choices(UNET), *folders.choices(InputFile())] == []
    with pytest.raises(ModelMissing):
        folders.model("unet", "a.safetensors")
    with pytest.raises(UsageError):
        folders.input("a.png")


def test_a_folder_that_cannot_be_looked_into_offers_nothing(folders, monkeypatch):
    put(folders.base / "models" / "unet" / "a.safetensors")
    closed = folders.base / "models" / "unet" / "closed"
    closed.mkdir()
    iterdir = type(closed).iterdir

    def refuse(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(type(closed), "iterdir", refuse)
    assert folders.choices(UNET) == ["a.safetensors"]


# ------------------------------------------------------------------------------------------------- fingerprints


def test_a_small_file_stands_in_a_key_by_its_content(folders):
    path = put(folders.inputs / "a.png", "one")
    before = folders.fingerprint(InputFile(), "a.png")
    assert before.settled
    assert before.text == folders.digest(path)
    put(path, "two!")
    assert folders.fingerprint(InputFile(), "a.png") != before


@pytest.mark.parametrize("name", ["a.safetensors", "whole"])
def test_a_large_model_has_a_stand_in_until_its_hash_is_there(folders, monkeypatch, name):
    monkeypatch.setattr(module, "BACKGROUND", 3)
    unet = folders.base / "models" / "unet"
    put(unet / "a.safetensors", "four")
    put(unet / "whole" / "config.json", "{}")
    put(unet / "whole" / "x.safetensors", "weights")
    before = folders.fingerprint(UNET, name)
    assert not before.settled
    after = folders.content(before.text)
    assert after == Fingerprint(folders.digest(unet / name))
    assert folders.fingerprint(UNET, name) == after
    assert Folders.at(folders.base).fingerprint(UNET, name) == after, "another process knows it at once"


def test_a_large_model_that_changes_before_its_hash_is_there_is_not_mistaken_for_what_it_was(folders, monkeypatch):
    monkeypatch.setattr(module, "BACKGROUND", 3)
    path = put(folders.base / "models" / "unet" / "a.safetensors", "four")
    gate = threading.Event()
    folders.digests._pool.submit(gate.wait, 10)
    before = folders.fingerprint(UNET, "a.safetensors")
    put(path, "another")
    gate.set()
    assert folders.content(before.text) is None


def test_nobody_waits_for_the_hash_of_a_large_model_to_name_it(folders, monkeypatch):
    monkeypatch.setattr(module, "BACKGROUND", 3)
    path = put(folders.base / "models" / "unet" / "a.safetensors", "four")
    gate = threading.Event()
    folders.digests._pool.submit(gate.wait, 10)  # ahead of it, so that the hash cannot be there
    stand_in = folders.digest(path)
    assert stand_in == folders.fingerprint(UNET, "a.safetensors").text
    gate.set()
    assert folders.content(stand_in) == Fingerprint(folders.digest(path)) != Fingerprint(stand_in)


@pytest.mark.parametrize(("hint", "kind"), [(UNET, ModelFileError), (InputFile(), ImageFileError)])
def test_a_file_that_cannot_be_read_is_an_error_of_ours(folders, monkeypatch, hint, kind):
    put(folders.base / "models" / "unet" / "a.safetensors")
    put(folders.inputs / "a.safetensors")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Digests, "of", refuse)
    with pytest.raises(kind, match="cannot be read: permission denied"):
        folders.fingerprint(hint, "a.safetensors")


# --------------------------------------------------------------------------------------------- folders of other people


def test_each_folder_may_lie_elsewhere(tmp_path):
    names = ("inputs", "output", "temp", "data")
    folders = Folders.at(tmp_path / "base", **{name: tmp_path / name for name in names})
    assert [getattr(folders, name) for name in names] == [tmp_path / name for name in names]
    assert folders.cache == tmp_path / "data" / "cache"
    assert folders.user == tmp_path / "base" / "user" / "default"
    put(tmp_path / "inputs" / "a.png")
    assert folders.choices(InputFile()) == ["a.png"]


def test_models_are_found_in_the_folders_that_comfyui_has(tmp_path):
    folders = Folders.at(tmp_path)
    for place in ("diffusion_models/a", "unet/b", "clip/c", "text_encoders/d", "upscale_models/e", "t2i_adapter/f"):
        put(tmp_path / "models" / f"{place}.safetensors")
    assert folders.choices(UNET) == ["a.safetensors", "b.safetensors"]
    assert folders.choices(ModelFile("text_encoders")) == [DEFAULT_ENCODER, "c.safetensors", "d.safetensors"]
    assert folders.choices(ModelFile("upscale")) == ["e.safetensors"]
    assert folders.choices(ModelFile("controlnet")) == ["f.safetensors"]
    assert folders.model("unet", "a.safetensors").parent.name == "diffusion_models"
    assert [known_as(name) for name in ("clip", "diffusion_models", "upscale_models", "loras", "ipadapter")] == [
        "text_encoders",
        "unet",
        "upscale",
        "loras",
        "ipadapter",
    ]


def test_further_folders_of_models_are_looked_at_after_the_base_directory_and_first_ones_before(tmp_path):
    first, further = tmp_path / "first", tmp_path / "further"
    folders = Folders.at(
        tmp_path / "base", first={"unet": (first,)}, further={"unet": (further,), "ipadapter": (first,)}
    )
    base = tmp_path / "base" / "models" / "unet"
    for root, names in ((first, "ad"), (base, "abe"), (further, "abc")):
        for name in names:
            put(root / f"{name}.safetensors")
    assert folders.roots("unet") == [first, base, base.with_name("diffusion_models"), further]
    assert folders.choices(UNET) == [f"{name}.safetensors" for name in "abcde"]
    found = {name: folders.model("unet", f"{name}.safetensors").parent for name in "abcde"}
    assert found == {"a": first, "b": base, "c": further, "d": first, "e": base}
    assert folders.choices(ModelFile("ipadapter")) == ["a.safetensors", "d.safetensors"]
    assert folders.kinds()[-1] == "ipadapter"


@pytest.mark.parametrize("folder", ["..", "../..", "/etc", "", "a\x00", "nul"])
def test_a_kind_of_model_is_no_way_out(folders, folder):
    for look in (lambda: folders.model(folder, "a.safetensors"), lambda: folders.choices(ModelFile(folder))):
        with pytest.raises(UsageError, match="is no file name"):
            look()


def test_a_picture_in_another_folder_is_named_as_comfyui_does(folders):
    places = {"a.png": folders.inputs, "b.png [output]": folders.output, "c/d.png [temp]": folders.temp}
    for name, root in places.items():
        path = put(root / name.partition(" ")[0])
        assert folders.input(name) == path
        assert name in folders.choices(InputFile())
    assert folders.input("a.png [input]") == folders.inputs / "a.png"
    assert folders.choices(InputFile()) == ["a.png"], "they are not listed, though"
    for name in (
        "b.png",
        "gone.png [output]",
        "../input/a.png [output]",
        "a.png [other]",
        " [output]",
        "b.png [output] ",
    ):
        assert name not in folders.choices(InputFile())
        with pytest.raises(UsageError):
            folders.input(name)


def test_a_file_that_is_no_picture_is_not_taken_for_one(folders):
    put(folders.output / "a.html")
    assert "a.html [output]" not in folders.choices(InputFile())
    assert 7 not in folders.choices(InputFile())


def test_a_folder_of_pictures_has_one_of_three_names(folders):
    assert [folders.pictures(kind) for kind in ("input", "output", "temp")] == [
        folders.inputs,
        folders.output,
        folders.temp,
    ]
    with pytest.raises(UsageError, match="there is no folder of the type 'models'; there are: input, output, temp"):
        folders.pictures("models")
