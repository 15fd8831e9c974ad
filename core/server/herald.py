"""The herald: tells ComfyUI's clients of jobs, each of its own, in the messages and the order that they know."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..jobs import story
from .log import TERMINAL, Line
from .sockets import Frame, Socket, Sockets

if TYPE_CHECKING:
    from ..jobs.dispatcher import Dispatcher
    from ..jobs.job import Job

PREVIEW, TEXT, PREVIEW_WITH_METADATA = 1, 3, 4  # kinds of binary messages
JPEG, PNG = 1, 2
SMALL = 20  # nodes whose whole state is told at every change
PACE = 0.2  # seconds between two tellings of a larger state: each costs as much as there are nodes

Event = Mapping[str, Any]


@dataclass(slots=True)
class Going:
    """A job that runs, as far as its client has been told."""

    job: Job
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)  # the state of each node that has been begun
    executed: list[str] = field(default_factory=list)
    current: str | None = None  # the node that was begun last
    told: float = float("-inf")  # when the whole state was
    later: asyncio.TimerHandle | None = None  # by which it will be


class Herald:
    """Hears every event, and tells those whom it concerns.  Lives in the loop's thread."""

    def __init__(
        self, sockets: Sockets, dispatcher: Dispatcher, features: Mapping[str, Any], *, previews: bool
    ) -> None:
        """`features`: what clients are told that the server can do; `previews`: also for who has not asked for them."""
        self._sockets = sockets
        self._dispatcher = dispatcher
        self._features = features
        self._previews = previews
        self._going: dict[str, Going] = {}
        self._next: list[tuple[str, Frame]] = []  # for which clients, after the next status

    def hear(self, event: Event) -> None:
        """Tell of one event."""
        name = event["event"]
        if name == "queue":
            self._tell_all(_status(event["remaining"]))
            for client, frame in self._next:
                self._tell(client, frame)
            self._next.clear()
        elif name == "said":
            self.send(event["type"], event["data"], event.get("to"))
        elif name == "started":
            self._begin(event)
        elif name == "queued":  # perhaps again
            self._forget(event["job"])
        elif (going := self._going.get(event["job"])) is not None:
            self._hear_of(going, event)

    def send(self, kind: str | int, data: Any, to: str | None) -> None:
        """Send what a pack has to say, to one client or to all."""
        frame = Frame(struct.pack(">I", kind) + bytes(data)) if isinstance(kind, int) else _message(kind, data)
        for socket in self._sockets:
            known = kind != TEXT or socket.flags is not None  # others take every binary message for a picture
            if known and to in (None, socket.client):
                socket.push(frame)

    def welcome(self, socket: Socket) -> None:
        """Tell a new socket how things are, and take it in: what it hears after this is what comes after this."""
        socket.push(_status(self._dispatcher.queue.remaining(), sid=socket.client))
        for going in self._going.values():
            if going.job.client == socket.client and going.current is not None:
                socket.push(_message("executing", {"node": going.current}))
                socket.push(self._state(going))
        if (older := self._sockets.join(socket)) is not None:
            self._count(older, -1)
        self._count(socket, +1)

    def leave(self, socket: Socket) -> None:
        """Forget a socket."""
        if self._sockets.leave(socket):
            self._count(socket, -1)

    def shake(self, socket: Socket, flags: Mapping[str, Any]) -> None:
        """A client has said what it understands: say what we do."""
        current = self._sockets.of(socket.client) is socket
        if current:
            self._count(socket, -1)
        socket.flags = flags
        if current:
            self._count(socket, +1)
        socket.push(_message("feature_flags", self._features))

    def follow_log(self, client: str, *, follows: bool) -> None:
        """Tell a client of every line of the log, or no more."""
        if (socket := self._sockets.of(client)) is not None:
            socket.follows_log = follows

    def tell_log(self, line: Line) -> None:
        """Tell those who follow the log of a line."""
        for socket in self._sockets:
            if socket.follows_log:
                socket.push(_message("logs", {"entries": [line], "size": TERMINAL}, passing="logs"))

    def wants(self, socket: Socket) -> bool:
        """Whether previews are for this socket."""
        return self._previews or bool(socket.flags and socket.flags.get("supports_preview_metadata"))

    def _hear_of(self, going: Going, event: Event) -> None:
        match event["event"]:
            case "cached":
                self._say(going, *story.cached(going.job, event["nodes"]))
            case "node_started":
                self._node_started(going, event)
            case "progress":
                self._progress(going, event)
            case "preview":
                self._preview(going, event)
            case "text":
                self._text(going, event)
            case "refused":
                said = story.refused(going.job, event["node"], event["message"], going.executed)
                self._say(going, *said)
            case "node_finished":
                self._node_finished(going, event)
            case "finished":
                self._finished(going)

    def _begin(self, event: Event) -> None:
        job = self._dispatcher.queue.get(event["job"])
        if job is not None:
            self._going[job.id] = Going(job)
            self._next.append((job.client, _message(*story.begun(job))))

    def _node_started(self, going: Going, event: Event) -> None:
        going.current = event["node"]
        self._update(going, event, state="running")
        data = {"node": event["node"], "display_node": event["display"], "prompt_id": going.job.id}
        self._say(going, "executing", data)

    def _progress(self, going: Going, event: Event) -> None:
        data = {"value": event["value"], "max": event["max"], "prompt_id": going.job.id, "node": event["node"]}
        self._say(going, "progress", data, passing=("progress", going.job.id))
        self._update(going, event, state="running", value=event["value"], max=event["max"])

    def _preview(self, going: Going, event: Event) -> None:
        socket = self._sockets.of(going.job.client)
        if socket is None:
            return
        if "png" in event:  # a node sends it on purpose: it is a result
            socket.push(Frame(struct.pack(">II", PREVIEW, PNG) + event["png"]))
        elif socket.flags and socket.flags.get("supports_preview_metadata"):
            told = json.dumps({**_place(going, event), "image_type": "image/jpeg"}).encode()
            head = struct.pack(">II", PREVIEW_WITH_METADATA, len(told))
            socket.push(Frame(head + told + event["jpeg"], ("preview", going.job.id)))
        elif self._previews:
            socket.push(Frame(struct.pack(">II", PREVIEW, JPEG) + event["jpeg"], ("preview", going.job.id)))

    def _text(self, going: Going, event: Event) -> None:
        socket = self._sockets.of(going.job.client)
        if socket is not None and socket.flags is not None:  # others take every binary message for a picture
            node = event["node"].encode()
            socket.push(Frame(struct.pack(">II", TEXT, len(node)) + node + event["text"].encode()))

    def _node_finished(self, going: Going, event: Event) -> None:
        node, output = event["node"], event.get("output")
        if event["status"] == "executed":
            going.executed.append(node)
        if output is not None or (event["status"] == "cached" and node in going.job.targets):
            data = {"node": node, "display_node": event["display"], "output": output, "prompt_id": going.job.id}
            self._say(going, "executed", data)
        if event["status"] == "executed" or node in going.job.targets:
            held = going.nodes.get(node, {}).get("max", 1)
            self._update(going, event, state="finished", value=held, max=held)

    def _finished(self, going: Going) -> None:
        if going.later is not None:
            self._tell_state(going)
        job = self._dispatcher.queue.get(going.job.id)  # its last message is the same as in its history
        if job is not None and job.messages:
            kind, data = job.messages[-1]
            if kind == "execution_interrupted" and job.client:  # whoever pressed stop wants to know as well
                self._tell_all(_message(kind, data))
            else:
                self._say(going, kind, data)
        self._forget(going.job.id)
        self._next.append((going.job.client, _message("executing", {"node": None, "prompt_id": going.job.id})))

    def _forget(self, job: str) -> None:
        going = self._going.pop(job, None)
        if going is not None and going.later is not None:
            going.later.cancel()

    def _update(self, going: Going, event: Event, **changes: Any) -> None:
        """Note the state of a node, and tell the whole of it now or soon."""
        fresh = {"value": 0, "max": 1, "state": "pending", **_place(going, event)}
        going.nodes[event["node"]] = going.nodes.get(event["node"], fresh) | changes
        loop = asyncio.get_running_loop()
        wait = going.told + PACE - loop.time() if len(going.nodes) > SMALL else 0
        if wait <= 0:
            self._tell_state(going)
        elif going.later is None:
            going.later = loop.call_later(wait, self._tell_state, going)

    def _tell_state(self, going: Going) -> None:
        if going.later is not None:
            going.later.cancel()
            going.later = None
        going.told = asyncio.get_running_loop().time()
        if (socket := self._sockets.of(going.job.client)) is not None:
            socket.push(self._state(going))

    def _state(self, going: Going) -> Frame:
        data = {"prompt_id": going.job.id, "nodes": going.nodes}
        return _message("progress_state", data, passing=("progress_state", going.job.id))

    def _count(self, socket: Socket, change: int) -> None:
        if self.wants(socket):
            self._dispatcher.events.previews += change

    def _say(self, going: Going, kind: str, data: Any, passing: Hashable = None) -> None:
        if (socket := self._sockets.of(going.job.client)) is not None:
            socket.push(_message(kind, data, passing))

    def _tell(self, client: str, frame: Frame) -> None:
        if (socket := self._sockets.of(client)) is not None:
            socket.push(frame)

    def _tell_all(self, frame: Frame) -> None:
        for socket in self._sockets:
            socket.push(frame)


def _message(kind: str, data: Any, passing: Hashable = None) -> Frame:
    return Frame(json.dumps({"type": kind, "data": data}), passing)


def _status(remaining: int, **more: Any) -> Frame:
    return _message("status", {"status": {"exec_info": {"queue_remaining": remaining}}, **more})


def _place(going: Going, event: Event) -> dict[str, Any]:
    """Which node something is said of, and where an editor shows it."""
    return {
        "node_id": event["node"],
        "prompt_id": going.job.id,
        "display_node_id": event["display"],
        "parent_node_id": event["parent"] or None,
        "real_node_id": event["display"],
    }
