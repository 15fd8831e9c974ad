"""Workflows looked at and not run: what would run, what is wrong, what a file may hold, and what nodes there are."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from ..catalogue import as_json
from ..forecast import Forecast, Outlook, forecast
from ..graph import Problem
from ..jobs.bench import SCOPE
from ..json_schema import workflow_schema
from .asked import Asked, asked
from .keys import OFFICE
from .office import Office
from .pages import PAGES, sent
from .problems import all_told

routes = web.RouteTableDef()


@routes.post("/limner/plan")
async def plan(request: web.Request) -> web.Response:
    """Each node cached, will run, blocked or idle, why, and how long all of it will take."""
    wanted = await asked(request, "targets", "force")
    found = await asyncio.to_thread(_forecast, request.app[OFFICE], wanted)
    return web.json_response({**_planned(found), "warnings": wanted.document.warnings})


@routes.post("/limner/validate")
async def validate(request: web.Request) -> web.Response:
    """Everything that is wrong with a workflow, all at once."""
    wanted = await asked(request, "targets")
    found = await asyncio.to_thread(_problems, request.app[OFFICE], wanted)
    told = {"valid": not found, "problems": all_told(found), "warnings": wanted.document.warnings}
    return web.json_response(told)


@routes.get("/limner/schema")
async def schema(request: web.Request) -> web.Response:
    """The JSON Schema of workflow files, with the nodes that there are."""
    registry = request.app[OFFICE].host.registry
    return sent(request, await request.app[PAGES].page("schema", lambda: workflow_schema(registry)))


@routes.get("/limner/nodes")
async def nodes(request: web.Request) -> web.Response:
    """Every node by its id: what it takes, gives and is for."""
    registry = request.app[OFFICE].host.registry
    return sent(request, await request.app[PAGES].page("nodes", lambda: as_json(registry)))


def _forecast(office: Office, wanted: Asked) -> Forecast:
    graph = office.host.lowered(wanted.document)
    expect = office.dispatcher.timings.expect
    return forecast(office.host, graph, wanted.targets, wanted.forced, scope=SCOPE, expect=expect)


def _problems(office: Office, wanted: Asked) -> list[Problem]:
    """Of the whole workflow, or of what the targets need."""
    graph = office.host.lowered(wanted.document)
    found = office.host.problems(graph, wanted.targets or None)
    delivers = wanted.targets or any(
        node.delivers for instance in graph.values() if (node := office.host.registry.get(instance.type))
    )
    return found if found or delivers else [Problem("", None, "nothing_to_do")]


def _planned(found: Forecast) -> dict[str, Any]:
    return {
        "targets": found.targets,
        "counts": found.counts,
        "seconds": round(found.seconds, 3),
        "unknown": found.unknown,
        "nodes": [_node(outlook) for outlook in found.nodes],
        "problems": all_told(found.problems),
    }


def _node(outlook: Outlook) -> dict[str, Any]:
    seconds = None if outlook.seconds is None else round(outlook.seconds, 4)
    return {
        "id": outlook.node,
        "type": outlook.type,
        "state": outlook.state,
        "reason": outlook.reason,
        "seconds": seconds,
    }
