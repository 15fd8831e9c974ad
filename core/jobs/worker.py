"""A process that runs jobs on one device for a server: commands come as lines of JSON, and so do answers.

`python -m limner.core.jobs.worker` begins it; its first line says how to make its host.  It ends with its server.
"""

from __future__ import annotations

import base64
import ctypes
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import WorkerLost
from . import telling
from .bench import Bench, Order
from .job import Job

if TYPE_CHECKING:
    from ..host import Host

BEAT = 1.0  # seconds between two signs of life
DIE_WITH_PARENT = 1  # Linux's prctl


def main() -> None:
    """Work until the server says that it is enough, or is gone."""
    commands, answers = _pipes()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the server's
    _die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s worker: %(message)s")
    logging.getLogger("limner.packs").setLevel(logging.CRITICAL)  # the server has loaded the same, and told of it
    setup = json.loads(commands.readline() or "null")
    if setup is not None:
        Desk(setup, answers).serve(commands)


class Desk:
    """Takes commands in the main thread, has them done in another one, and tells."""

    def __init__(self, setup: Mapping[str, Any], answers: BinaryIO) -> None:
        self._bench = Bench(lambda: self._made(setup), self._tell)
        self._answers = answers
        self._mutex = threading.Lock()
        self._orders: dict[str, Order] = {}
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._ended = threading.Event()

    def serve(self, commands: BinaryIO) -> None:
        """Do what is said, until nothing more is."""
        threading.Thread(target=self._do, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        for line in commands:
            self._obey(json.loads(line))
        self._ended.set()
        os._exit(0)  # whatever a node does: nobody waits for it any more

    def _obey(self, command: Mapping[str, Any]) -> None:
        match command["do"]:
            case "run":
                orders = [Order(Job.from_json(job)) for job in command["jobs"]]
                self._orders = {order.job.id: order for order in orders}
                self._work.put(partial(self._run, orders))
            case "stop":
                if (order := self._orders.get(command["job"])) is not None:
                    order.stop()
            case "free":
                self._work.put(partial(self._bench.free, models=command["models"], cache=command["cache"]))
            case "previews":
                self._bench.previews = command["wanted"]

    def _run(self, orders: list[Order]) -> None:
        try:
            results = self._bench.work(orders)
        except WorkerLost as lost:
            self._say({"say": "lost", "reason": str(lost)})
            os._exit(1)  # the server begins another one
        self._say({"say": "results", "results": [result.as_json() for result in results]})

    def _do(self) -> None:
        try:
            while True:
                self._work.get()()
        except BaseException:
            logging.getLogger(__name__).exception("the worker cannot go on")
            os._exit(1)  # the server begins another one

    def _beat(self) -> None:
        while True:
            self._say({"say": "beat", "device": self._bench.device, "memory": self._bench.memory()})
            self._ended.wait(BEAT)

    def _tell(self, event: dict[str, Any]) -> None:
        pictures = {k: base64.b64encode(v).decode() for k, v in event.items() if isinstance(v, bytes)}
        self._say({"say": "event", "event": {**event, **pictures}, "base64": list(pictures)})

    def _made(self, setup: Mapping[str, Any]) -> Host:
        module, _, name = setup["factory"].partition(":")
        host: Host = getattr(import_module(module), name)(setup["settings"], self._push)
        return host

    def _push(self, kind: str | int, data: Any, to: str | None) -> None:
        """Have the server send what a pack says to its clients."""
        self._tell(telling.of_pack(kind, data, to))

    def _say(self, said: Mapping[str, Any]) -> None:
        line = json.dumps(said).encode() + b"\n"
        try:
            with self._mutex:
                self._answers.write(line)
                self._answers.flush()
        except OSError:  # the server is gone
            os._exit(1)


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the server, which nodes that print and read must not find where they look for them."""
    commands, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return os.fdopen(commands, "rb"), os.fdopen(answers, "wb")


def _die_with_parent() -> None:
    """Have the system end this process with its server, even while a node holds the interpreter; Linux only."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)


if __name__ == "__main__":
    main()
