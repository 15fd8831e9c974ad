"""What clients are told of a failure: a sentence, a code and a node, and nothing of where things lie."""

from pathlib import Path

import pytest
from limner.core.errors import Interrupted, InvalidGraph, ModelMissing, OutOfMemory
from limner.core.graph import Problem
from limner.core.jobs import failure


class Unspeakable(RuntimeError):
    def __str__(self):
        raise RuntimeError("no words")


FOLDERS = [Path("/data/base"), Path("/mnt/disk/output"), Path("/data/base/input")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cannot read /data/base/models/unet/x.safetensors", "cannot read models/unet/x.safetensors"),
        ("there is no 'x' in /data/base; look", "there is no 'x' in base; look"),
        ("in /data/base-evil/secret.txt", "in …/secret.txt"),
        ("cannot write /mnt/disk/output/a/b.png", "cannot write output/a/b.png"),
        ("cannot read /data/base/input/cat.png", "cannot read input/cat.png"),
        ("[Errno 2] No such file: '/opt/a b/c d.bin'", "[Errno 2] No such file: '…/c d.bin'"),
        ('at "C:\\Users\\me\\x y.png" and C:\\Temp\\z.png', 'at "…/x y.png" and …/z.png'),
        ("on \\\\host\\share\\x.png", "on …/x.png"),
        ("path:/etc/passwd,/etc/shadow", "path:…/passwd,…/shadow"),
        ("(/usr/lib/python3/x.py)", "(…/x.py)"),
        ("see https://example.org/a/b and 3/4 and and/or", "see https://example.org/a/b and 3/4 and and/or"),
        ("takes LATENT, not IMAGE", "takes LATENT, not IMAGE"),
    ],
)
def test_paths_are_told_from_the_base_folder_on_or_by_their_last_name(text, told):
    assert failure.without_paths(text, FOLDERS) == told


def test_the_folders_of_python_and_of_the_user_are_not_told():
    for place in (Path.home() / "secret", Path(failure.__file__), Path.cwd() / "secret"):
        assert str(place.parent) not in failure.without_paths(f"it is in {place}")


def test_errors_have_the_codes_that_programs_know():
    class OutOfMemoryError(RuntimeError):
        """As torch calls its own."""

    for error, code, message in (
        (ModelMissing("there is no 'x'"), "model_missing", "there is no 'x'"),
        (OutOfMemory("it does not fit"), "out_of_memory", "it does not fit"),
        (OutOfMemoryError("CUDA out of memory"), "out_of_memory", "OutOfMemoryError: CUDA out of memory"),
        (MemoryError(), "out_of_memory", "MemoryError"),
        (RuntimeError("DefaultCPUAllocator: not enough"), "out_of_memory", None),
        (Interrupted("stopped"), "interrupted", "stopped"),
        (KeyError("x"), "failed", "KeyError: 'x'"),
    ):
        found = failure.described(error, "7")
        assert (found["code"], found["node"]) == (code, "7")
        assert message in (None, found["message"])
        assert found["traceback"] == ["the server's log has the traceback"]


def test_a_graph_that_cannot_run_names_the_first_node_with_a_problem():
    problems = [Problem("3", "steps", "no_such_node", (("found", "9"),)), Problem("4", None, "loop")]
    found = failure.described(InvalidGraph(problems))
    assert (found["node"], found["code"]) == ("3", "invalid_graph")
    assert "3.steps" in found["message"]
    assert "4: is part of a loop" in found["message"]


def test_a_message_is_cut_where_it_is_endless():
    assert len(failure.described(ValueError("x" * 10**6))["message"]) == failure.LONGEST


def test_the_log_gets_the_traceback():
    with pytest.raises(OSError, match="nowhere") as caught:
        Path("/nowhere").read_text()
    assert "test_failure.py" in failure.trace(caught.value)


LOST = "CUDA error: device-side assert triggered\nCUDA kernel errors might be reported at some other call."


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError(LOST), "CUDA error: device-side assert triggered"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), None),
        (RuntimeError("HIP error: unspecified launch failure"), None),
        (RuntimeError("CUDA error: out of memory"), ""),
        (RuntimeError("CUDA error: invalid device ordinal"), ""),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), ""),
        (ValueError(LOST), ""),
        (OutOfMemory("it does not fit"), ""),
        (Unspeakable(), ""),
    ],
)
def test_what_ends_the_use_of_a_device_is_told_from_what_does_not(error, told):
    assert failure.lost_device(error) == (str(error) if told is None else told)


def test_a_lost_device_is_known_behind_the_error_that_a_node_makes_of_it():
    error = ValueError("sampling failed")
    error.__context__ = RuntimeError(LOST)
    assert failure.lost_device(error) == "CUDA error: device-side assert triggered"
    error.__cause__ = error  # a circle ends
    assert failure.lost_device(error) == ""
