"""What the server tells of itself and of the machine."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from limner.core.server import machine
from limner.core.server.keys import OFFICE
from limner.core.server.models import CALLED


def test_the_machine_is_described_as_comfyui_does_it(serving):
    async def check():
        async with serving() as client:
            found = await (await client.get("/system_stats")).json()
            assert set(found) == {"system", "devices"}
            assert set(found["system"]) - {"limner_version"} == {
                *("os", "ram_total", "ram_free", "comfyui_version", "required_frontend_version"),
                *("installed_templates_version", "required_templates_version", "python_version"),
                *("pytorch_version", "embedded_python", "argv"),
            }
            assert found["system"]["ram_total"] > found["system"]["ram_free"] > 0
            (device,) = found["devices"]
            assert set(device) == {
                *("name", "type", "index", "vram_total", "vram_free", "torch_vram_total", "torch_vram_free")
            }
            assert device["vram_total"] > 0

    asyncio.run(check())


def test_a_cuda_device_has_its_number_and_its_own_memory():
    from limner.core.jobs.backend import Worker

    room = {"vram_total": 10, "vram_free": 9, "torch_vram_total": 3, "torch_vram_free": 1}
    assert machine._device(Worker("w", "cuda:1", alive=True, memory=room), 100, 50) == {
        "name": "cuda:1",
        "type": "cuda",
        "index": 1,
        **room,
    }


def test_describing_the_machine_loads_no_torch():
    code = """
import asyncio, sys, tempfile
from pathlib import Path
sys.path.insert(0, "tests/tools")
from serving import serving

async def check():
    with tempfile.TemporaryDirectory() as base:
        async with serving(Path(base)) as client:
            for path in ("/system_stats", "/object_info", "/features", "/models", "/queue", "/history"):
                assert (await client.get(path)).status == 200, path

asyncio.run(check())
loaded = {"torch", "transformers"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_command_line_is_shown_without_its_secrets():
    words = ["limner", "serve", "--token", "secret", "--port", "1", "--token=secret"]
    assert machine.shown(words) == ["limner", "serve", "--token", "...", "--port", "1", "--token=..."]


def test_features_are_told_with_the_size_that_may_be_sent(serving):
    async def check():
        async with serving(max_upload_size=5 << 20) as client:
            for path in ("/features", "/api/features"):
                told = await (await client.get(path)).json()
                assert told == {"supports_preview_metadata": True, "max_upload_size": 5 << 20}

    asyncio.run(check())


@pytest.mark.parametrize("path", ["/internal/logs", "/internal/logs/raw", "/internal/folder_paths"])
def test_what_is_internal_has_no_second_address(serving, path):
    async def check():
        async with serving() as client:
            assert (await client.get(path)).status == 200
            assert (await client.get(f"/api{path}")).status == 404

    asyncio.run(check())


def test_the_folders_of_models_are_told_by_comfyuis_names(serving):
    async def check():
        async with serving() as client:
            found = await (await client.get("/internal/folder_paths")).json()
            folders = client.app[OFFICE].host.folders
            assert found["checkpoints"] == [str(root) for root in folders.roots("checkpoints")]
            assert set(CALLED.values()) <= set(found)
            assert not set(CALLED) & set(found)

    asyncio.run(check())
