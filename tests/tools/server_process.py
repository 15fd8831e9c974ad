"""`limner serve` in a process of its own: started, asked, killed, and looked at when a fault has passed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Prompt = Mapping[str, Any]

PATIENCE = 90  # seconds, after which a test has gone wrong
GROWTH = 50 << 20  # bytes of memory that a fault may cost
PACKS = Path(__file__).parents[1] / "faults" / "packs"
TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")
COLOURS = count(1)


class ServerProcess:
    """A server on a folder, which may be killed and begun again."""

    def __init__(self, base: Path, *words: object, around: tuple[str, ...] = ()) -> None:
        """`around` is a command that begins it."""
        self.base, self.words, self.around = base, words, around
        self.log: list[str] = []
        self.address = ""
        self.process: subprocess.Popen[str] | None = None

    def begin(self) -> ServerProcess:
        """Start it, and wait until it says where it is."""
        words = [*map(str, self.words), *(() if "--device" in self.words else ("--cpu",))]
        flags = ["--port", "0", "--base-directory", str(self.base), "--packs", str(PACKS)]
        command = [*self.around, sys.executable, "-m", "limner", "serve", *flags, *words]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self._reader = threading.Thread(target=self._listen, args=[self.process], daemon=True)
        self._reader.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(PATIENCE)
            self._reader.join(PATIENCE)
            raise AssertionError("".join(self.log))
        found = re.search(r"http://[^/\s]+", line)
        assert found, line
        self.address = found[0]
        return self

    @property
    def pid(self) -> int:
        """Of the server itself."""
        assert self.process is not None
        return self.process.pid

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self.log += iter(process.stderr.readline, "")

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self._ended()

    def end(self, sign: int = signal.SIGTERM) -> int:
        """End it in good order; its exit code."""
        assert self.process is not None
        self.process.send_signal(sign)
        self.process.wait(15)
        return self._ended()

    def _ended(self) -> int:
        assert self.process is not None
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self.process = None
        return code

    def ask(
        self, path: str, data: Any = None, method: str | None = None, patience: float = PATIENCE
    ) -> tuple[int, Any]:
        """What it answers: the status, and the JSON.  No error tells where on the machine things lie."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"{self.address}{path}", body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=patience) as answer:
                return answer.status, _json(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode()
            assert "Traceback" not in text, text
            assert str(self.base) not in text, text
            return error.code, _json(text.encode())

    def post(self, prompt: Prompt, **more: Any) -> str:
        """Post a prompt that is good; its id."""
        status, answer = self.ask("/prompt", {"prompt": prompt, **more})
        assert status == 200, answer
        return str(answer["prompt_id"])

    def job(self, name: str) -> dict[str, Any]:
        """What is known of a job."""
        status, job = self.ask(f"/limner/jobs/{name}")
        assert status == 200, job
        assert str(self.base) not in json.dumps(job.get("error")), job
        return job

    def ended(self, name: str) -> dict[str, Any]:
        """A job, when it has ended."""
        return until(lambda: job if (job := self.job(name))["state"] not in ("pending", "running") else None)

    def run(self, prompt: Prompt, **more: Any) -> dict[str, Any]:
        """Post a prompt, and wait for its end."""
        return self.ended(self.post(prompt, **more))

    def messages(self, name: str, kind: str) -> list[dict[str, Any]]:
        """What was told of a job under that name, since the server began."""
        request = f"{self.address}/limner/events?since=0&job={name}"
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            text = answer.read().decode()
        said = [json.loads(line.removeprefix("data:")) for line in text.splitlines() if line.startswith("data:")]
        return [event for event in said if event.get("event") == kind]

    def health(self) -> dict[str, Any]:
        """How it says it is."""
        health: dict[str, Any] = self.ask("/health")[1]
        return health

    def rss(self, *, workers: bool = False) -> int:
        """The bytes of memory that it takes, with those of its workers or without."""
        task = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        pids = [self.pid, *(map(int, task.read_text("ascii").split()) if workers else ())]
        pages = [int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) for pid in pids]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    def well(self) -> None:
        """What holds after every fault: it lives, says that it is well, runs a job, and has left nothing about."""
        assert self.process is not None
        assert self.process.poll() is None, "".join(self.log)
        until(lambda: self.health()["status"] == "ok")
        job = self.run(picture())
        assert job["state"] == "done", job
        until(lambda: not temporary(self.base))


def picture(prefix: str = "well", size: int = 8) -> dict[str, Any]:
    """A prompt that saves a picture which nobody has saved before."""
    return {
        "1": entry("EmptyImage", width=size, height=size, batch_size=1, color=next(COLOURS)),
        "2": entry("SaveImage", images=["1", 0], filename_prefix=prefix),
    }


def entry(kind: str, /, **inputs: Any) -> dict[str, Any]:
    """A node of a prompt."""
    return {"class_type": kind, "inputs": inputs}


def temporary(base: Path) -> list[Path]:
    """Files that were to be gone."""
    return [path for path in base.rglob(".*") if TEMPORARY.match(path.name)]


def until(look: Callable[[], T | None], patience: float = PATIENCE) -> T:
    """Wait until something is there."""
    end = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def serving(base: Path, *words: object, around: tuple[str, ...] = ()) -> Iterator[ServerProcess]:
    """A server for as long as the block lasts."""
    server = ServerProcess(base, *words, around=around)
    try:
        yield server.begin()
    finally:
        server.kill()


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content
