"""A workflow in ComfyUI's API format, from its nodes to a picture."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from limner.core import pictures, workflow
from limner.core.event import Failed, Finished
from limner.core.host import Host, Settings
from limner.nodes import ALL


def text_to_image(**changes: Any) -> dict[str, Any]:
    """The workflow that everybody knows; `3__seed` changes an input."""
    nodes: dict[str, Any] = {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 32, "height": 24, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red apple", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 2**64 - 1,
                "steps": 2,
                "cfg": 3.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
                "model": ["4", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
            },
        },
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
    }
    for place, value in changes.items():
        node_id, name = place.split("__")
        nodes[node_id]["inputs"][name] = value
    return nodes


@pytest.fixture
def ran(base):
    """What became of the nodes of a workflow, by their ids."""
    host = Host(ALL, Settings(base=base, device="cpu"))

    def run(nodes):
        graph = host.lowered(workflow.parse(json.dumps(nodes), "posted"))
        events = [event for _, event in host.drive([host.run(graph)])]
        assert [event for event in events if isinstance(event, Failed)] == []
        return {event.node: event for event in events if isinstance(event, Finished)}

    return run


def test_a_workflow_of_comfyuis_draws_a_picture_that_holds_it(ran, base):
    (path,) = ran(text_to_image())["9"].files
    assert path == str(base / "output" / "ComfyUI_00001_.png")
    pixels, _ = pictures.load(base / "output" / "ComfyUI_00001_.png")
    assert pixels.shape == (1, 24, 32, 3)
    embedded = json.loads(pictures.texts(base / "output" / "ComfyUI_00001_.png")["prompt"])
    assert embedded["3"]["inputs"]["seed"] == 2**64 - 1
    assert embedded["9"]["class_type"] == "SaveImage"


def test_another_seed_only_samples_anew(ran):
    ran(text_to_image())
    again = ran(text_to_image(**{"3__seed": 2**64 - 2}))
    assert sorted(node for node, event in again.items() if not event.cached) == ["3", "8", "9"]


def test_a_picture_that_was_drawn_is_where_the_next_one_starts(ran, base):
    ran(text_to_image())
    nodes = text_to_image(**{"3__latent_image": ["11", 0], "3__denoise": 0.5})
    nodes["10"] = {"class_type": "LoadImage", "inputs": {"image": "ComfyUI_00001_.png [output]"}}
    nodes["11"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    found = ran(nodes)
    (image, mask) = found["10"].outputs
    assert torch.equal(image.pixels, pictures.load(base / "output" / "ComfyUI_00001_.png")[0])
    assert not mask.values.any()
    assert found["9"].files == (str(base / "output" / "ComfyUI_00002_.png"),)


def test_what_is_counted_out_goes_on_batch_by_batch(ran, base):
    nodes = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 3, "color": 255}},
        "2": {"class_type": "RebatchImages", "inputs": {"images": ["1", 0], "batch_size": 2}},
        "3": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }
    found = ran(nodes)
    assert [len(item.pixels) for item in found["3"].outputs[0].values] == [2, 1]
    assert len(found["4"].files) == 3
    assert all(path.startswith(str(base / "temp" / "ComfyUI_temp_")) for path in found["4"].files)


def test_a_text_is_shown_where_it_is_asked_for(ran):
    nodes = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "a"}},
        "2": {"class_type": "StringConcatenate", "inputs": {"string_a": ["1", 0], "string_b": "b", "delimiter": " "}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }
    assert ran(nodes)["3"].ui == {"text": ["a b"]}
