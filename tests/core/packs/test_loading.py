"""Packs are found, loaded and reported: one that fails keeps nobody from starting, and nothing is ever installed."""

import logging
import os
import shutil
import socket
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from limner.core.event import Finished, Warned
from limner.core.graph import Instance
from limner.core.packs import found
from limner.core.packs.finder import SHIMS
from limner.core.schema import Context, node
from limner.nodes import NODES

PACKS = Path(__file__).parents[2] / "packs"


def report(packs, name):
    (one,) = (r for r in packs.reports if r.name == name)
    return one


def written(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(text)
    return folder


def test_a_pack_is_a_folder_or_a_file_and_hidden_and_disabled_ones_are_not():
    names = [path.name for path in found.packs([PACKS / "good"])]
    assert names == ["plain-nodes v1.2", "protocol.py", "single.py"]


def test_a_folder_that_is_a_pack_itself_is_loaded_as_one(loaded):
    assert [r.name for r in loaded(PACKS / "good" / "plain-nodes v1.2").reports] == ["plain-nodes v1.2"]


def test_a_pack_whose_folder_no_import_could_name_is_loaded_with_the_modules_beside_it(good):
    one = report(good, "plain-nodes v1.2")
    assert one.error == ""
    assert one.nodes == ("Toy Glue", "ToyShout")
    assert one.seconds > 0
    assert len(one.digest) == 64
    assert good.folders["plain-nodes v1.2"] == PACKS / "good" / "plain-nodes v1.2"


def test_names_of_nodes_and_scripts_for_browsers_are_taken_over(good):
    assert good.nodes["Toy Glue"].title == "Glue 🔗"
    assert good.nodes["ToyShout"].title == "ToyShout"
    assert good.scripts == {"plain-nodes v1.2": PACKS / "good" / "plain-nodes v1.2" / "web"}


def test_the_host_has_the_packs_nodes_beside_its_own(good, host):
    assert host.registry.keys() == {*NODES, *good.nodes}
    assert host.registry is good.registry


def test_a_pack_that_fails_is_reported_with_its_traceback_and_the_others_are_there(loaded, caplog):
    packs = loaded(PACKS / "bad", PACKS / "good")
    assert report(packs, "raises").error == "RuntimeError: out of luck"
    _, place, line, last = report(packs, "raises").traceback.splitlines()
    assert place.strip() == f'File "{PACKS / "bad" / "raises.py"}", line 3, in <module>'
    assert (line.strip(), last) == ('raise RuntimeError("out of luck")', "RuntimeError: out of luck")
    assert report(packs, "exits").error == "SystemExit: 3"
    assert report(packs, "empty").error == "defines no NODE_CLASS_MAPPINGS"
    assert report(packs, "empty").traceback == ""  # of our own lines, which help nobody
    assert "V3" in report(packs, "newer").error
    assert report(packs, "protocol").error == ""
    assert "out of luck" in caplog.text


def test_a_pack_says_what_it_needs_and_does_not_find(loaded):
    packs = loaded(PACKS / "bad")
    errors = {r.name: r.error for r in packs.reports}
    assert errors["missing_library"] == "needs the Python module 'a_library_that_nobody_has', which is not installed"
    assert errors["wants_more"] == "needs ComfyUI's comfy.sd, which Limner does not have"
    assert errors["wants_a_name"] == "needs ComfyUI's unheard_of from comfy.utils, which Limner does not have"


def test_a_pack_that_is_no_python_is_reported(loaded, tmp_path):
    packs = loaded(written(tmp_path / "packs", "syntax", "def broken(:\n"))
    assert packs.reports[0].error.startswith("SyntaxError: invalid syntax")


def test_a_class_that_keeps_to_no_protocol_is_left_out_alone(loaded):
    half = report(loaded(PACKS / "bad"), "half")
    assert half.error == ""
    assert half.nodes == ("BadGood", "ToyTwice")
    assert half.warnings == (
        "BadRaises is left out: KeyError: 'nothing there'",
        "BadNoFunction is left out: it names no method of its own as FUNCTION",
        "limner.SaveImage is left out: Limner has a node of this id",
    )


def test_a_pack_may_put_its_classes_into_the_hosts_table_by_its_own_hand(loaded, tmp_path):
    text = "import nodes\nfrom {} import Double\nnodes.NODE_CLASS_MAPPINGS['ByHand'] = Double\n"
    folder = written(tmp_path / "packs", "by_hand", text.format("a_module_with_a_class"))
    shutil.copy(PACKS / "good" / "single.py", tmp_path / "a_module_with_a_class.py")
    sys.path.insert(0, str(tmp_path))
    try:
        packs = loaded(folder)
    finally:
        sys.path.remove(str(tmp_path))
    assert report(packs, "by_hand").nodes == ("ByHand",)
    assert packs.nodes["ByHand"](number=2).outputs == (4,)


def test_of_two_nodes_of_one_id_the_first_stays(loaded):
    packs = loaded(PACKS / "good", PACKS / "bad")
    assert packs.nodes["ToyTwice"].pack == "protocol"
    assert "ToyTwice is left out: the pack protocol has a node of this id" in report(packs, "half").warnings


def test_a_folder_that_is_not_there_is_reported(loaded, tmp_path):
    (one,) = loaded(tmp_path / "nowhere").reports
    assert one.error == f"there is no folder {tmp_path / 'nowhere'}"


def test_packs_are_told_of_in_the_log_with_their_hashes(loaded, caplog):
    caplog.set_level(logging.INFO, "limner.packs")
    one = report(loaded(PACKS / "good"), "single")
    assert f"pack single ({one.digest[:12]}): 1 node in " in caplog.text


def test_two_packs_of_one_name_have_two(loaded, tmp_path):
    for place in ("a", "b"):
        shutil.copytree(PACKS / "good" / "plain-nodes v1.2", tmp_path / place / "toys")
    packs = loaded(tmp_path / "a", tmp_path / "b")
    assert [r.name for r in packs.reports] == ["toys", "toys-2"]
    assert packs.scripts.keys() == {"toys", "toys-2"}


def test_scripts_outside_of_the_pack_are_not_served(loaded, tmp_path):
    text = "WEB_DIRECTORY = '..'\nNODE_CLASS_MAPPINGS = {}\n"
    assert loaded(written(tmp_path / "packs", "outside", text)).scripts == {}


def test_a_change_to_any_file_of_a_pack_changes_its_nodes_version(loaded, tmp_path):
    folder = shutil.copytree(PACKS / "good" / "plain-nodes v1.2", tmp_path / "packs" / "toys")
    before = loaded(tmp_path / "packs").nodes["ToyShout"].version
    (folder / "__pycache__").mkdir(exist_ok=True)
    (folder / "__pycache__" / "x.pyc").write_bytes(b"0")
    assert found.digest(folder) == before
    (folder / "marks.py").write_text('MARK = "???"')
    again = loaded(tmp_path / "packs")
    assert again.nodes["ToyShout"].version != before
    assert again.nodes["ToyShout"](text="a").outputs == ("A???",)


def test_nothing_is_installed_fetched_or_run(loaded, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("packs are only imported")

    monkeypatch.setattr(subprocess.Popen, "__init__", forbidden)
    monkeypatch.setattr(os, "system", forbidden)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    packs = loaded(PACKS / "good", PACKS / "bad")
    assert report(packs, "plain-nodes v1.2").error == ""  # it has a requirements.txt and an install.py


# ------------------------------------------------------------------------------------------------- installed packages


@node("numbers", namespace="elsewhere")
def half(number: float, *, context: Context) -> float:
    """Half of it."""
    context.warn("something is lost")
    return number / 2


TABLE = {half.id: half}


def test_installed_packages_bring_nodes_of_our_own_kind_along(loaded, host, monkeypatch):
    point = EntryPoint("halves", f"{__name__}:TABLE", found.GROUP)
    monkeypatch.setattr(found, "entry_points", lambda group: [point] if group == "limner.nodes" else [])
    packs = loaded()
    assert packs.reports[0].nodes == ("elsewhere.Half",)
    assert packs.registry["elsewhere.Half"] is half
    run = host.run({"1": Instance("elsewhere.Half", {"number": 4})}, only=["1"])
    events = [event for _, event in host.drive([run])]
    assert [e.text for e in events if isinstance(e, Warned)] == ["something is lost"]
    assert [e.outputs for e in events if isinstance(e, Finished)] == [(2.0,)]


def test_an_installed_module_of_classes_will_do(loaded, monkeypatch, tmp_path):
    shutil.copy(PACKS / "good" / "single.py", tmp_path / "a_pack_that_is_installed.py")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("single", "a_pack_that_is_installed", found.GROUP)
    monkeypatch.setattr(found, "entry_points", lambda group: [point])
    assert loaded().nodes["ToyDouble"](number=4).outputs == (8,)


def test_an_entry_point_that_leads_nowhere_is_reported(loaded, monkeypatch):
    point = EntryPoint("gone", "a_module_that_is_gone", found.GROUP)
    monkeypatch.setattr(found, "entry_points", lambda group: [point])
    assert loaded().reports[0].error == "needs the Python module 'a_module_that_is_gone', which is not installed"


# ------------------------------------------------------------------------------------------------ the modules of a host


def test_hosts_modules_can_be_imported_only_while_packs_are_loaded(loaded):
    assert not {*SHIMS} & {*sys.modules}
    packs = loaded(PACKS / "good")
    assert "comfy.utils" in sys.modules
    packs.close()
    assert not {*SHIMS} & {*sys.modules}
    with pytest.raises(ImportError):
        import comfy.utils  # noqa: F401


def test_without_packs_there_are_no_such_modules(loaded, tmp_path):
    (tmp_path / "empty").mkdir()
    assert loaded(tmp_path / "empty").reports == ()
    with pytest.raises(ImportError):
        import folder_paths  # noqa: F401


def test_beside_a_real_comfyui_packs_are_refused_in_a_sentence(loaded, tmp_path, monkeypatch):
    real = tmp_path / "ComfyUI" / "comfy"
    real.mkdir(parents=True)
    (real / "model_management.py").touch()
    monkeypatch.syspath_prepend(real.parent)
    packs = loaded(PACKS / "good")
    assert packs.nodes == {}
    assert {r.error for r in packs.reports} == {
        f"ComfyUI itself can be imported here ({real}), and packs would mix the two: "
        "start Limner where `import comfy` finds nothing"
    }


def test_a_folder_that_happens_to_be_called_comfy_is_no_comfyui(loaded, tmp_path, monkeypatch):
    (tmp_path / "comfy").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert report(loaded(PACKS / "good"), "protocol").error == ""


def test_the_later_of_two_hosts_in_one_process_is_the_one_that_packs_see(loaded):
    loaded(PACKS / "good")
    assert report(loaded(PACKS / "good"), "protocol").error == ""
    assert sum(type(finder).__name__ == "Finder" for finder in sys.meta_path) == 1
