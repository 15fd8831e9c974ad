"""POST /prompt, the queue and the history: how ComfyUI's clients have graphs run, and learn what has become of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from ..errors import Conflict
from ..jobs.job import Job
from .guard import Refused, read_json, read_object
from .keys import OFFICE
from .submission import Submission, understood
from .verdict import Verdict

FAST = 200  # jobs of the history that are told to who does not say how many: it is also asked as a sign of life

routes = web.RouteTableDef()


@routes.get("/prompt")
async def remaining(request: web.Request) -> web.Response:
    """How many jobs wait or run."""
    count = request.app[OFFICE].dispatcher.queue.remaining()
    return web.json_response({"exec_info": {"queue_remaining": count}})


@routes.post("/prompt")
async def submit(request: web.Request) -> web.Response:
    """Take a graph to be run.  It is on disk before this answers."""
    office = request.app[OFFICE]
    body = office.packs.handled(await read_object(request))
    submission, verdict = await asyncio.to_thread(understood, body, office.host)
    if not verdict.good:
        kind, sentence = "prompt_outputs_failed_validation", "Prompt outputs failed validation"
        error = {"type": kind, "message": sentence, "details": "", "extra_info": {}}
        return web.json_response({"error": error, "node_errors": verdict.errors}, status=400)
    job = _taken(request, submission, verdict)
    return web.json_response({"prompt_id": job.id, "number": job.number, "node_errors": verdict.errors})


@routes.get("/queue")
async def queue(request: web.Request) -> web.Response:
    """What runs, and what waits in the order in which it will run."""
    jobs = request.app[OFFICE].dispatcher.queue
    running, pending = await asyncio.to_thread(lambda: (jobs.running(), jobs.pending()))
    return web.json_response({"queue_running": [*map(_row, running)], "queue_pending": [*map(_row, pending)]})


@routes.post("/queue")
async def change_queue(request: web.Request) -> web.Response:
    """Cancel what waits: all of it, or the jobs named."""
    dispatcher = request.app[OFFICE].dispatcher
    body = await read_object(request)
    if body.get("clear"):
        dispatcher.clear()
    for name in _names(body):
        job = dispatcher.queue.get(name)
        if job is not None and job.state == "pending":  # what runs is for /interrupt
            await dispatcher.cancel(name)
    return web.Response()


@routes.get("/history")
async def history(request: web.Request) -> web.Response:
    """What has become of jobs, in the order in which they ended."""
    most, offset = _whole(request, "max_items"), _whole(request, "offset")
    if most is None and offset is None:
        most = FAST
    jobs = request.app[OFFICE].dispatcher.queue

    def told() -> str:
        found = jobs.history(most=most, offset=-1 if offset is None else offset)
        return json.dumps({job.id: _entry(job) for job in found})

    return web.json_response(text=await asyncio.to_thread(told))


@routes.get("/history/{prompt_id}")
async def history_of(request: web.Request) -> web.Response:
    """What has become of a job; an empty object where that is not known, or not yet."""
    job = request.app[OFFICE].dispatcher.queue.get(request.match_info["prompt_id"])
    told = job is not None and job.final and job.state != "cancelled"
    return web.json_response({job.id: _entry(job)} if told and job else {})


@routes.post("/history")
async def change_history(request: web.Request) -> web.Response:
    """Forget jobs that have ended: all of them, or those named."""
    jobs = request.app[OFFICE].dispatcher.queue
    body = await read_object(request)
    if body.get("clear"):
        jobs.forget(None)
    jobs.forget(_names(body))
    return web.Response()


@routes.post("/interrupt")
async def interrupt(request: web.Request) -> web.Response:
    """Stop the job that runs, or the one named if it runs."""
    body = await read_json(request, empty={})
    named = body.get("prompt_id") if isinstance(body, dict) else None
    await request.app[OFFICE].dispatcher.interrupt(None if named is None else str(named))
    return web.Response()


@routes.post("/jobs/{id}/cancel")
async def cancel(request: web.Request) -> web.Response:
    """Cancel a job that waits, or stop one that runs; whether it did either."""
    job = await request.app[OFFICE].dispatcher.cancel(request.match_info["id"])
    return web.json_response({"cancelled": job is not None})


@routes.post("/free")
async def free(request: web.Request) -> web.Response:
    """Unload models, and forget results, after the job that runs now."""
    body = await read_object(request, empty={})
    cache = bool(body.get("free_memory"))
    models = bool(body.get("unload_models")) or cache
    if models:
        await request.app[OFFICE].dispatcher.free(models=models, cache=cache)
    return web.Response()


def _taken(request: web.Request, submission: Submission, verdict: Verdict) -> Job:
    """The job that a submission becomes.  Who posts the same twice, not having heard the answer, gets the same job."""
    dispatcher = request.app[OFFICE].dispatcher
    try:
        return dispatcher.submit(
            prompt=submission.prompt,
            targets=verdict.good,
            id=submission.id,
            client=submission.client,
            number=submission.number,
            front=submission.front,
            priority=submission.priority,
            extra=submission.extra,
            document=submission.document,
        )
    except Conflict:
        job = dispatcher.queue.get(submission.id)
        if job is None or job.prompt != submission.prompt:
            raise
        return job


def _row(job: Job) -> list[Any]:
    return [job.number, job.id, job.prompt, job.extra, list(job.targets)]


def _entry(job: Job) -> dict[str, Any]:
    done = job.state == "done"
    return {
        "prompt": _row(job),
        "outputs": job.outputs,
        "status": {"status_str": "success" if done else "error", "completed": done, "messages": job.messages},
        "meta": job.meta,
    }


def _names(body: dict[str, Any]) -> list[str]:
    found = body.get("delete") or []
    if not isinstance(found, list):
        raise Refused(400, "invalid_json", "delete must be a list of ids")
    return [str(name) for name in found]


def _whole(request: web.Request, name: str) -> int | None:
    """A number in the address; what is none counts as not said, as clients expect."""
    try:
        return int(request.query[name])
    except (KeyError, ValueError):
        return None
