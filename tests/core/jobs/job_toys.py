"""Nodes that wait, fail and kill, for tests of jobs: here and in workers' processes.  Files tell what goes on."""

import os
import signal
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import tiny
import torch
from limner.core.errors import Interrupted
from limner.core.host import Host, Settings
from limner.core.schema import Context
from limner.core.schema import node as a_node
from limner.core.values import Call, Conditioning, Files, Model, Progress, Returned
from limner.nodes import NODES

PATIENCE = 60  # seconds, after which a test has gone wrong


def node(**options):
    return a_node("toy", namespace="toy", **options)


def until(condition):
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@node()
def number(value: int = 1) -> int:
    return value


@node()
def add(a: int, b: int = 0) -> int:
    return a + b


@node(delivers=True)
def show(value: int, prefix: str = "shown", *, context: Context) -> Files:
    """Write a file into the folder output."""
    context.output.mkdir(parents=True, exist_ok=True)
    path = context.output / f"{prefix}_{value}.txt"
    with path.open("a") as file:
        file.write(f"{value}\n")
    return Files((str(path),))


@node(delivers=True, returns=Files)
def walk(
    folder: str, steps: int = 5, pause: float = 0.0, hold: int = -1, after: int = 0
) -> Generator[Progress, Any, Files]:
    """Take steps; at step `hold` wait for the file `go`, looking up at each glance."""
    here = Path(folder)
    (here / "begun").touch()
    for k in range(steps):
        yield Progress(k + 1, steps, torch.linspace(-1, 1, 4 * 8 * 6).view(1, 4, 8, 6))
        time.sleep(pause)
        while k == hold and not (here / "go").exists():
            yield Progress(k + 1, steps)
            time.sleep(0.002)
    (here / "ended").touch()
    return Files(())


@node(delivers=True, returns=Files)
def denoise(model: Model, folder: str, steps: int = 3, hold: int = -1) -> Generator[list[Call], Any, Files]:
    """Have a network called; at step `hold` again and again, until the file `go` is there.  Its calls are counted."""
    here = Path(folder)
    text = Conditioning(torch.zeros(1, 2, tiny.WIDTH), pooled=torch.zeros(1, tiny.WIDTH))
    for k in range(steps):
        while True:
            yield [Call(model, torch.zeros(1, 4, 4, 4), 1.0, text)]
            with (here / "calls").open("a") as file:
                file.write("x")
            if k != hold or (here / "go").exists():
                break
    (here / "ended").touch()
    return Files(())


@node(delivers=True)
def stubborn(folder: str, after: int = 0) -> Files:
    """Hear nothing until the file `go` is there."""
    (Path(folder) / "begun").touch()
    until((Path(folder) / "go").exists)
    (Path(folder) / "ended").touch()
    return Files(())


@node(delivers=True)
def wedged(folder: str) -> Files:
    """Let no other thread of the process run, as a library may that holds the interpreter."""
    (Path(folder) / "begun").touch()
    sum(range(10**13))
    (Path(folder) / "ended").touch()
    return Files(())


@node(delivers=True)
def die(folder: str, how: str = "kill") -> Files:
    """Take the process down, or have the device lost, the second time too unless it is to be "device once"."""
    with (Path(folder) / "deaths").open("a") as file:
        file.write("x")
    if how == "device" or (how == "device once" and file_size(Path(folder) / "deaths") == 1):
        raise RuntimeError(LOST)
    if how == "device once":
        return Files(())
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)
    return Files(())


LOST = "CUDA error: device-side assert triggered\nCUDA kernel errors might be reported at some other call."


def file_size(path):
    return path.stat().st_size


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Base(BaseException):
    pass


ERRORS = {
    "Exception": Exception("it went wrong"),
    "ValueError": ValueError("7 is too many"),
    "SystemExit": SystemExit(1),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "GeneratorExit": GeneratorExit(),
    "Base": Base("of its own kind"),
    "Unspeakable": Unspeakable(),
    "Interrupted": Interrupted("by itself"),
    "path": FileNotFoundError(2, "No such file or directory", "/opt/secret place/models/x.bin"),
}


@node(delivers=True)
def fail(kind: str, after: int = 0, *, context: Context) -> Files:
    """Raise an error of a kind."""
    if kind == "base":
        raise OSError(f"cannot read {context.output.parent / 'input' / 'cat.png'}")
    raise ERRORS[kind].with_traceback(None)


@node(delivers=True, returns=Files)
def fail_late(kind: str) -> Generator[Progress, Any, Files]:
    """Raise it in the middle of long work."""
    yield Progress(1, 2)
    raise ERRORS[kind].with_traceback(None)


@node(delivers=True, returns=Files)
def say(text: str, *, context: Context) -> Returned:
    """Show a text, warn, and print."""
    context.warn("mind the gap")
    print(text, flush=True)  # noqa: T201 - that is what is tried
    os.write(1, b"noise\n")
    return Returned((), {"text": [text, float("nan"), {1, 2}.__class__]})


def pushing(send):
    """A node as packs have them, which pushes its value to editors and writes a text at itself."""

    @node(delivers=True)
    def push(value: int) -> Files:
        send("pushed", {"value": value}, None)
        send(3, b"\0\0\0\1" + f"2it is {value} ✓".encode(), None)
        return Files(())

    return replace(push, pack="toys")


OURS = (number, add, show, walk, denoise, stubborn, wedged, die, fail, fail_late, say)
TOYS = {n.id: n for n in OURS} | NODES


def host(settings, send):
    """A host of these nodes."""
    torch.set_num_threads(1)
    if "says" in settings:
        send("greeting", settings["says"], None)
    if settings.get("broken"):
        raise RuntimeError("no host can be had")
    base = Path(settings["base"])
    unet = base / "models" / "unet" / "tiny.safetensors"
    if not unet.exists():
        unet.parent.mkdir(parents=True)
        tiny.unet(unet)
    push = pushing(send)
    return Host(
        {**TOYS, push.id: push}, Settings(base=base, device="cpu", disk_cache=settings.get("disk_cache", False))
    )
