"""What only a GPU can show: the same pictures in its dtype, no waiting inside sampling steps, and memory given back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from limner.core import workflow
from limner.core.event import Failed, Finished
from limner.core.host import Host, Settings
from limner.nodes import NODES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
WORKFLOW = Path(__file__).parents[1] / "workflows" / "text-to-image.json"


def result(host, node):
    nodes = dict(host.lowered(workflow.read(WORKFLOW)))
    found = None
    for _, event in host.drive([host.run(nodes, only=[node])]):
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Finished) and event.node == node:
            (found,) = event.outputs
    return found


def psnr(a, b):
    return -10 * (a.cpu().float() - b.cpu().float()).square().mean().log10().item()


@pytest.fixture
def on(tmp_path):
    def make(device, dtype="auto", budget=None):
        return Host(
            NODES, Settings(base=tmp_path / f"{device}-{dtype}", device=device, dtype=dtype, vram_budget=budget)
        )

    return make


@pytest.mark.parametrize(("dtype", "least"), [("float32", 50), ("float16", 30), ("bfloat16", 22)])
def test_a_picture_is_the_one_that_the_cpu_draws(on, dtype, least):
    assert psnr(result(on("cuda", dtype), "decode").pixels, result(on("cpu"), "decode").pixels) > least


def test_sampling_steps_never_wait_for_the_device(on):
    host = on("cuda")
    result(host, "guide")
    result(host, "decode")  # networks are loaded and warm
    nodes = dict(host.lowered(workflow.read(WORKFLOW)))
    work = host.drive([host.run(nodes, only=["sample"], forced=frozenset({"sample"}))])
    steps = 0
    for _, event in work:
        steps += type(event).__name__ == "Moved"
        torch.cuda.set_sync_debug_mode("error" if 1 <= steps < 19 else "default")
    assert steps == 20


def test_what_is_cached_takes_no_room_on_the_device(on):
    host = on("cuda")
    result(host, "decode")
    host.networks.clear()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() < 32 << 20  # the libraries' own workspaces


def test_networks_that_do_not_fit_together_take_turns(on):
    host = on("cuda", budget=48 << 20)
    result(host, "decode")
    assert sum(row.bytes for row in host.networks.holdings()) <= 48 << 20
