"""The backend of one process for each device: a node that ignores its stop is killed, and so is a process that hangs.

Whole jobs go down a pipe as lines of JSON, and events come back.  This process needs no torch.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import WorkerLost
from .backend import Emit, Result, Worker
from .job import Job

MODULE = f"{__package__}.worker"
LONGEST = 256 << 20  # bytes of a line
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before another try, where a worker cannot even begin
GOODBYE = 3.0  # seconds that a worker has to end by itself

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """How a worker makes its host.  Plain values, which cross a pipe as JSON."""

    device: str  # for people, until the worker says what it has
    settings: Mapping[str, Any]  # for the factory
    factory: str  # a function of `settings`, and of what sends packs' messages, that returns a Host, as module:name


class Subprocesses:
    """A worker for each setup.  A job that does not stop within `grace` seconds takes its worker down."""

    def __init__(self, setups: Sequence[Setup], *, grace: float = 30.0, patience: float = 60.0) -> None:
        """A worker that gives no sign of life for `patience` seconds is killed."""
        self._workers = {
            f"worker-{k}": _Worker(f"worker-{k}", setup, grace, patience) for k, setup in enumerate(setups, 1)
        }

    async def start(self, emit: Emit) -> None:
        """Begin the processes."""
        self._loop, self._emit = asyncio.get_running_loop(), emit
        for worker in self._workers.values():
            worker.start(emit)

    async def run(self, jobs: Sequence[Job], worker: str) -> list[Result]:
        """Run jobs side by side in one process."""
        return await self._workers[worker].run(jobs)

    async def interrupt(self, job: str) -> None:
        """Stop a job before its next network call; kill its process if it does not stop."""
        for worker in self._workers.values():
            worker.interrupt(job)

    async def free(self, *, models: bool, cache: bool) -> None:
        """Free memory in each process when its jobs have ended."""
        for worker in self._workers.values():
            worker.tell({"do": "free", "models": models, "cache": cache})

    def workers(self) -> list[Worker]:
        """The processes."""
        return [worker.described() for worker in self._workers.values()]

    def tell(self, event: dict[str, Any]) -> None:
        """Emit an event, from any thread of this process; jobs are in others."""
        with suppress(RuntimeError):  # the loop is closed: the program ends
            self._loop.call_soon_threadsafe(self._emit, event)

    def show_previews(self, wanted: bool) -> None:  # noqa: FBT001 - a switch
        """Whether anybody wants to see half-done pictures."""
        for worker in self._workers.values():
            worker.show_previews(wanted)

    async def close(self) -> None:
        """End the processes, those that do not want to as well."""
        await asyncio.gather(*(worker.close() for worker in self._workers.values()))


class _Worker:
    """One process after another, of which one lives at a time."""

    def __init__(self, name: str, setup: Setup, grace: float, patience: float) -> None:
        self._name, self._setup, self._grace, self._patience = name, setup, grace, patience
        self._process: Process | None = None
        self._ready = False  # it has given a sign of life
        self._seen = 0.0  # when it gave the last one
        self._device, self._memory = setup.device, dict[str, int]()
        self._previews = False
        self._jobs: dict[str, asyncio.TimerHandle | None] = {}  # that it has, and when their patience ends
        self._future: asyncio.Future[list[Result]] | None = None
        self._reason = ""  # for which it was killed
        self._restarts = 0
        self._life: asyncio.Task[None] | None = None
        self._was_ready = False  # in this life
        self._closed = False
        self._enough = asyncio.Event()

    def start(self, emit: Emit) -> None:
        self._emit = emit
        self._life = asyncio.create_task(self._live())

    async def run(self, jobs: Sequence[Job]) -> list[Result]:
        if not self._ready or self._future is not None:
            raise WorkerLost(f"{self._name} cannot take jobs now")
        future: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        self._future = future
        self._jobs = dict.fromkeys(job.id for job in jobs)
        self.tell({"do": "run", "jobs": [job.as_json() for job in jobs]})
        try:
            return await future
        finally:
            for timer in self._jobs.values():
                if timer is not None:
                    timer.cancel()
            self._jobs, self._future = {}, None

    def interrupt(self, job: str) -> None:
        if job in self._jobs:
            self.tell({"do": "stop", "job": job})
            if self._jobs[job] is None:
                loop, reason = asyncio.get_running_loop(), f"its node did not stop within {self._grace:g} s"
                self._jobs[job] = loop.call_later(self._grace, self._kill, reason)

    def tell(self, command: Mapping[str, Any]) -> None:
        """Send a command.  What the pipe does not take is kept; a process that is gone is found out elsewhere."""
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps(command).encode() + b"\n")

    def show_previews(self, wanted: bool) -> None:  # noqa: FBT001
        self._previews = wanted
        self.tell({"do": "previews", "wanted": wanted})

    def described(self) -> Worker:
        alive = self._ready and not self._closed
        return Worker(self._name, self._device, alive, tuple(self._jobs), self._memory, self._restarts)

    async def close(self) -> None:
        self._closed = True
        self._enough.set()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()  # at its end the worker ends
        if self._life is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._life), GOODBYE)
            self._kill("the server ends")
            await self._life

    async def _live(self) -> None:
        """Begin processes, until it is enough."""
        pause = 0.0
        while not self._closed:
            self._was_ready = False
            try:
                reason = await self._one_life()
            except Exception as error:
                log.exception("%s cannot be had", self._name)
                reason = f"it cannot be had: {error}"
            self._mourn(reason)
            pause = 0.0 if self._was_ready else min(max(2 * pause, SHORTEST_PAUSE), LONGEST_PAUSE)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), pause)

    async def _one_life(self) -> str:
        """A process from its beginning to its end; returns what it died of."""
        self._reason = ""
        path = os.pathsep.join(place for place in sys.path if place)
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", MODULE, stdin=PIPE, stdout=PIPE, limit=LONGEST, env=environment
        )
        self._process, self._seen = process, time.monotonic()
        self.tell({"factory": self._setup.factory, "settings": dict(self._setup.settings)})
        self.show_previews(self._previews)
        watch = asyncio.create_task(self._watch())
        try:
            if not self._closed:
                await self._listen(process)
        finally:
            self._ready = False
            watch.cancel()
            _end(process)
            code = await process.wait()
            if process.stdin is not None:
                process.stdin.close()
        return self._reason or f"its process has ended by itself ({_words(code)})"

    async def _listen(self, process: Process) -> None:
        """Take what the process says, until it says no more."""
        while process.stdout is not None and (line := await process.stdout.readline()):
            self._seen = time.monotonic()
            try:
                self._hear(json.loads(line))
            except Exception:
                log.exception("%s says what cannot be understood", self._name)

    def _hear(self, said: Mapping[str, Any]) -> None:
        match said["say"]:
            case "event":
                pictures = {name: base64.b64decode(said["event"][name]) for name in said["base64"]}
                self._emit({**said["event"], **pictures})
            case "results":
                if self._future is not None and not self._future.done():
                    self._future.set_result([Result.from_json(result) for result in said["results"]])
            case "lost":
                self._reason = self._reason or said["reason"]
            case "beat":
                self._device, self._memory = said["device"] or self._device, said["memory"]
                if not self._ready and not self._closed:
                    self._ready = self._was_ready = True
                    self._emit({"event": "worker"})

    async def _watch(self) -> None:
        """Kill a process that gives no sign of life."""
        while True:
            await asyncio.sleep(self._patience / 4)
            if time.monotonic() - self._seen > self._patience:
                self._kill(f"its process gave no sign of life for {self._patience:g} s")

    def _kill(self, reason: str) -> None:
        if self._process is not None and self._process.returncode is None:
            log.warning("%s is killed: %s", self._name, reason)
            self._reason = self._reason or reason
            _end(self._process)

    def _mourn(self, reason: str) -> None:
        """The process is gone, and its jobs with it."""
        self._process, self._ready = None, False
        if self._closed:
            reason = "the server ends"
        else:
            self._restarts += 1
            log.warning("%s was lost: %s; another one takes its place", self._name, reason)
        if self._future is not None and not self._future.done():
            self._future.set_exception(WorkerLost(reason))
        self._emit({"event": "worker"})


def _end(process: Process) -> None:
    """Kill it, unless it has ended.  Its own `kill` would look for that, and take the exit code away from the loop."""
    with suppress(ProcessLookupError):
        if sys.platform == "win32":
            process.kill()
        elif process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)


def _words(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
