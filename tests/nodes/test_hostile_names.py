"""A shared workflow is safe to run: no text in any built-in node reaches a file that it should not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hostile_paths import HARMLESS, HOSTILE
from limner.core import pictures
from limner.core.event import Failed, Finished
from limner.core.graph import Instance, Link
from limner.core.host import Host, Settings
from limner.core.schema import REQUIRED, Choice, InputFile, ModelFile, Range
from limner.nodes import ALL

NODE = "it"
TEXTS = [(node.id, spec.name) for node in ALL.values() for spec in node.inputs if spec.type is str]
FILES = [place for place in TEXTS if isinstance(ALL[place[0]].input(place[1]).hint, ModelFile | InputFile)]
FREE = [place for place in TEXTS if place not in FILES and not isinstance(ALL[place[0]].input(place[1]).hint, Choice)]
NO_TEXT = ("seeds",)  # numbers, written as a text
SOURCES = {
    "load": Instance("limner.LoadCheckpoint", {"name": "tiny"}),
    "words": Instance("limner.EncodeText", {"clip": Link("load", 1), "text": "a frog"}),
    "image": Instance("EmptyImage", {"width": 16, "height": 16, "batch_size": 1, "color": 7}),
    "latent": Instance("limner.EmptyLatent", {"model": Link("load", 0), "width": 32, "height": 32}),
}
PLUGS = {
    "MODEL": Link("load", 0),
    "CLIP": Link("load", 1),
    "VAE": Link("load", 2),
    "CONDITIONING": Link("words", 0),
    "IMAGE": Link("image", 0),
    "LATENT": Link("latent", 0),
}


@pytest.fixture
def host(base):
    """A host with pictures in its folders, and around them files that are none of a node's business."""
    for folder in ("", "input", "output", "temp", "models", "output-evil", "models/checkpoints"):
        (base / folder).mkdir(exist_ok=True)
        for name in ("secret.png", "a.png", "b"):
            pictures.write(base / folder / name, torch.zeros(4, 4, 3))
            pictures.write(base.parent / name, torch.zeros(4, 4, 3))
    return Host(ALL, Settings(base=base, device="cpu", disk_cache=False))


def files(base):
    """All files from the folder above the base directory on."""
    found = {p.relative_to(base.parent).as_posix(): p for p in base.parent.rglob("*") if p.is_file()}
    kept = {name: p for name, p in found.items() if "/cache/" not in name}
    return {name: path.read_bytes() for name, path in kept.items()}


def graph(host, kind, name, text):
    """The node, with `text` as one of its inputs, and all that it needs beside."""
    inputs: dict[str, Any] = {}
    for spec in ALL[kind].inputs:
        if spec.name == name:
            inputs[name] = text
        elif spec.default is REQUIRED:
            inputs[spec.name] = PLUGS.get(spec.wire) or plain(host, spec)
    return {**SOURCES, NODE: Instance(kind, inputs)}


def plain(host, spec):
    match spec.hint:
        case Choice() as options:
            return options[0]
        case ModelFile() | InputFile() as hint:
            return host.folders.choices(hint)[0]
        case Range(low):
            return low
    return {str: "a", int: 1, float: 1.0, bool: True}[spec.type]


def outcomes(host, kind, name, texts):
    """What came of each text: refused, failed or finished.  All run side by side."""
    found = dict.fromkeys(texts, "refused")
    nodes = {text: graph(host, kind, name, text) for text in texts}
    good = [text for text in texts if not host.problems(nodes[text], [NODE])]
    runs = [host.run(nodes[text], only=[NODE]) for text in good]
    for k, event in host.drive(runs):
        if isinstance(event, Failed):
            found[good[k]] = "failed"
        elif isinstance(event, Finished) and event.node == NODE:
            found[good[k]] = "finished"
    return found


def test_every_text_is_looked_at():
    assert len(FREE) + len(FILES) > 25
    assert {("LoadImage", "image"), ("limner.LoadCheckpoint", "name")} <= set(FILES)
    assert {("SaveImage", "filename_prefix"), ("limner.SaveImage", "prefix")} <= set(FREE)


@pytest.mark.parametrize(("kind", "name"), FILES, ids=lambda part: part)
def test_no_name_of_a_file_leads_out(host, base, kind, name):
    before = files(base)
    hostile = [*HOSTILE, *(f"{text} [output]" for text in HOSTILE), *(f"{text} [temp]" for text in HOSTILE)]
    hostile += [
        "../secret.png",
        "../secret.png [input]",
        "../input/a.png",
        "x/../../secret.png [temp]",
        "secret.png [models]",
    ]
    assert set(outcomes(host, kind, name, hostile).values()) <= {"refused", "failed"}
    assert files(base) == before


@pytest.mark.parametrize(("kind", "name"), FREE, ids=lambda part: part)
def test_no_text_writes_or_changes_a_file_outside_the_folders_for_pictures(host, base, kind, name):
    before = files(base)
    texts = [*HOSTILE, *HARMLESS, "../secret", "/tmp/limner-was-here", "%date%/../../x", "x/../.."]
    found = outcomes(host, kind, name, texts)
    assert "finished" in found.values() or name in NO_TEXT
    after = files(base)
    assert {place: content for place, content in after.items() if place in before} == before
    new = [place for place in after if place not in before]
    assert [place for place in new if not place.startswith((f"{base.name}/output/", f"{base.name}/temp/"))] == []
    assert all("/../" not in place and "\\" not in place for place in new)


@pytest.mark.parametrize("kind", ["limner.SaveImage", "SaveImage"])
def test_a_prefix_that_leads_out_fails_and_one_that_does_not_is_used(host, base, kind):
    name = next(spec.name for spec in ALL[kind].inputs if spec.type is str)
    refused = ["../x", "/tmp/x", "a/../../x", "..\\x", "C:\\x", "a\x00b", "\\\\host\\x", "a:b"]
    found = outcomes(host, kind, name, [*refused, "fine", "in/a/folder", "-rf", "苹果"])
    assert {text: what for text, what in found.items() if text in refused} == dict.fromkeys(refused, "failed")
    assert [found[text] for text in ("fine", "in/a/folder", "-rf", "苹果")] == ["finished"] * 4
    assert (base / "output" / "in" / "a").is_dir()
