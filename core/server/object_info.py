"""GET /object_info: what nodes there are, and what they take."""

from __future__ import annotations

import asyncio

from aiohttp import web

from .keys import LISTINGS
from .listing import Listing
from .pages import sent

routes = web.RouteTableDef()


@routes.get("/object_info")
async def all_nodes(request: web.Request) -> web.Response:
    """Every node.  Who has them already is told so."""
    return sent(request, (await _listing(request)).page)


@routes.get("/object_info/{class}")
async def one_node(request: web.Request) -> web.Response:
    """One node by its id; an empty object where there is none."""
    name = request.match_info["class"]
    nodes = (await _listing(request)).nodes
    return web.json_response({name: nodes[name]} if name in nodes else {})


async def _listing(request: web.Request) -> Listing:
    return await asyncio.to_thread(request.app[LISTINGS].current)
