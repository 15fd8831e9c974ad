"""What goes wrong ends in a sentence that a person can act on, the exit code that says which kind, and no litter."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch
from limner.core import drive, pictures
from limner.core.cli import failure
from limner.core.errors import LimnerError, ModelMissing
from limner.core.models.checkpoint import save_network
from limner.core.models.patch_autoencoder import PatchAutoencoder

SCENARIOS = {
    "broken JSON": ('{"limner": 1, ', 3, "is not JSON: line 1, column 15"),
    "an empty file": ("", 3, "is not JSON"),
    "JSON that is no workflow": ("[1, 2]", 3, "holds a list, not a workflow"),
    "a node that is none": ('{"a": 5}', 3, "'a' is no node"),
    "an editor's canvas without nodes": ('{"nodes": [], "links": []}', 3, "has no node that saves or shows anything"),
    "a later format": ('{"limner": 2, "graph": {}}', 3, "this Limner reads version 1"),
    "nothing to do": ('{"limner": 1, "graph": {}}', 3, "has no node that saves or shows anything"),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_file_that_is_no_workflow_is_refused(name, limner, tmp_path):
    content, code, sentence = SCENARIOS[name]
    (tmp_path / "bad.json").write_text(content)
    said = limner("run", tmp_path / "bad.json")
    assert (said.code, said.out) == (code, "")
    assert said.err.startswith("limner: ")
    assert sentence in said.err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"guide__model": ["encode", 0]}, "guide.model: takes MODEL, not CONDITIONING"),
        ({"guide__model": ["load", 7]}, "guide.model: is plugged into output 7 of 'load', which has 3"),
        ({"guide__model": ["nobody", 0]}, "guide.model: is plugged into the node 'nobody', which is not in the graph"),
        ({"guide__model": 5}, "guide.model: takes a MODEL from another node, not the value 5"),
        ({"prompt__value": ["prompt", 0]}, "prompt: is part of a loop"),
        ({"schedule__steps": 0}, "schedule.steps: must be from 1 to 10000, not 0"),
        ({"schedule__steps": "many"}, "schedule.steps: takes INT, not 'many'"),
        ({"schedule__kind": "karas"}, "did you mean 'karras'?"),
        ({"load__name": "tinny"}, "there is no 'tinny' in models/checkpoints"),
        ({"sample__temperature": 1}, "sample.temperature: limner.Sample has no such input"),
    ],
)
def test_everything_wrong_with_a_graph_is_said_with_its_place(change, sentence, limner, out, tmp_path):
    file = tiny.write(tmp_path / "bad.json", tiny.text_to_image(**change))
    said = limner("run", file, "--out", out)
    assert (said.code, said.out) == (3, "")
    assert said.err.startswith("limner: the workflow cannot run:\n  ")
    assert sentence in said.err
    assert sentence in limner("validate", file).out
    assert not out.exists()


def test_all_that_is_wrong_is_said_at_once(limner, tmp_path):
    nodes = tiny.text_to_image(schedule__steps=0, sample__seed=-1)
    del nodes["guide"]["inputs"]["model"]
    nodes["decode"]["class_type"] = "limner.Decoed"
    said = limner("run", tiny.write(tmp_path / "bad.json", nodes))
    assert said.err.splitlines()[1:] == [
        "  decode: there is no node type 'limner.Decoed'; did you mean 'limner.Decode'?",
        "  guide.model: needs a MODEL plugged in",
        "  sample.seed: must be from 0 to 9007199254740991, not -1",
        "  schedule.steps: must be from 1 to 10000, not 0",
    ]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--only", "nobody"], 2, "there is no node 'nobody'"),
        (["--force", "sampel"], 2, "did you mean 'sample'?"),
        (["--device", "gpu"], 2, "a device is auto, cpu, cuda or cuda:N, not 'gpu'"),
        (["--dtype", "int4"], 2, "a dtype is auto, float32, float16, bfloat16, not 'int4'"),
        (["--vram-budget", "lots"], 2, "'lots' is not a size such as 6GB"),
        (["--timeout", "-1"], 2, "--timeout is a number of seconds above 0, not -1"),
        (["--timeout", "nan"], 2, "--timeout is a number of seconds above 0, not nan"),
        (
            ["--set", "latent.width=36"],
            1,
            "latent: width and height must be multiples of 8 for this model, not 36 x 32",
        ),
        (["--set", "save.prefix=../up"], 2, "save: '../up_00001.png' is no file name"),
        (["--set", "save.prefix=/abs"], 2, "save: '/abs_00001.png' is no file name"),
        (["--set", "guide.start=1", "--set", "guide.end=0"], 1, "guide: guidance must start before it ends"),
    ],
)
def test_settings_that_cannot_be_are_refused(words, code, sentence, limner, workflow, out):
    said = limner("run", workflow, "--out", out, "--quiet", *words)
    assert (said.code, said.out) == (code, "")
    assert sentence in said.err
    assert len(said.err.splitlines()) == 1
    assert not list(out.glob("**/*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(limner, workflow):
    said = limner("run", workflow, "--device", "cuda")
    assert said.code == 2
    assert said.err.startswith("limner: cuda was asked for, and ")


def model_file(base: Path, name: str = "unet.safetensors") -> Path:
    return base / "models" / "checkpoints" / "tiny" / name


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def of_another_kind(path: Path) -> None:
    shutil.copy(path.with_name("vae.safetensors"), path)


def a_pickle(path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, path)


def of_other_shapes(path: Path) -> None:
    network = PatchAutoencoder(tiny.VAE)
    metadata = {"kind": "unet", "config": tiny.UNET, "sampling": {"timesteps": 10}, "latent": tiny.LATENT}
    save_network(path, network, metadata)


@pytest.mark.parametrize(
    ("damage", "code", "sentence"),
    [
        (truncate, 1, "unet.safetensors: is cut short"),
        (of_another_kind, 1, "unet.safetensors: holds a VAE, and a UNet is wanted"),
        (a_pickle, 1, "unet.safetensors: is a zip archive, as PyTorch writes pickles"),
        (of_other_shapes, 1, "unet.safetensors: its weights are not those that its configuration needs"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html>log in first"), 1, "is a web page"),
        (lambda path: path.write_bytes(b""), 1, "has 0 bytes"),
        (Path.unlink, 3, "there is no model file"),
    ],
)
def test_a_model_that_is_none_is_named_with_what_it_is(damage, code, sentence, limner, workflow, base, out):
    damage(model_file(base))
    said = limner("run", workflow, "--out", out, "--quiet")
    assert (said.code, said.out) == (code, "")
    assert sentence in said.err
    assert str(model_file(base)) in said.err
    assert len(said.err.splitlines()) == 1


def pictured(base: Path, content: bytes) -> dict:
    (base / "input").mkdir()
    (base / "input" / "picture.png").write_bytes(content)
    return {
        "load": {"class_type": "limner.LoadImage", "inputs": {"name": "picture.png"}},
        "save": {"class_type": "limner.SaveImage", "inputs": {"image": ["load", 0]}},
    }


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no picture that can be read"),
        (b"GIF89a" + bytes(50), "is no picture that can be read; those are: PNG, JPEG, WEBP"),
        (pictures.png(torch.rand(64, 64, 3))[:-2000], "is damaged"),
    ],
)
def test_a_picture_that_cannot_be_read_is_named(content, sentence, limner, base, out, tmp_path):
    file = tiny.write(tmp_path / "picture.json", pictured(base, content))
    said = limner("run", file, "--out", out, "--quiet")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"limner: load: {base}/input/picture.png: {sentence}")


def test_a_picture_without_a_workflow_is_no_workflow(limner, tmp_path):
    (tmp_path / "picture.png").write_bytes(pictures.png(torch.rand(8, 8, 3)))
    said = limner("run", tmp_path / "picture.png")
    assert (said.code, said.err) == (3, f"limner: {tmp_path}/picture.png is a picture without a workflow in it\n")


def test_an_output_folder_that_is_a_file_is_refused_before_anything_runs(limner, workflow, tmp_path):
    (tmp_path / "file").touch()
    said = limner("run", workflow, "--out", tmp_path / "file")
    assert (said.code, said.err) == (2, f"limner: --out {tmp_path}/file is not a folder\n")


def test_an_output_folder_that_cannot_be_made_is_named(limner, workflow, tmp_path):
    (tmp_path / "file").touch()
    said = limner("run", workflow, "--out", tmp_path / "file" / "below", "--quiet")
    assert said.code == 1
    assert said.err == f"limner: save: cannot write {tmp_path}/file/below/limner_00001.png: not a directory\n"


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only file system"), (errno.EACCES, "permission denied")],
)
def test_a_disk_that_refuses_a_picture_keeps_nothing_of_it(number, words, limner, workflow, out, monkeypatch):
    def refuse(path, pixels, texts=None):
        path.write_bytes(b"half a picture")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pictures, "write", refuse)
    said = limner("run", workflow, "--out", out, "--quiet")
    assert said.code == 1
    assert said.err == f"limner: save: cannot write {out}/limner_00001.png: {words}\n"
    assert list(out.iterdir()) == []


def limit_files_to(size: int):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_a_real_limit_on_files_leaves_the_pictures_before_it_and_nothing_of_its_own(limner, workflow, out):
    assert limner("run", workflow, "--out", out, "--quiet").code == 0
    kept = sorted(out.iterdir())
    command = [sys.executable, "-m", "limner", "run", workflow, "--out", out, "--quiet", "--set", "save.prefix=more"]
    said = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit_files_to(500), check=False)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == f"limner: save: cannot write {out}/more_00001.png: file too large\n"
    assert sorted(out.iterdir()) == kept


def test_what_a_node_raises_is_named_by_its_kind_and_its_node(limner, workflow, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(drive.parameterisation, "denoise", broken)
    said = limner("run", workflow, "--quiet")
    assert (said.code, said.err) == (1, "limner: sample: ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
    ],
)
def test_what_does_not_fit_into_memory_has_a_code_of_its_own(error, limner, workflow, monkeypatch):
    def full(*_):
        raise error

    monkeypatch.setattr(drive.parameterisation, "denoise", full)
    said = limner("run", workflow, "--json")
    assert (said.code, said.done["status"], said.done["error"]["node"]) == (5, "out_of_memory", "sample")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ModelMissing("there is no 'x'"), "model_missing", "there is no 'x'"),
        (ValueError("must be even"), "failed", "must be even"),
        (ValueError(), "failed", "ValueError"),
        (KeyError("x"), "failed", "KeyError: 'x'"),
        (Mute(), "failed", "Mute"),
        (KeyboardInterrupt(), "interrupted", "stopped"),
        (MemoryError(), "out_of_memory", "MemoryError"),
    ],
)
def test_every_error_is_a_code_and_a_sentence(error, code, sentence):
    assert (failure.code(error), failure.sentence(error)) == (code, sentence)
    assert failure.sentence(error, "node") == f"node: {sentence}"


def test_every_kind_of_error_has_an_exit_code_that_the_help_knows(limner):
    said = limner("--help").out.replace("\n", " ")
    kinds = [LimnerError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        assert f" {kind.exit_code} " in said


def test_a_time_limit_ends_the_run_with_a_code_of_its_own(limner, workflow, out):
    began = time.monotonic()
    said = limner("run", workflow, "--out", out, "--set", "schedule.steps=10000", "--timeout", "0.5", "--json")
    assert time.monotonic() - began < 20
    assert (said.code, said.done["status"]) == (124, "timeout")
    assert said.err == "limner: gave up after 0.5 s\n"
    assert "sample" not in said.done["executed"] + said.done["cached"]
    assert not out.exists()


def test_a_time_limit_that_is_not_reached_changes_nothing(limner, workflow, out):
    assert limner("run", workflow, "--out", out, "--timeout", "600").code == 0


class Running:
    """`limner run` in a process of its own, in the middle of a walk of ten thousand steps."""

    def __init__(self, *words: object) -> None:
        command = [sys.executable, "-m", "limner", "run", *words, "--set", "schedule.steps=10000", "--json"]
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        while json.loads(self.process.stdout.readline())["event"] != "moved":
            pass

    def end(self) -> tuple[int, dict, str, float]:
        began = time.monotonic()
        said, error = self.process.communicate(timeout=60)
        return self.process.returncode, json.loads(said.splitlines()[-1]), error, time.monotonic() - began


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_promptly_and_in_order(sign, limner, workflow, out, tmp_path):
    limner("run", workflow, "--out", tmp_path / "before")  # so that no text is left to encode
    running = Running(workflow, "--out", out)
    running.process.send_signal(sign)
    code, done, error, seconds = running.end()
    assert (code, done["status"], error) == (130, "interrupted", "limner: stopped at sample\n")
    assert "sample" not in done["executed"] + done["cached"]
    assert seconds < 10
    assert not out.exists()


def test_the_first_ctrl_c_says_what_it_does(limner, workflow, monkeypatch):
    answer = drive.parameterisation.denoise

    def pressed(*given):
        signal.raise_signal(signal.SIGINT)
        return answer(*given)

    monkeypatch.setattr(drive.parameterisation, "denoise", pressed)
    said = limner("run", workflow)
    assert said.code == 130
    *_, stopping, ran, stopped = said.err.splitlines()
    assert stopping == "stopping; Ctrl-C once more ends at once"
    assert ran.startswith("ran ")
    assert stopped == "limner: stopped at sample"


def test_a_second_ctrl_c_ends_at_once(limner, workflow, monkeypatch):
    def stubborn(*_):  # a pass through a network that takes long, and no notice
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        pytest.fail("the second signal was not heard")

    monkeypatch.setattr(drive.parameterisation, "denoise", stubborn)
    said = limner("run", workflow, "--json")
    assert (said.code, said.done["status"], said.err) == (130, "interrupted", "limner: stopped\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
