"""Jobs by their ids: run, listed, looked at, moved and stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote, urlencode

from aiohttp import web

from ..errors import Conflict, NoSuchJob
from ..graph import Graph, Problem
from ..graph import targets as delivering
from ..host import Host
from ..jobs.dispatcher import Dispatcher
from ..jobs.job import FINAL, Job, State
from ..workflow import api
from .asked import Asked, asked
from .board import BOARD
from .guard import Refused, read_object
from .keys import OFFICE
from .office import Office
from .problems import all_told, sentence
from .thumbnails import thumbnail

STATES: tuple[State, ...] = ("pending", "running", *FINAL)
PAGE = 50  # jobs that are listed where nobody says how many
MOST = 500
PICTURE_TYPES = ("output", "temp", "input")

routes = web.RouteTableDef()


@routes.post("/limner/run")
async def run(request: web.Request) -> web.Response:
    """Have a workflow run.  The job is on disk before this answers; an id is good for one job."""
    office = request.app[OFFICE]
    wanted = await asked(request, "targets", "id", "client", "priority", "front", "extra")
    said = await asyncio.to_thread(_submission, office, wanted)
    if said["id"] is not None and (job := office.dispatcher.queue.get(said["id"])) is not None:
        words = f"there is a job {job.id!r} already, and it is {job.state}: look at it, or take another id"
        raise Refused(409, "conflict", words, job=summary(request, job))
    job = office.dispatcher.submit(**said)
    return web.json_response(summary(request, job), status=202, headers={"Location": _url(job)})


@routes.get("/limner/jobs")
async def all_jobs(request: web.Request) -> web.Response:
    """Jobs of any state, the newest first, a page at a time: `next` is where the next one begins, as `before`."""
    query, queue = request.query, request.app[OFFICE].dispatcher.queue
    limit = _whole(request, "limit", PAGE, 1, MOST)
    before = _whole(request, "before", 0, 1, 2**63 - 1) if "before" in query else None
    states, client = _states(request), query.get("client")
    jobs = await asyncio.to_thread(queue.page, before=before, limit=limit + 1, states=states, client=client)
    shown = await _summaries(request, jobs[:limit])
    return web.json_response({"jobs": shown, "next": jobs[limit - 1].sequence if len(jobs) > limit else None})


@routes.get("/limner/jobs/{id}")
async def one_job(request: web.Request) -> web.Response:
    """All that is known of a job."""
    job = await asyncio.to_thread(_job, request)
    (told,) = await _summaries(request, [job])
    return web.json_response(told | _details(job))


@routes.delete("/limner/jobs/{id}")
async def cancel(request: web.Request) -> web.Response:
    """Cancel a job that waits, or stop one that runs.  What has ended stays as it is."""
    job = _job(request)
    if job.final:
        raise _conflict(request, f"the job {job.id!r} has ended already: it is {job.state}", job)
    await _dispatcher(request).cancel(job.id)
    job = _job(request)
    return web.json_response(summary(request, job), status=200 if job.final else 202)


@routes.patch("/limner/jobs/{id}")
async def move(request: web.Request) -> web.Response:
    """Give a waiting job another `priority`, or have it run right `before` another one."""
    job, body = _job(request), await read_object(request)
    priority, before = body.get("priority"), body.get("before")
    if body.keys() - {"priority", "before"} or (priority is None) == (before is None):
        raise Refused(400, "bad_field", "the body must have either `priority`, a whole number, or `before`, a job's id")
    try:
        _dispatcher(request).prioritise(job.id, priority=priority, before=before)
    except NoSuchJob as error:
        raise Refused(404, error.code, str(error)) from None
    except Conflict as error:
        raise _conflict(request, str(error), job) from None
    (told,) = await _summaries(request, [_job(request)])
    return web.json_response(told)


@routes.get("/limner/jobs/{id}/thumbnail")
async def small_picture(request: web.Request) -> web.Response:
    """The job's first picture, small."""
    job = await asyncio.to_thread(_job, request)
    picture = next(_pictures(job.outputs), None)
    if picture is None:
        raise Refused(404, "no_picture", f"the job {job.id!r} has made no picture: it is {job.state}")
    return await thumbnail(request, picture)


@routes.get("/limner/queue")
async def queue(request: web.Request) -> web.Response:
    """Whether jobs are begun, and how many there are."""
    return web.json_response(_queue(_dispatcher(request)))


@routes.patch("/limner/queue")
async def pause(request: web.Request) -> web.Response:
    """Begin no more jobs, or go on."""
    body = await read_object(request)
    if body.keys() != {"paused"} or not isinstance(body["paused"], bool):
        raise Refused(400, "bad_field", "the body must have `paused`, which is true or false, and nothing else")
    _dispatcher(request).paused = body["paused"]
    return web.json_response(_queue(_dispatcher(request)))


