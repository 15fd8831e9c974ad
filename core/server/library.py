"""Workflows on the server: stored ones with their revisions and versions, and those that come along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, ParamSpec, TypeVar

from aiohttp import web

from ..examples import Example, examples
from ..graph import near
from ..shelf import NotThere, Outdated, Shelf, Stored
from ..workflow import dumps
from .asked import document
from .guard import JSON_LIMIT, Refused, read_body
from .keys import OFFICE

P = ParamSpec("P")
T = TypeVar("T")

SHELF: web.AppKey[Shelf] = web.AppKey("shelf", Shelf)

routes = web.RouteTableDef()


@routes.get("/limner/workflows")
async def all_workflows(request: web.Request) -> web.Response:
    """Every stored workflow, by path."""
    found = await _done(_shelf(request).all)
    return web.json_response({"workflows": [_stored(stored) for stored in found]})


@routes.get("/limner/workflows/{path:.+}/versions")
async def versions(request: web.Request) -> web.Response:
    """What a workflow was before, the latest first."""
    found = await _done(_shelf(request).versions, request.match_info["path"])
    return web.json_response({"versions": [asdict(version) for version in found]})


@routes.get(r"/limner/workflows/{path:.+}/versions/{number:\d{1,9}}")
async def version(request: web.Request) -> web.Response:
    """One of them."""
    path, number = request.match_info["path"], int(request.match_info["number"])
    found, content = await _done(_shelf(request).version, path, number)
    return _content(request, content, found.revision)


@routes.get("/limner/workflows/{path:.+}")
async def read(request: web.Request) -> web.Response:
    """One workflow, as its file has it.  The ETag is its revision."""
    stored, content = await _done(_shelf(request).read, request.match_info["path"])
    return _content(request, content, stored.revision)


@routes.put("/limner/workflows/{path:.+}")
async def put(request: web.Request) -> web.Response:
    """Store a workflow.  To replace one, `If-Match` says which revision; `If-None-Match: *` says that it is new."""
    body = await read_body(request, JSON_LIMIT)
    known = request.app[OFFICE].host.sockets
    content = await asyncio.to_thread(lambda: dumps(document(body, known)).encode())
    path, seen, new = request.match_info["path"], _seen(request), _new(request)
    stored, created = await _done(_shelf(request).put, path, content, seen, new=new)
    return web.json_response(_stored(stored), status=201 if created else 200, headers=_tag(stored.revision))


@routes.delete("/limner/workflows/{path:.+}")
async def delete(request: web.Request) -> web.Response:
    """Take a workflow away.  Its versions stay."""
    await _done(_shelf(request).delete, request.match_info["path"], _seen(request))
    return web.Response(status=204)


@routes.get("/limner/examples")
async def all_examples(_: web.Request) -> web.Response:
    """The workflows that come along."""
    found = await asyncio.to_thread(examples)
    return web.json_response({"examples": [_example(example) for example in found.values()]})


@routes.get("/limner/examples/{name}")
async def example(request: web.Request) -> web.Response:
    """One of them, as its file has it."""
    found = await _named(request)
    return web.Response(body=found.content, content_type="application/json", charset="utf-8")


@routes.get("/limner/examples/{name}/picture")
async def example_picture(request: web.Request) -> web.Response:
    """What it draws."""
    found = await _named(request)
    content = await asyncio.to_thread(found.picture.read_bytes)
    return web.Response(body=content, content_type="image/webp", headers={"Cache-Control": "max-age=3600"})


async def _named(request: web.Request) -> Example:
    name = request.match_info["name"]
    found = await asyncio.to_thread(examples)
    if name not in found:
        raise Refused(404, "not_found", f"no workflow called {name!r} comes along{near(name, found)}")
    return found[name]


def _shelf(request: web.Request) -> Shelf:
    return request.app[SHELF]


async def _done(act: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
    """Do it beside the event loop."""
    with _told():
        return await asyncio.to_thread(act, *values, **named)


@contextmanager
def _told() -> Iterator[None]:
    """What a shelf refuses, as answers: 404, 412 with the revision that is there, 428 where none was named."""
    try:
        yield
    except NotThere as error:
        raise Refused(404, error.code, str(error)) from None
    except Outdated as error:
        status = 428 if error.code == "revision_needed" else 412
        headers = {} if error.current is None else _tag(error.current)
        raise Refused(status, error.code, str(error), headers=headers, current=error.current) from None


def _seen(request: web.Request) -> str | None:
    """The revision that `If-Match` names."""
    if "If-Match" not in request.headers:
        return None
    if len(tags := request.if_match or ()) != 1:
        raise Refused(400, "bad_revision", "If-Match must be one revision in quotes, as ETag gave it, or a star")
    return tags[0].value


def _new(request: web.Request) -> bool:
    """Whether `If-None-Match` says that there must be none yet."""
    if "If-None-Match" not in request.headers:
        return False
    if [tag.value for tag in request.if_none_match or ()] != ["*"]:
        raise Refused(400, "bad_revision", "If-None-Match must be a star where something is written")
    return True


def _content(request: web.Request, content: bytes, revision: str) -> web.Response:
    headers = {**_tag(revision), "Cache-Control": "no-cache"}
    if any(tag.value == revision for tag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=content, content_type="application/json", charset="utf-8", headers=headers)


def _tag(revision: str) -> dict[str, str]:
    return {"ETag": f'"{revision}"'}


def _stored(stored: Stored) -> dict[str, Any]:
    return {**asdict(stored), "name": stored.path.rpartition("/")[2].removesuffix(".json")}


def _example(example: Example) -> dict[str, Any]:
    return {
        "name": example.name,
        "about": example.about,
        "nodes": example.nodes,
        "picture": f"/limner/examples/{example.name}/picture",
    }
