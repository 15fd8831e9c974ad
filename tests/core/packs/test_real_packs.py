"""Packs that people have published, as they are: fetched from the registry of Python packages, loaded and run."""

import subprocess
import sys
import zipfile

import pytest
import torch
from limner.core import pictures
from limner.core.event import Failed, Finished
from limner.core.graph import Instance, Link

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]  # how they read files is their own affair

AS_X = """
from yors_comfyui_node_setup import entry

__all__, NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS, NODE_MENU_NAMES = entry(__name__, __file__)
"""


@pytest.fixture
def fetched(tmp_path):
    """Take a package apart into a folder, and install nothing."""

    def begin(requirement, folder):
        call = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "-d", str(tmp_path)]
        said = subprocess.run([*call, requirement], capture_output=True, text=True, check=False, timeout=120)
        if said.returncode:
            pytest.skip(f"the registry does not give {requirement}: {said.stderr.strip().splitlines()[-1]}")
        wheel = next(tmp_path.glob(f"{requirement.partition('==')[0].replace('-', '_')}-*.whl"))
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(tmp_path / folder)
        return tmp_path / folder

    return begin


def ran(host, nodes, target):
    events = [event for _, event in host.drive([host.run(nodes, only=[target])])]
    assert not [event.error for event in events if isinstance(event, Failed)]
    (outputs,) = (event.outputs for event in events if isinstance(event, Finished) and event.node == target)
    return outputs


def test_eleven_nodes_that_give_a_value_another_type(fetched, loaded, host, monkeypatch):
    monkeypatch.syspath_prepend(fetched("yors-comfyui-node-setup==0.11.0", "libraries"))
    fetched("yors-comfyui-node-as-x-type==0.2.1", "libraries")
    pack = host.folders.base / "packs" / "as x"
    pack.mkdir(parents=True)
    (pack / "__init__.py").write_text(AS_X)
    (pack / "nodes.py").write_text("from yors_comfyui_node_as_x_type import *\n")
    packs = loaded(pack)
    (report,) = packs.reports
    assert report.error == ""
    assert len(report.nodes) == 11
    graph = {"0": Instance("limner.WholeNumber", {"value": 7})}
    for k, node_id in enumerate(report.nodes, 1):  # one after the other
        graph[str(k)] = Instance(node_id, {"a": Link(str(k - 1), 0)})
    assert host.problems(graph) == []
    assert ran(host, graph, "11") == (7,)


def test_pictures_go_through_another_librarys_and_back(fetched, loaded, host):
    packs = loaded(fetched("comfyui-ib-customnodes==0.2.3", "packs"))
    assert packs.reports[0].nodes == ("LoadImageFromPath", "PILToImage", "PILToMask", "ImageToPIL")
    host.folders.inputs.mkdir(parents=True, exist_ok=True)
    pictures.write(host.folders.inputs / "a.png", torch.rand(8, 6, 3))
    graph = {
        "load": Instance("LoadImageFromPath", {"image": "a.png"}),
        "there": Instance("ImageToPIL", {"images": Link("load", 0)}),
        "back": Instance("PILToImage", {"images": Link("there", 0)}),
        "mask": Instance("PILToMask", {"images": Link("there", 0)}),
    }
    expected, _ = pictures.load(host.folders.inputs / "a.png")
    assert ran(host, graph, "back")[0].pixels.equal(expected)
    assert ran(host, graph, "mask")[0].shape == (64, 64)
    missing = graph | {"load": Instance("LoadImageFromPath", {"image": "b.png"})}
    assert ["Invalid image path" in p.message for p in host.problems(missing)] == [True]
