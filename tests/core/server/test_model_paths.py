"""The YAML in which ComfyUI's users say where models lie means here what it means there, or the reason is said."""

import pytest
from limner.core.errors import UsageError
from limner.core.server.model_paths import read

USUAL = """
# a comment
a1111:
    base_path: webui/
    checkpoints: models/Stable-diffusion
    vae: models/VAE
    loras: |
         models/Lora
         models/LyCORIS
    upscale_models: |
        models/ESRGAN
        models/RealESRGAN
    embeddings: embeddings

comfyui:
    base_path: /opt/comfyui
    is_default: true
    checkpoints: models/checkpoints/
    clip: |
        models/text_encoders/
        models/clip/
    diffusion_models: models/diffusion_models
    custom_nodes: custom_nodes/

other_ui:
#    base_path: path/to/ui
"""


def written(path, text):
    path.write_text(text, "utf-8")
    return path


def test_the_file_that_comfyuis_users_have_is_understood(tmp_path):
    found = read([written(tmp_path / "extra_model_paths.yaml", USUAL)])
    web = tmp_path / "webui"
    named = {kind: [str(path) for path in paths] for kind, paths in found.further.items()}
    assert named == {
        "checkpoints": [f"{web}/models/Stable-diffusion"],
        "vae": [f"{web}/models/VAE"],
        "loras": [f"{web}/models/Lora", f"{web}/models/LyCORIS"],
        "upscale": [f"{web}/models/ESRGAN", f"{web}/models/RealESRGAN"],
        "embeddings": [f"{web}/embeddings"],
    }
    first = {kind: [str(path) for path in paths] for kind, paths in found.first.items()}
    assert first == {
        "unet": ["/opt/comfyui/models/diffusion_models"],
        "text_encoders": ["/opt/comfyui/models/clip", "/opt/comfyui/models/text_encoders"],
        "checkpoints": ["/opt/comfyui/models/checkpoints"],
    }
    assert [str(path) for path in found.packs] == ["/opt/comfyui/custom_nodes"]


def test_paths_are_relative_to_the_file_and_may_use_the_home_and_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODELS", str(tmp_path / "variable"))
    (tmp_path / "folder").mkdir()
    text = "a:\n  loras: ../x\n  vae: ~/y\n  unet: $MODELS/z\nb:\n  base_path: ~/base\n  loras: w\n"
    found = read([written(tmp_path / "folder" / "a.yaml", text)]).further
    assert found["loras"] == (tmp_path / "x", tmp_path / "home" / "base" / "w")
    assert found["vae"] == (tmp_path / "home" / "y",)
    assert found["unet"] == (tmp_path / "variable" / "z",)


def test_several_files_add_up_and_the_last_default_is_first(tmp_path):
    one = written(tmp_path / "1.yaml", "a:\n  is_default: true\n  loras: /one\nb:\n  custom_nodes: /p\n")
    two = written(tmp_path / "2.yaml", "a:\n  is_default: true\n  loras: /two\nb:\n  custom_nodes: |\n    /p\n    /q\n")
    found = read([one, two])
    assert [str(path) for path in found.first["loras"]] == ["/two", "/one"]
    assert [str(path) for path in found.packs] == ["/p", "/q"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "a:\n", "a:\n  loras:\n", "{}"])
def test_a_file_may_say_nothing(tmp_path, text):
    found = read([written(tmp_path / "a.yaml", text)])
    assert (found.first, found.further, found.packs) == ({}, {}, ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [1, 2", "is no YAML"),
        ("- a\n- b\n", "must hold sections"),
        ("a: text\n", "the section 'a' must hold names of folders and their paths"),
        ("a:\n  loras: [x, y]\n", "'loras' of 'a' must be a path, or one on each line"),
        ("a:\n  base_path: 7\n", "'base_path' of 'a' must be a path, not 7"),
        ("a:\n  7: x\n", "7 in 'a' is no name of a folder"),
        ("a: !!python/object/apply:os.system ['touch x']\n", "is no YAML"),
        ('a:\n  loras: "x\\0y"\n', "must be a path"),
        ("a:\n" + "  " * 3 + "x: " + "y" * (1 << 20), "is larger than 1 MB"),
        ("[" * 5000, "is no YAML"),
    ],
    ids=range(10),
)
def test_what_it_cannot_mean_is_refused_with_the_file_and_the_reason(tmp_path, text, reason):
    file = written(tmp_path / "a.yaml", text)
    with pytest.raises(UsageError) as caught:
        read([file])
    assert str(caught.value).startswith(str(file))
    assert reason in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*gone\.yaml: no such file"):
        read([tmp_path / "gone.yaml"])
