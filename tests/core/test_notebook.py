"""Graphs in Python: built by calling nodes, run once, looked at, saved; and the examples of the documentation."""

from __future__ import annotations

import copy
import inspect
import io
import json
import re
import signal
from pathlib import Path

import pytest
import torch
from limner import Graph
from limner.core.errors import InvalidGraph, StorageError, UsageError, WorkflowError
from limner.core.host import Host, Settings
from limner.core.models.residency import Loaded
from limner.core.notebook import Pictures, Socket
from limner.core.schema import node
from limner.core.values import Latent, Model, Sigmas
from limner.nodes import NODES
from PIL import Image

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def graph(base) -> Graph:
    return Graph(base)


def built(graph: Graph, prompt: str = "a red apple", **settings) -> Socket:
    """Text-to-image, up to the picture."""
    model, clip, vae = graph.LoadCheckpoint("tiny")
    guider = graph.Guide(model, graph.EncodeText(clip, prompt), graph.EncodeText(clip), scale=2.0)
    sigmas = graph.Schedule(model, "karras", steps=2)
    latent = graph.EmptyLatent(model, 32, 32, **settings)
    return graph.Decode(vae, graph.Sample(guider, sigmas, latent, seed=3))


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


# ------------------------------------------------------------------------------------------------------ what is written


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder to work in, and a base directory that nobody has used."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_of_the_documentation_run_one_after_the_other(elsewhere, capsys):
    names: dict = {"__name__": "examples"}
    for example in BLOCK.findall((ROOT / "docs" / "python.md").read_text("utf-8")):
        exec(compile(example, "docs/python.md", "exec"), names)  # what a reader types
    assert size(elsewhere / "apple.png") == (64, 64)
    assert json.loads((elsewhere / "apple.json").read_text("utf-8"))["graph"].keys() >= {"sample", "decode"}
    assert size(elsewhere / "twelve.png") == (64, 64)
    assert (elsewhere / "frog.png").read_bytes() != (elsewhere / "apple.png").read_bytes()
    assert "decode HIT in memory" in capsys.readouterr().out


def test_the_readme_shows_the_first_of_these_examples():
    first = BLOCK.findall((ROOT / "docs" / "python.md").read_text("utf-8"))[0]
    assert f"```python\n{first}```" in (ROOT / "README.md").read_text("utf-8")
    assert len([line for line in first.splitlines() if line]) <= 10


# ------------------------------------------------------------------------------------------------------------- building


def test_a_node_of_one_output_is_a_socket_and_one_of_several_a_tuple(graph):
    model, clip, vae = graph.LoadCheckpoint("tiny")
    assert [socket.wire for socket in (model, clip, vae)] == ["MODEL", "CLIP", "VAE"]
    assert repr(graph.EmptyLatent(model)) == "LATENT of emptyLatent"
    assert graph.SaveImage(graph.Decode(vae, graph.EmptyLatent(model))) == ()


