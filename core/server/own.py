"""Limner's own routes: everything below /limner/, /health and /metrics, with what they keep beside the office."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from aiohttp import web

from ..forecast import warm
from ..shelf import Shelf
from . import feed, health, jobs, library, metrics, openapi, planning
from .board import BOARD, Board
from .feed import STREAMS, end_streams
from .health import BEGUN
from .keys import LISTINGS, OFFICE
from .library import SHELF
from .metrics import METRICS, Metrics
from .pages import PAGES, Pages

MODULES = (planning, jobs, feed, library, health, metrics, openapi)


def furnish(app: web.Application) -> None:
    """Add them to a server whose office and listings are set.  Requests are counted before they pass any other rule."""
    office, listings = app[OFFICE], app[LISTINGS]
    app[BOARD] = Board(office.dispatcher.queue)
    app[METRICS] = Metrics(office, app[BOARD])
    app[PAGES] = Pages(lambda: listings.current().page.tag)
    app[SHELF] = Shelf(office.host.folders.base / "workflows")
    app[STREAMS] = set()
    app[BEGUN] = time.monotonic()
    app.middlewares.insert(0, metrics.counted)
    for module in MODULES:
        app.add_routes(module.routes)
    app.cleanup_ctx.append(_heard)
    app.on_shutdown.append(end_streams)


async def _heard(app: web.Application) -> AsyncIterator[None]:
    """Follow what happens, from before the first job is begun; and be ready for the first plan."""
    log, board = app[OFFICE].dispatcher.events, app[BOARD]
    stops = [log.listen(app[METRICS].hear), log.listen(board.hear)]  # what is counted is looked up on the board
    board.begin()
    warm(app[OFFICE].host)  # not beside the first job: Python before 3.11.8 fails where two threads parse sources
    yield
    for stop in stops:
        stop()
