"""GET /limner/events: what happens, as server-sent events.  Who comes back with the last number seen misses nothing."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

from aiohttp import web

from ..errors import Gone
from ..jobs.events import Events
from .guard import Refused
from .jobs import summary
from .keys import OFFICE

QUIET = 15.0  # seconds after which a word is said so that nobody thinks the connection dead
PATIENCE = 60.0  # seconds that a reader may leave a full buffer standing
RETRY = 1000  # milliseconds after which browsers come back
LAST = ("finished", "cancelled")  # events after which a job may have ended
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}

STREAMS: web.AppKey[set[asyncio.Task[Any]]] = web.AppKey("streams")

routes = web.RouteTableDef()


@routes.get("/limner/events", allow_head=False)  # it has no end
async def events(request: web.Request) -> web.StreamResponse:
    """All events, or those of one `job`, after the number `since`; where none is given, after how things are now."""
    since, job = _since(request), request.query.get("job")
    if since is not None and job is not None and _over(request, since, job):
        return web.Response(status=204)  # tells browsers not to come back
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(request)
    with _counted(request):
        await _sent(response, f"retry: {RETRY}\n\n")
        async for text in _texts(request, since, job):
            await _sent(response, text)
    return response


async def end_streams(app: web.Application) -> None:
    """Hang up: the server ends."""
    streams = app[STREAMS]
    for task in tuple(streams):
        task.cancel()


@contextmanager
def _counted(request: web.Request) -> Iterator[None]:
    """One of the streams that are hung up on at the end; and before that, if the reader has gone or does not read."""
    streams, task = request.app[STREAMS], asyncio.current_task()
    if task is not None:
        streams.add(task)
    try:
        yield
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
    finally:
        streams.difference_update({task})


async def _texts(request: web.Request, since: int | None, job: str | None) -> AsyncIterator[str]:
    """What is sent, piece by piece, until the job has ended or for ever."""
    log = request.app[OFFICE].dispatcher.events
    name = "snapshot" if since is None else ""
    while True:
        if name:
            since = log.last
            yield _told(_state(request, name, job))
            if job is not None and _ended(request, job):
                return
        try:
            async with aclosing(_merged(log, since or 0, job, pictures="previews" in request.query)) as found:
                async for event in found:
                    if event is None:
                        yield ": still here\n\n"
                        continue
                    yield _told(event)
                    if job is not None and event["event"] in LAST and _ended(request, job):
                        return
            return
        except Gone:
            name = "reset"


async def _merged(
    log: Events, since: int, job: str | None, *, pictures: bool
) -> AsyncGenerator[Mapping[str, Any] | None]:
    """Events as they come, with pictures of half-done work if they are wanted, and None where nothing has come."""
    latest = Latest(job)
    stop = log.listen(latest.hear) if pictures else lambda: None
    log.previews += pictures
    follower = log.follow(since, job)
    news: asyncio.Future[Any] = asyncio.ensure_future(anext(follower))
    picture: asyncio.Future[Any] = asyncio.ensure_future(latest.next())
    try:
        while True:
            done, _ = await asyncio.wait({news, picture}, timeout=QUIET, return_when=asyncio.FIRST_COMPLETED)
            if news in done:
                yield news.result()
                news = asyncio.ensure_future(anext(follower))
            if picture in done:
                yield picture.result()
                picture = asyncio.ensure_future(latest.next())
            if not done:
                yield None
    except StopAsyncIteration:  # the log is closed
        return
    finally:
        stop()
        log.previews -= pictures
        await _cancelled((news, picture))
        if isinstance(follower, AsyncGenerator):
            await follower.aclose()


class Latest:
    """The latest picture of each job's half-done work.  Those that nobody has taken in time are dropped."""

    def __init__(self, job: str | None) -> None:
        self._job = job
        self._pictures: dict[str, Mapping[str, Any]] = {}
        self._news = asyncio.Event()

    def hear(self, event: Mapping[str, Any]) -> None:
        """Keep a picture that is of interest."""
        if event["event"] == "preview" and "jpeg" in event and self._job in (None, event["job"]):
            self._pictures[event["job"]] = event
            self._news.set()

    async def next(self) -> dict[str, Any]:
        """The next picture, as JSON can have it."""
        while not self._pictures:
            self._news.clear()
            await self._news.wait()
        event = self._pictures.pop(next(iter(self._pictures)))
        image = f"data:image/jpeg;base64,{base64.b64encode(event['jpeg']).decode()}"
        return {**{k: v for k, v in event.items() if k not in ("jpeg", "seq")}, "image": image}


def _state(request: web.Request, name: str, job: str | None) -> dict[str, Any]:
    """How things are: the jobs that wait and run, or the one asked for.  What follows comes after this."""
    dispatcher = request.app[OFFICE].dispatcher
    pending, running = dispatcher.queue.pending(), dispatcher.queue.running()
    places = {found.id: k for k, found in enumerate(pending, 1)}
    jobs = [*running, *pending]
    if job is not None:
        jobs = [found] if (found := dispatcher.queue.get(job)) else []
    shown = [summary(request, each, places.get(each.id)) for each in jobs]
    return {"event": name, "seq": dispatcher.events.last, "remaining": len(pending) + len(running), "jobs": shown}


def _told(event: Mapping[str, Any]) -> str:
    """An event in the format of server-sent events; one without a number is not counted."""
    number = f"id: {event['seq']}\n" if "seq" in event else ""
    return f"{number}data: {json.dumps(event, default=str)}\n\n"


async def _sent(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(PATIENCE):
        await response.write(text.encode())


async def _cancelled(tasks: Iterable[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _since(request: web.Request) -> int | None:
    """The last number that the client has seen: a browser that comes back says it in a header."""
    text = request.headers.get("Last-Event-ID", request.query.get("since"))
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise Refused(400, "bad_query", f"`since` must be the number of an event, not {text[:80]!r}")
    return int(text)


def _ended(request: web.Request, job: str) -> bool:
    found = request.app[OFFICE].dispatcher.queue.get(job)
    return found is not None and found.final


def _over(request: web.Request, since: int, job: str) -> bool:
    """Whether a job has ended, and the client has heard all of it."""
    try:
        return _ended(request, job) and not request.app[OFFICE].dispatcher.events.since(since, job)
    except Gone:
        return False