def test_inputs_are_given_in_order_or_by_name(graph):
    first = graph.JoinText("a", "b", between="-").run()
    assert first == graph.JoinText(between="-", second="b", first="a").run() == "a-b"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda g: g.Text("a", "b"), "Text takes value, each once"),
        (lambda g: g.JoinText("a", first="b"), "JoinText takes first, second, third, between, each once"),
        (lambda g: g.JoinText(frist="b"), r"JoinText has no input 'frist'; .*; did you mean 'first'"),
        (lambda g: g.EmptyLatent(g.LoadCheckpoint("tiny")), "the node plugged in has several outputs; name one"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_at_once(call, said, graph):
    with pytest.raises(TypeError, match=said):
        call(graph)


def test_a_node_type_that_is_not_there_is_answered_with_the_nearest(graph):
    with pytest.raises(AttributeError, match="there is no node type 'Smaple'; did you mean 'Sample'"):
        graph.Smaple  # noqa: B018


def test_nodes_show_their_help_and_their_names_are_completed(graph):
    assert graph.Sample.__doc__ == "Turn noise into a latent image."
    assert list(inspect.signature(graph.Sample).parameters)[:4] == ["guider", "sigmas", "latent", "seed"]
    assert {node.name for node in NODES.values()} | {"run", "save", "open"} <= set(dir(graph))


def test_nodes_of_one_type_are_numbered_and_the_graph_shows_itself(graph):
    graph.Text("a")
    graph.JoinText(graph.Text("b"), "c")
    assert repr(graph) == (
        "Graph\n  text: limner.Text(value='a')\n  text2: limner.Text(value='b')\n"
        "  joinText: limner.JoinText(first=text2, second='c')"
    )


def test_a_copy_of_a_graph_shows_the_same_nodes(graph):
    graph.Text("a")
    assert repr(copy.copy(graph)) == repr(graph)


def test_what_is_set_can_be_set_again_and_what_is_plugged_in_replugged(graph):
    graph.Text("a")
    graph.Text("b")
    joined = graph.JoinText(graph["text"], "x")
    assert joined.run() == "a, x"
    graph.set("joinText", first=graph["text2"], second="y")
    assert joined.run() == "b, y"
    with pytest.raises(KeyError, match=r"there is no node 'txet'; there are: text, text2, joinText"):
        graph.set("txet", value="c")
    with pytest.raises(KeyError, match=r"there is no node 'txet'"):
        graph["txet"]


# -------------------------------------------------------------------------------------------------------------- running


def test_a_socket_gives_what_travels_along_its_wire(graph):
    picture = built(graph)
    assert isinstance(picture.run(), Pictures)
    assert isinstance(graph["sample"].run(), Latent)
    assert isinstance(graph["schedule"].run(), Sigmas)
    assert isinstance(graph["loadCheckpoint"][0].run(), Model)


def test_what_was_computed_is_not_computed_again_until_something_above_it_changes(graph):
    loaded = []
    picture = built(graph)
    graph._host.listen(lambda event: loaded.append(event.recipe.kind) if isinstance(event, Loaded) else None)
    first = picture.run()
    assert loaded == ["text_encoder", "unet", "patch_autoencoder"]
    assert picture.run().pixels.equal(first.pixels)
    rows = {row.node: (row.verdict, row.reason) for row in graph.explain()}
    assert rows["decode"] == ("HIT", "in memory")
    graph.set("sample", seed=4)
    rows = {row.node: (row.verdict, row.reason) for row in graph.explain()}
    assert rows["sample"] == ("MISS", "seed changed")
    assert rows["encodeText"] == ("HIT", "in memory")
    assert not picture.run().pixels.equal(first.pixels)
    assert len(loaded) == 3


def test_forced_means_all_of_it_again(graph):
    picture = built(graph)
    assert picture.run(forced=True).pixels.equal(picture.run(forced=True).pixels)


def test_run_gives_the_files_that_were_saved(graph, base):
    graph.SaveImage(built(graph, batch=2), "mine")
    paths = graph.run()
    assert paths == [base / "output" / f"mine_0000{k}.png" for k in (1, 2)]
    assert all(path.is_file() for path in paths)


def test_a_graph_without_anything_to_save_says_so(graph):
    graph.Text("a")
    with pytest.raises(WorkflowError, match="has no node that saves or shows anything"):
        graph.run()
    assert graph.run("text") == []
    with pytest.raises(UsageError, match="there is no node 'txet'"):
        graph.run("txet")


def test_graphs_made_one_after_the_other_share_what_they_have_loaded(base, tmp_path):
    assert Graph(base)._host is Graph(base)._host
    assert Graph(base)._host is not Graph(tmp_path)._host
    host = Host(NODES, Settings(base=base))
    assert Graph(host=host)._host is host


# --------------------------------------------------------------------------------------------------------------- saving


def test_a_graph_is_saved_as_a_workflow_and_opened_again(graph, base, tmp_path):
    first = built(graph).run()
    graph.save(tmp_path / "mine.json")
    again = Graph.open(tmp_path / "mine.json", base)
    assert again._nodes == graph._nodes
    assert again["decode"].run().pixels.equal(first.pixels)


def test_a_picture_that_was_saved_is_a_graph(graph, base):
    graph.SaveImage(built(graph))
    (path,) = graph.run()
    assert Graph.open(path, base)._nodes == graph._nodes


def test_a_workflow_that_comes_along_is_opened_by_its_name(base):
    graph = Graph.open("text-to-image", base)
    graph.set("load", name="tiny")
    graph.set("schedule", steps=1)
    assert [path.name for path in graph.run()] == ["limner_00001.png"]
    with pytest.raises(WorkflowError, match="did you mean 'text-to-image'"):
        Graph.open("text-to-imag")


# ------------------------------------------------------------------------------------------------------------- pictures


def test_pictures_show_themselves_in_a_notebook():
    pixels = torch.zeros(2, 4, 6, 3)
    pixels[1, :, :, 0] = 1
    shown = Image.open(io.BytesIO(Pictures(pixels)._repr_png_()))
    assert (shown.format, shown.size) == ("PNG", (12, 4))
    assert [shown.getpixel((x, 1)) for x in (2, 8)] == [(0, 0, 0), (255, 0, 0)]
    assert repr(Pictures(pixels)) == "2 pictures, 6 x 4"
    assert repr(Pictures(pixels)[0]) == "1 picture, 6 x 4"


def test_pictures_are_a_sequence():
    found = Pictures(torch.arange(3.0)[:, None, None, None].expand(3, 2, 2, 3) / 2)
    assert len(found) == 3
    assert [one.pixels.mean().item() for one in found] == [0, 0.5, 1]
    assert found[-1].pixels.shape == (1, 2, 2, 3)
    assert found[1:].pixels[:, 0, 0, 0].tolist() == [0.5, 1]
    with pytest.raises(IndexError):
        found[3]


def test_a_picture_is_saved_whole_or_not_at_all(tmp_path):
    picture = Pictures(torch.rand(1, 4, 4, 3))
    picture.save(tmp_path / "new" / "one.png")
    assert size(tmp_path / "new" / "one.png") == (4, 4)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        picture.save(tmp_path / "file" / "one.png")


# --------------------------------------------------------------------------------------------------------------- errors


def test_what_a_node_raises_comes_out_as_it_is_with_the_node_named(graph):
    model, *_ = graph.LoadCheckpoint("tiny")
    with pytest.raises(ValueError, match="multiples of 8 for this model, not 36 x 32") as caught:
        graph.EmptyLatent(model, 36, 32).run()
    assert caught.value.__notes__ == ["in the node 'emptyLatent' (limner.EmptyLatent)"]


def test_a_graph_that_cannot_run_raises_all_that_is_wrong_with_it(graph):
    model, *_ = graph.LoadCheckpoint("tinny")
    graph.Schedule(model, "karas", steps=0)
    assert [str(problem).split(":")[0] for problem in graph.problems()] == [
        "loadCheckpoint.name",
        "schedule.kind",
        "schedule.steps",
    ]
    with pytest.raises(InvalidGraph) as caught:
        graph["schedule"].run()
    assert caught.value.problems == tuple(graph.problems())


def test_ctrl_c_stops_a_run(base):
    @node("test")
    def interrupts() -> int:
        """Press Ctrl-C."""
        signal.raise_signal(signal.SIGINT)
        return 1

    graph = Graph(host=Host({**NODES, interrupts.id: interrupts}, Settings(base=base)))
    with pytest.raises(KeyboardInterrupt):
        graph.Interrupts().run()
    assert graph.Text("and then").run() == "and then"


def test_a_node_of_ones_own_is_called_as_often_as_it_must(base):
    calls = []

    @node("test")
    def double(value: int) -> int:
        """Twice as much."""
        calls.append(value)
        return 2 * value

    graph = Graph(host=Host({**NODES, double.id: double}, Settings(base=base)))
    number = graph.WholeNumber(4)
    assert graph.Double(number).run() == graph.Double(number).run() == 8
    assert calls == [4]