def summary(request: web.Request, job: Job, position: int | None = None) -> dict[str, Any]:
    """A job in a list.  Belongs to the loop's thread."""
    going = request.app[BOARD].of(job.id)
    pictures = [*_pictures(job.outputs)]
    error = None if job.error is None else {k: job.error.get(k) for k in ("code", "node", "type", "message")}
    return {
        "id": job.id,
        "state": job.state,
        "client": job.client,
        "sequence": job.sequence,
        "priority": job.priority,
        "position": position,
        "attempt": job.attempt,
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
        "seconds": job.seconds,
        "progress": going.as_json() if going else None,
        "counts": {"executed": len(job.executed), "cached": len(job.cached)},
        "error": error,
        "pictures": [{**picture, "url": f"/view?{_query(picture)}"} for picture in pictures],
        "thumbnail": f"{_url(job)}/thumbnail" if pictures else None,
        "url": _url(job),
    }


def _queue(dispatcher: Dispatcher) -> dict[str, Any]:
    counts = dispatcher.queue.counts()
    return {"paused": dispatcher.paused, "pending": counts.get("pending", 0), "running": counts.get("running", 0)}


def _details(job: Job) -> dict[str, Any]:
    return {
        "targets": job.targets,
        "prompt": job.prompt,
        "document": job.document,
        "extra": job.extra,
        "outputs": job.outputs,
        "executed": job.executed,
        "cached": job.cached,
        "past": job.past,
    }


async def _summaries(request: web.Request, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """With the places in the queue of those that wait."""
    places: dict[str, int] = {}
    if any(job.state == "pending" for job in jobs):
        pending = await asyncio.to_thread(_dispatcher(request).queue.pending)
        places = {job.id: k for k, job in enumerate(pending, 1)}
    return [summary(request, job, places.get(job.id)) for job in jobs]


def _submission(office: Office, wanted: Asked) -> dict[str, Any]:
    """What the dispatcher is to be given.  Refuses a graph with problems in what is wanted of it."""
    graph = office.host.lowered(wanted.document)
    return {
        "prompt": api(graph),
        "targets": _targets(office.host, graph, wanted.targets),
        "id": wanted.text("id") or None,
        "client": wanted.text("client"),
        "priority": wanted.number("priority"),
        "front": wanted.truth("front"),
        "extra": wanted.data("extra"),
        "document": wanted.document.as_json(),
    }


def _targets(host: Host, graph: Graph, wanted: Sequence[str]) -> Sequence[str]:
    """The nodes to run.  Refuses a graph in which anything stops them, or of which nobody knows all nodes."""
    missing = [name for name in wanted if name not in graph]
    if missing:
        raise Refused(400, "usage", f"there is no node {missing[0]!r}; there are: {', '.join(graph)}")
    targets = wanted or delivering(graph, host.registry)
    strangers = () if wanted else tuple(i for i in graph if graph[i].type not in host.registry)
    problems = host.problems(graph, (*targets, *strangers))
    if not problems and not targets:
        problems = [Problem("", None, "nothing_to_do")]
    if problems:
        raise Refused(400, "invalid_graph", _counted(problems), problems=all_told(problems))
    return targets


def _counted(problems: Sequence[Problem]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"the workflow cannot run: {sentence(problems[0])}{more}"


def _job(request: web.Request) -> Job:
    name = request.match_info["id"]
    job = _dispatcher(request).queue.get(name)
    if job is None:
        raise Refused(404, NoSuchJob.code, f"there is no job {name!r}: it was never posted, or is forgotten by now")
    return job


def _dispatcher(request: web.Request) -> Dispatcher:
    return request.app[OFFICE].dispatcher


def _conflict(request: web.Request, message: str, job: Job) -> Refused:
    return Refused(409, Conflict.code, message, job=summary(request, job))


def _pictures(outputs: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The pictures among what nodes show, those that are saved before previews."""
    found = [
        {"node": node, **{key: str(image.get(key, "")) for key in ("filename", "subfolder", "type")}}
        for node, shown in outputs.items()
        if isinstance(shown, dict) and isinstance(images := shown.get("images"), list)
        for image in images
        if isinstance(image, dict) and image.get("filename") and image.get("type", "output") in PICTURE_TYPES
    ]
    yield from sorted(found, key=lambda picture: PICTURE_TYPES.index(picture["type"] or "output"))


def _query(picture: Mapping[str, str]) -> str:
    return urlencode({key: picture[key] for key in ("filename", "subfolder", "type")})


def _url(job: Job) -> str:
    return f"/limner/jobs/{quote(job.id, safe='')}"


def _states(request: web.Request) -> list[State]:
    found = request.query.getall("state", [])
    for state in found:
        if state not in STATES:
            raise Refused(400, "bad_query", f"there is no state {state!r}; there are: {', '.join(STATES)}")
    return cast("list[State]", found)


def _whole(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number in the address."""
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and low <= int(text) <= high):
        raise Refused(400, "bad_query", f"{name} must be a whole number from {low} to {high}, not {text[:80]!r}")
    return int(text)
