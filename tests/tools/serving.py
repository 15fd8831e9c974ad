"""A server for tests: toy nodes, real queue, events and dispatcher, on a free port; and what clients of it do often."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Generator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from aiohttp import ClientWebSocketResponse, WSMsgType
from aiohttp.test_utils import TestClient, TestServer
from limner.core import host
from limner.core.packs.loading import Packs
from limner.core.schema import Choice, InputFile, ModelFile, Multiline, Node, Range, node
from limner.core.server.settings import Settings
from limner.core.values import Progress, Returned

PATIENCE = 20  # seconds


@node("toys", namespace="")
def text(text: Annotated[str, Multiline(), "What to say."] = "") -> str:
    """A text."""
    return text


@node("toys", namespace="")
def join(first: str, second: str, times: Annotated[int, Range(1, 9, 1)] = 1) -> str:
    """Two texts, one after the other."""
    return (first + second) * times


@node("toys", namespace="")
def pick(way: Annotated[str, Choice("up", "down")] = "up", strength: Annotated[float, Range(0.0, 1.0)] = 0.5) -> str:
    """A choice."""
    return f"{way} {strength}"


@node("toys", namespace="")
def file(model: Annotated[str, ModelFile("loras")], picture: Annotated[str, InputFile()]) -> str:
    """Files."""
    return model + picture


@node("toys", namespace="", delivers=True)
def show(source: str) -> Returned:
    """Shows a text."""
    return Returned((), {"text": [source]})


@node("toys", namespace="")
def fail(text: str = "") -> str:
    """Always fails."""
    raise ValueError(f"cannot do {text!r}")


class Gate:
    """A node that runs until the test lets it go on."""

    def __init__(self) -> None:
        self.reached, self.released = threading.Event(), threading.Event()

    async def until_reached(self) -> None:
        """Wait until the node runs."""
        assert await asyncio.to_thread(self.reached.wait, PATIENCE)

    def nodes(self) -> Iterable[Node[..., object]]:
        """The node `Wait`, which says how far it is until it may end, and then gives its text."""

        @node("toys", namespace="", cached=False, returns=str)
        def wait(text: str = "", steps: Annotated[int, Range(0, 100)] = 1) -> Generator[Progress, Any, str]:
            """Waits."""
            for k in range(1, steps + 1):
                yield Progress(k, steps)
            self.reached.set()
            while not self.released.wait(0.005):
                yield Progress(steps, steps)
            return text

        return (wait,)


TOYS = {n.id: n for n in (text, join, pick, file, show, fail)}


@asynccontextmanager
async def serving(
    base: Path, *, nodes: Iterable[Node[..., object]] = (), packs: Packs | None = None, **settings: Any
) -> AsyncIterator[TestClient[Any, Any]]:
    """A client of a server that has these nodes beside the toys.  `client.app[OFFICE]` is what it is made of."""
    from limner.core.jobs.dispatcher import Dispatcher
    from limner.core.jobs.events import Events
    from limner.core.jobs.inprocess import InProcess
    from limner.core.jobs.queue import Queue
    from limner.core.jobs.timings import Timings
    from limner.core.server.app import application
    from limner.core.server.office import Office

    known = TOYS | {n.id: n for n in nodes}
    made = host.Host(known, host.Settings(base=base, disk_cache=False))
    queue = Queue(base / "limner.db")
    paused = bool(settings.get("paused"))
    dispatcher = Dispatcher(queue, Events(), InProcess(lambda: made), Timings(), paused=paused)
    app = application(Office(made, dispatcher, packs or Packs({})), Settings(port=0, **settings))
    async with TestClient(TestServer(app)) as client:
        yield client
    queue.close()


def chain(*words: str) -> dict[str, Any]:
    """A prompt that shows words joined."""
    nodes: dict[str, Any] = {f"t{k}": entry("Text", text=word) for k, word in enumerate(words)}
    last = "t0"
    for k in range(1, len(words)):
        nodes[f"j{k}"] = entry("Join", first=[last, 0], second=[f"t{k}", 0])
        last = f"j{k}"
    return {**nodes, "show": entry("Show", source=[last, 0])}


def entry(kind: str, **inputs: Any) -> dict[str, Any]:
    """A node of a prompt."""
    return {"class_type": kind, "inputs": inputs}


async def submit(client: TestClient[Any, Any], prompt: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Post a prompt that is good; the answer."""
    async with client.post("/prompt", json={"prompt": prompt, **more}) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def ended(client: TestClient[Any, Any], prompt_id: str) -> dict[str, Any]:
    """The history of a job, when it has one."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with client.get(f"/history/{prompt_id}") as answer:
                if found := await answer.json():
                    return found[prompt_id]
            await asyncio.sleep(0.01)


async def heard(socket: ClientWebSocketResponse, until: str = "idle") -> list[dict[str, Any]]:
    """What a socket is told up to a message of the type `until`; "idle" is `executing` with no node."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE):
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                found.append({"type": "binary", "data": message.data})
                continue
            found.append(json.loads(message.data))
            kind, data = found[-1]["type"], found[-1]["data"]
            if kind == until or (until == "idle" and kind == "executing" and data["node"] is None):
                return found
    raise AssertionError(f"the socket was closed after {[m['type'] for m in found]}")
