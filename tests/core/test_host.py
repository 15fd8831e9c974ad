"""From a document to pictures, twice: what a second run, a second process and another machine find."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from limner.core import environment, folders, pictures, workflow
from limner.core.errors import InvalidGraph, UsageError, WorkflowError
from limner.core.event import Failed, Finished
from limner.core.graph import Instance, Link
from limner.core.host import ALL, WORKFLOWS, Host, Settings, workflow_file
from limner.core.schema import node
from limner.core.workflow import Document
from limner.nodes import NODES


def at(kind, **inputs):
    return Instance(f"limner.{kind}", inputs)


GRAPH = {
    "load": at("LoadImage", name="a.png"),
    "small": at("ResizeImage", image=Link("load", 0), width=3, height=2),
    "save": at("SaveImage", image=Link("small", 0), prefix="out/x"),
}


@pytest.fixture
def base(tmp_path):
    (tmp_path / "input").mkdir()
    pictures.write(tmp_path / "input" / "a.png", torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(0)))
    return tmp_path


def host(base, registry=NODES, **settings):
    return Host(registry, Settings(base=base, device="cpu", **settings))


def ran(host, graph=GRAPH, scope="", **options):
    """The nodes that a run executed."""
    events = [e for _, e in host.drive([host.run(graph, scope, **options)])]
    for event in events:
        if isinstance(event, Failed):
            raise event.error
    return [e.node for e in events if isinstance(e, Finished) and not e.cached]


def saved(base):
    return sorted(p.name for p in (base / "output" / "out").glob("*.png"))


SECOND = """
import json, sys
from pathlib import Path
from limner.core import workflow
from limner.core.host import Host, Settings
from limner.core.event import Finished
from limner.nodes import NODES
host = Host(NODES, Settings(base=Path(sys.argv[1]), device="cpu"))
graph = workflow.graph(json.loads(sys.argv[2]))
explained = {e.node: e.verdict for e in host.explained(graph, "")}
assert "torch" not in sys.modules
ran = [e.node for _, e in host.drive([host.run(graph)]) if isinstance(e, Finished) and not e.cached]
print(json.dumps([explained, ran]))
"""


def in_another_process(base):
    """What another process would run, and what it then runs."""
    arguments = [sys.executable, "-c", SECOND, str(base), json.dumps(workflow.api(GRAPH))]
    return json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)


# ----------------------------------------------------------------------------------------------- twice


def test_a_second_run_saves_again_and_executes_nothing_else(base):
    here = host(base)
    assert ran(here) == ["load", "small", "save"]
    assert ran(here) == ["save"]
    assert saved(base) == ["x_00001.png", "x_00002.png"]
    first, second = (pictures.load(base / "output" / "out" / name)[0] for name in saved(base))
    assert torch.equal(first, second)


def test_a_second_process_finds_what_the_first_one_showed(base):
    ran(host(base))
    explained, executed = in_another_process(base)
    assert explained == {"load": "SKIP", "small": "HIT", "save": "RUN"}
    assert executed == ["save"]


def test_another_dtype_finds_nothing_of_it(base):
    ran(host(base))
    assert ran(host(base, dtype="bfloat16")) == ["load", "small", "save"]
    assert ran(host(base)) == ran(host(base, dtype="bfloat16")) == ["save"]


@pytest.mark.parametrize(
    "change", [{"device": "NVIDIA H200"}, {"attention": "flash"}, {"torch": "1.0"}, {"transformers": "1.0"}]
)
def test_nor_does_another_device_or_library(base, monkeypatch, change):
    ran(host(base))
    described = environment.described
    monkeypatch.setattr(environment, "described", lambda *a: replace(described(*a), **change))
    assert ran(host(base)) == ["load", "small", "save"]


def test_nor_does_changed_code(base, monkeypatch):
    ran(host(base))
    code = environment.code
    monkeypatch.setattr(
        environment, "code", lambda module: code(module) + ("changed" if module == "nodes.image" else "")
    )
    assert ran(host(base)) == ["load", "small", "save"]


def test_a_picture_that_changed_under_its_name_is_seen(base):
    here = host(base)
    ran(here)
    pictures.write(base / "input" / "a.png", torch.zeros(8, 9, 3))
    assert ran(here) == ["load", "small", "save"]
    assert ran(host(base)) == ["save"]


def test_the_same_picture_under_another_name_is_known(base):
    ran(host(base))
    (base / "input" / "b.png").write_bytes((base / "input" / "a.png").read_bytes())
    assert ran(host(base), GRAPH | {"load": at("LoadImage", name="b.png")}) == ["save"]


def test_without_a_disk_nothing_is_found_and_nothing_is_written(base):
    assert ran(host(base, disk_cache=False)) == ["load", "small", "save"]
    assert ran(host(base, disk_cache=False)) == ["load", "small", "save"]
    assert not (base / "cache" / "results").exists()


def test_a_folder_that_takes_no_cache_is_no_error(base):
    (base / "cache").write_text("in the way")
    assert ran(host(base)) == ["load", "small", "save"]
    assert ran(host(base)) == ["load", "small", "save"]
    assert saved(base) == ["x_00001.png", "x_00002.png"]


def test_pictures_go_where_they_are_asked_for(base, tmp_path):
    ran(host(base))
    assert ran(host(base, output=tmp_path / "elsewhere")) == ["save"]
    assert (tmp_path / "elsewhere" / "out" / "x_00001.png").exists()


# ---------------------------------------------------------------------------------- files whose hash comes later


def test_a_large_file_is_named_by_a_stand_in_during_the_run_and_by_its_content_after_it(base, monkeypatch):
    monkeypatch.setattr(folders, "BACKGROUND", 10)
    here = host(base)
    run = here.run(GRAPH)
    assert not run.plan.steps["small"].settled
    assert [e.node for _, e in here.drive([run]) if isinstance(e, Finished)] == ["load", "small", "save"]
    assert here.cache.where(run.plan.steps["small"]) is None
    assert ran(here) == ["save"]
    assert ran(host(base)) == ["save"]
    assert here.explained(GRAPH, "")[0].reason == "not needed: what it is for is cached"


def test_a_large_file_that_changes_during_the_run_leaves_nothing_under_its_new_name(base, monkeypatch):
    monkeypatch.setattr(folders, "BACKGROUND", 10)
    here = host(base)
    for _, event in here.drive([here.run(GRAPH)]):
        if isinstance(event, Finished) and event.node == "load":
            pictures.write(base / "input" / "a.png", torch.zeros(8, 8, 3))
    assert ran(host(base)) == ["load", "small", "save"]
    assert (pictures.load(base / "output" / "out" / saved(base)[-1])[0] == 0).all()


def test_the_files_of_a_plan_are_told_by_their_hashes(base):
    here = host(base)
    assert here.files(here.planned(GRAPH)) == {"input/a.png": here.folders.digest(base / "input" / "a.png")}


# --------------------------------------------------------------------------------------------- what is refused


def test_all_that_is_wrong_with_what_is_to_run_is_told_at_once(base):
    faulty = GRAPH | {
        "load": at("LoadImage", name="gone.png"),
        "small": at("ResizeImage", image=Link("load", 0), width=0),
    }
    with pytest.raises(InvalidGraph) as caught:
        host(base).run(faulty)
    assert [(p.node, p.input, p.code) for p in caught.value.problems] == [
        ("load", "name", "no_such_file"), ("small", "width", "out_of_range"),
    ]  # fmt: skip
    assert "load.name: there is no 'gone.png' in input, which has: a.png" in str(caught.value)


def test_what_is_wrong_elsewhere_does_not_matter(base):
    faulty = GRAPH | {"odd": at("Nope"), "unfinished": at("DecodeNothing", image=Link("small", 0))}
    assert ran(host(base), faulty) == ["load", "small", "save"]
    assert len(host(base).problems(faulty)) == 2


def test_a_graph_that_delivers_nothing_says_so_and_a_node_of_it_can_be_asked_for(base):
    graph = {"load": GRAPH["load"], "small": GRAPH["small"]}
    with pytest.raises(WorkflowError, match="no node that saves or shows anything"):
        host(base).run(graph)
    assert ran(host(base), graph, only=["small"]) == ["load", "small"]


def test_a_faulty_graph_that_delivers_nothing_says_what_is_wrong_first(base):
    with pytest.raises(InvalidGraph):
        host(base).run({"odd": at("Nope")})


@pytest.mark.parametrize("options", [{"only": ["smal"]}, {"forced": frozenset({"smal"})}])
def test_a_node_that_is_not_there_cannot_be_asked_for(base, options):
    with pytest.raises(UsageError, match="there is no node 'smal'; there are: load, small, save; did you mean 'small'"):
        host(base).run(GRAPH, **options)


def test_forcing_everything_runs_everything(base):
    here = host(base)
    ran(here)
    assert ran(here, forced=ALL) == ["load", "small", "save"]


# --------------------------------------------------------------------------------------------- what is written down


def test_a_picture_carries_the_workflow_that_made_it(base):
    here = host(base)
    document = Document(workflow.api(GRAPH), canvas={"notes": []}, rest={"later": 1})
    ran(here, document=document)
    path = base / "output" / "out" / "x_00001.png"
    assert workflow.read(path) == document
    assert json.loads(pictures.texts(path)["prompt"]) == workflow.api(GRAPH)
    assert ran(here, here.lowered(workflow.read(path))) == ["save"]


def test_it_can_be_left_out(base):
    ran(host(base, metadata=False))
    assert pictures.texts(base / "output" / "out" / "x_00001.png") == {}


def test_a_workflow_that_failed_is_remembered_as_far_as_it_went(base):
    @node("test")
    def odd(value: str = "") -> str:
        if value == "odd":
            raise ValueError
        return value

    graph = {
        "a": at("Text", value="x"),
        "odd": at("Odd", value="odd"),
        "b": at("JoinText", first=Link("a", 0), second=Link("odd", 0)),
    }
    registry = {**NODES, odd.id: odd}
    with pytest.raises(ValueError):  # noqa: PT011 - the node's own
        ran(host(base, registry), graph, "scope", only=["b"])
    reasons = {e.node: e.reason for e in host(base, registry).explained(graph, "scope", ["b"])}
    assert reasons["odd"] == reasons["b"] == "first run"
    assert reasons["a"] != "first run"
    assert {e.reason for e in host(base, registry).explained(graph, "another", ["b"])} == {"first run"}


def test_the_workflows_that_come_along_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [p.stem for p in WORKFLOWS.glob("*.json")]
    for name in names:
        assert workflow_file(Path(name)) == WORKFLOWS / f"{name}.json"
    Path(names[0]).write_text("mine")
    assert workflow_file(Path(names[0])) == Path(names[0])
    with pytest.raises(WorkflowError, match="there is no workflow 'nothing'"):
        workflow_file(Path("nothing"))
