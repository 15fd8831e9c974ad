"""Models that can be chosen, as ComfyUI's clients ask for them."""

from __future__ import annotations

import asyncio
import io

import pytest
from PIL import Image


def put(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def asked(serving, *paths):
    async def check():
        async with serving() as client:
            answers = [await client.get(path) for path in paths]
            return [(a.status, await a.json()) for a in answers]

    return asyncio.run(check())


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_folders_and_what_is_in_them(serving, tmp_path, prefix):
    put(tmp_path / "models/loras/deep/a.safetensors")
    put(tmp_path / "models/loras/b.safetensors")
    put(tmp_path / "models/unet/u.safetensors")
    (kinds, loras, modern, old, unknown) = asked(
        serving,
        *(f"{prefix}/models{p}" for p in ("", "/loras", "/diffusion_models", "/unet", "/none such")),
    )
    assert kinds[0] == 200
    assert {"checkpoints", "loras", "vae", "diffusion_models", "upscale_models", "embeddings"} <= set(kinds[1])
    assert loras == (200, ["b.safetensors", "deep/a.safetensors"])
    assert modern == old == (200, ["u.safetensors"])
    assert unknown[0] == 404
    assert unknown[1]["error"]["type"] == "not_found"


def test_embeddings_are_words(serving, tmp_path):
    put(tmp_path / "models/embeddings/styles/ink.v2.safetensors")
    assert asked(serving, "/embeddings") == [(200, ["styles/ink.v2"])]


def test_models_have_places_sizes_and_times(serving, tmp_path):
    put(tmp_path / "models/loras/deep/a.safetensors", b"12345")
    places, files, shipped = asked(
        serving, "/experiment/models", "/experiment/models/loras", "/experiment/models/checkpoints"
    )
    found = {place["name"]: place["folders"] for place in places[1]}
    assert "configs" not in found
    (file,) = files[1]
    assert (file["name"], file["size"]) == ("deep/a.safetensors", 5)
    assert found["loras"][file["pathIndex"]] == str(tmp_path / "models" / "loras")
    assert file["modified"] > 0
    assert file["created"] > 0
    assert shipped == (200, [])  # what comes along lies in no folder of the user's


def test_a_models_picture_is_shown_as_webp(serving, tmp_path):
    put(tmp_path / "models/loras/deep/a.safetensors")
    Image.new("RGB", (4, 3), "red").save(tmp_path / "models/loras/deep/a.preview.png")

    async def check():
        async with serving() as client:
            shown = await client.get("/experiment/models/preview/loras/0/deep/a.safetensors")
            assert (shown.status, shown.content_type) == (200, "image/webp")
            assert Image.open(io.BytesIO(await shown.read())).size == (4, 3)
            for path in ("loras/0/b.safetensors", "loras/9/deep/a.safetensors", "loras/x/a", "none/0/a"):
                assert (await client.get(f"/experiment/models/preview/{path}")).status == 404
            for name in ("..%2f..%2fsecret.png", "%2fetc%2fpasswd", "a%00b"):
                status = (await client.get(f"/experiment/models/preview/loras/0/{name}")).status
                assert status in (400, 404)

    asyncio.run(check())
