"""The dispatcher: takes jobs from the queue, hands them to workers, records what became of them, and tells of it all.

What a job has come to is recorded before anybody hears that it has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..errors import StorageError, WorkerLost
from . import story, telling
from .backend import Backend, Result
from .events import Events
from .job import Job, Message
from .queue import Queue
from .timings import Timings

DISK = "disk"  # what may be amiss beside lanes
RETRY = 1.0  # seconds, after something went wrong that is no job's fault
GOODBYE = 5.0  # seconds that jobs have to stop when the server ends

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    """A job at work, and what is to be said of it in its history."""

    job: Job
    messages: list[Message] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    stopping: bool = False  # somebody has asked for that


class Dispatcher:
    """One lane for each worker.  Belongs to the thread of one event loop, as its events do."""

    def __init__(  # noqa: PLR0913 - what it holds together
        self,
        queue: Queue,
        events: Events,
        backend: Backend,
        timings: Timings,
        *,
        together: int = 1,
        paused: bool = False,
    ) -> None:
        """Of the jobs that wait, `together` run side by side on a worker; a paused one begins none."""
        self.queue, self.events, self.backend, self.timings = queue, events, backend, timings
        self._together, self._paused = together, paused
        self._running: dict[str, _Running] = {}
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._troubled: set[str] = set()  # lanes in which something goes wrong now, and DISK
        self._news = asyncio.Event()
        self._previews = False  # what the backend was told
        self._closing = False

    async def start(self) -> None:
        """Recover what a kill has cut short, start the workers, and begin."""
        for job in self.queue.recover():
            self._tell_again(job, "the server was ended while it ran")
        self._tell_queue()
        await self.backend.start(self._hear)
        self._lanes = {w.id: asyncio.create_task(self._watched(w.id)) for w in self.backend.workers()}

    async def close(self) -> None:
        """Stop the jobs that run, so that they will run again, and end the workers."""
        self._closing = True
        self._wake()
        for name in tuple(self._running):
            await self.backend.interrupt(name)
        if self._lanes:
            await asyncio.wait(self._lanes.values(), timeout=GOODBYE)
        for lane in self._lanes.values():
            lane.cancel()
        await asyncio.gather(*self._lanes.values(), return_exceptions=True)
        await self.backend.close()
        for name in tuple(self._running):
            with suppress(StorageError):  # it runs in the queue's eyes, and is recovered at the next start
                self.queue.requeue(name, counted=False, reason="the server was shut down")
        self._running.clear()
        self.timings.flush()

    def submit(self, **job: Any) -> Job:
        """Accept a job, as `Queue.submit`."""
        accepted = self.queue.submit(**job)
        self._say("queued", accepted, number=accepted.number, priority=accepted.priority)
        self._tell_queue()
        self._wake()
        return accepted

    def push(self, kind: str | int, data: Any, to: str | None) -> None:
        """Tell of what a pack has to say, from any thread, after what its node has done before."""
        self.backend.tell(telling.of_pack(kind, data, to))

    async def interrupt(self, id: str | None = None) -> bool:  # noqa: A002 - it is what jobs have
        """Stop a job that runs, or all that run now; never one that begins later.  Whether there was any."""
        names = tuple(self._running) if id is None else (id,) if id in self._running else ()
        for name in names:
            self._running[name].stopping = True
        for name in names:
            await self.backend.interrupt(name)
        return bool(names)

    async def cancel(self, id: str) -> Job | None:  # noqa: A002
        """Cancel a job that waits, or stop one that runs; None if it does neither."""
        job = self.queue.cancel(id)
        if job is not None:
            self._say("cancelled", job)
            self._tell_queue()
            return job
        return self.queue.get(id) if await self.interrupt(id) else None

    def clear(self) -> int:
        """Cancel all jobs that wait; how many those were."""
        waiting = self.queue.pending()
        count = self.queue.clear()
        for job in waiting:
            self._say("cancelled", job)
        self._tell_queue()
        return count

    def prioritise(self, id: str, *, priority: int | None = None, before: str | None = None) -> Job:  # noqa: A002
        """Change when a job that waits will run, as `Queue.prioritise`."""
        job = self.queue.prioritise(id, priority=priority, before=before)
        self._say("prioritised", job, number=job.number, priority=job.priority)
        self._tell_queue()
        return job

    async def free(self, *, models: bool, cache: bool) -> None:
        """Have the workers free memory when their jobs have ended."""
        await self.backend.free(models=models, cache=cache)

    @property
    def paused(self) -> bool:
        """Whether jobs are accepted, but not begun."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._paused = paused
        self._wake()

    @property
    def alive(self) -> bool:
        """Whether jobs that wait are going to run: a worker is there for them, and nothing is amiss."""
        lanes = bool(self._lanes) and not self._closing and not any(lane.done() for lane in self._lanes.values())
        return lanes and not self._troubled and any(worker.alive for worker in self.backend.workers())

    async def _watched(self, worker: str) -> None:
        """A lane, begun anew whenever something ends it."""
        while not self._closing:
            try:
                await self._lane(worker)
            except Exception:  # a full disk, or a fault of our own: others' jobs must not wait for ever
                log.exception("the dispatcher's lane of %s has ended; it begins anew", worker)
                self._troubled.add(worker)
                await asyncio.sleep(RETRY)

    async def _lane(self, worker: str) -> None:
        while not self._closing:
            news = self._news
            jobs = self._taken(worker)
            self._troubled.discard(worker)
            if jobs:
                await self._work(jobs, worker)
            else:
                await news.wait()

    def _taken(self, worker: str) -> list[Job]:
        """The next jobs for a worker.  Nothing happens in this thread until they are handed on: no stop is lost."""
        free = any(w.id == worker and w.alive and not w.busy for w in self.backend.workers())
        jobs = self.queue.claim(self._together) if free and not self._paused and not self._closing else []
        for job in jobs:
            self._running[job.id] = _Running(job, [story.begun(job)])
        for job in jobs:
            self._say("started", job, attempt=job.attempt, worker=worker)
        if jobs:
            self._tell_queue()
        self._show_previews()
        return jobs

    async def _work(self, jobs: Sequence[Job], worker: str) -> None:
        """Have jobs run, and see to it that each comes to an end."""
        reason = "its worker has not said what became of it"
        try:
            for result in await self.backend.run(jobs, worker):
                await self._recorded(result)
        except WorkerLost as lost:
            reason = str(lost)
        except Exception:
            log.exception("%s has failed", worker)
            self._troubled.add(worker)
            reason = "its worker has failed"
        if not self._closing:
            await self._lost([job.id for job in jobs if job.id in self._running], reason)

    async def _lost(self, names: Sequence[str], reason: str) -> None:
        """The worker is gone, and these jobs have not ended.  Those that were to be stopped have; others run again."""
        blamed = not any(self._running[name].stopping for name in names)
        for name in names:
            if self._running[name].stopping:
                error = story.error("interrupted", "Interrupted", f"stopped: {reason}")
                await self._recorded(Result(name, "interrupted", error=error))
            else:
                await self._again(name, reason, counted=blamed)

    async def _again(self, name: str, reason: str, *, counted: bool) -> None:
        while True:
            try:
                job = self.queue.requeue(name, counted=counted, reason=reason)
            except StorageError:
                await self._wait_for_disk()
            else:
                break
        self._troubled.discard(DISK)
        del self._running[name]
        self._tell_again(job, reason)
        self._tell_queue()
        self._wake()

    async def _recorded(self, result: Result) -> None:
        """Record a result, however long the disk refuses."""
        while True:
            try:
                self._record(result)
            except StorageError:
                await self._wait_for_disk()
            else:
                self._troubled.discard(DISK)
                return

    async def _wait_for_disk(self) -> None:
        log.exception("what became of a job cannot be recorded; it is tried again")
        self._troubled.add(DISK)
        await asyncio.sleep(RETRY)

    def _record(self, result: Result) -> None:
        """Write what became of a job, then tell of it; nothing if that is done."""
        running = self._running.get(result.job)
        if running is None:
            return
        if result.state == "interrupted" and self._closing and not running.stopping:
            self.queue.requeue(result.job, counted=False, reason="the server was shut down")
            del self._running[result.job]
            return
        last = story.ended(running.job, result.state, result.error, result.executed, result.cached)
        found = {name: getattr(result, name) for name in ("outputs", "meta", "error", "executed", "cached", "seconds")}
        job = self.queue.finish(result.job, result.state, messages=(*running.messages, last), **found)
        del self._running[result.job]
        if result.trace:
            log.error("the job %s has failed at the node %s:\n%s", job.id, (job.error or {}).get("node"), result.trace)
        log.info("the job %s is %s: %d run, %d cached", job.id, job.state, len(job.executed), len(job.cached))
        self.timings.flush()
        self._tell_end(job)
        self._tell_queue()

    def _hear(self, event: dict[str, Any]) -> None:
        """An event of the backend's."""
        self._show_previews()
        name = event["event"]
        if name == "worker":
            self._wake()
            return
        if name == "ended":
            with suppress(StorageError):  # then the lane tries again
                self._record(Result.from_json(event["result"]))
            return
        running = self._running.get(event["job"])
        if running is not None:
            self._note(running, event)
        if running is not None or not event["job"]:  # else it is of a job that is not there any more
            self.events.say(event)

    def _note(self, running: _Running, event: dict[str, Any]) -> None:
        """What history and the timings keep of an event."""
        match event:
            case {"event": "cached", "nodes": nodes}:
                running.messages.append(story.cached(running.job, nodes))
            case {"event": "refused", "node": node, "message": message}:
                running.messages.append(story.refused(running.job, node, message, running.executed))
            case {"event": "node_finished", "node": node, "status": status, "seconds": seconds}:
                running.executed.append(node)
                entry = running.job.prompt.get(node)
                if status == "executed" and entry is not None:
                    self.timings.note(entry["class_type"], entry.get("inputs", {}), seconds)

    def _show_previews(self) -> None:
        wanted = self.events.previews > 0
        if wanted != self._previews:
            self._previews = wanted
            self.backend.show_previews(wanted)

    def _tell_again(self, job: Job, reason: str) -> None:
        """A job was cut short: it waits again, or is set aside."""
        if job.final:
            log.error("the job %s was set aside: %s, %d times", job.id, reason, job.attempt)
            self._tell_end(job)
        else:
            self._say("queued", job, number=job.number, priority=job.priority, attempt=job.attempt, reason=reason)

    def _tell_end(self, job: Job) -> None:
        kept = {"state": job.state, "error": job.error, "seconds": job.seconds, "message": list(job.messages[-1])}
        self._say("finished", job, **kept, executed=list(job.executed), cached=list(job.cached))

    def _tell_queue(self) -> None:
        self.events.say({"event": "queue", "job": "", "client": "", "remaining": self.queue.remaining()})

    def _say(self, name: str, job: Job, **more: Any) -> None:
        self.events.say({"event": name, "job": job.id, "client": job.client, **more})

    def _wake(self) -> None:
        """Have the lanes look again."""
        self._news.set()
        self._news = asyncio.Event()
