"""The application: all routes put together, and what they need begun and ended with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence

from aiohttp import web

from . import (
    extensions,
    files,
    guard,
    machine,
    models,
    object_info,
    own,
    page,
    prompt,
    uploads,
    userdata,
    users,
    websocket,
)
from .herald import Herald
from .keys import HERALD, LISTINGS, OFFICE, RECENT, SETTINGS, SETTINGS_FILE, SOCKETS, USERS_FILE
from .listing import Listings
from .log import Line, Recent
from .office import Office
from .settings import Settings
from .sockets import Sockets
from .users import Kept

PREFIX = "/api"
COMFYUI = (prompt, websocket, object_info, models, machine, users, extensions, files, uploads, userdata)
UNPREFIXED = ("/internal/", "/templates/", "/docs/")


def application(office: Office, settings: Settings) -> web.Application:
    """The server of an office.  Jobs are run from its start to its end."""
    app = web.Application(client_max_size=settings.max_upload_size)
    app[OFFICE], app[SETTINGS] = office, settings
    app[SOCKETS], app[LISTINGS], app[RECENT] = Sockets(), Listings(office), Recent()
    user = office.host.folders.user
    app[SETTINGS_FILE], app[USERS_FILE] = Kept(user / "comfy.settings.json"), Kept(user.parent / "users.json")
    previews = settings.preview_method != "none"
    app[HERALD] = Herald(app[SOCKETS], office.dispatcher, machine.features(settings), previews=previews)
    guard.install(app, settings, office.host.folders)
    app.middlewares.append(page.otherwise(settings))
    for module in COMFYUI:
        app.add_routes(module.routes)
        app.add_routes(_prefixed(module.routes))
    app.add_routes(page.routes)
    _let_in(app, office.packs.routes)
    app.cleanup_ctx.extend([_log, _told])
    own.furnish(app)
    app.cleanup_ctx.append(_worked)
    app.on_shutdown.append(_goodbye)
    return app


def _prefixed(routes: Iterable[web.AbstractRouteDef]) -> list[web.AbstractRouteDef]:
    """The same routes below /api, where ComfyUI has them too."""
    return [
        web.RouteDef(route.method, PREFIX + route.path, route.handler, route.kwargs)
        for route in routes
        if isinstance(route, web.RouteDef) and not route.path.startswith(UNPREFIXED)
    ]


def _let_in(app: web.Application, routes: Sequence[web.AbstractRouteDef]) -> None:
    """Add the routes of packs, after ours.  Two packs may want the same one: the first has it."""
    for route in (*routes, *_prefixed(routes)):
        try:
            app.add_routes([route])
        except (RuntimeError, ValueError) as error:
            logging.getLogger(__name__).warning("a route of a pack is left out: %s", error)


async def _log(app: web.Application) -> AsyncIterator[None]:
    """Keep the last lines of the log, and tell those of it who follow it."""
    loop, herald = asyncio.get_running_loop(), app[HERALD]

    def tell(line: Line) -> None:
        loop.call_soon_threadsafe(herald.tell_log, line)

    with app[RECENT] as recent:
        recent.follower = tell
        yield


async def _told(app: web.Application) -> AsyncIterator[None]:
    """Tell clients of what happens."""
    stop = app[OFFICE].dispatcher.events.listen(app[HERALD].hear)
    yield
    stop()


async def _worked(app: web.Application) -> AsyncIterator[None]:
    """Run jobs, and let packs speak."""
    office = app[OFFICE]
    await office.dispatcher.start()
    office.packs.attach(office.dispatcher.push)
    yield
    await office.dispatcher.close()


async def _goodbye(app: web.Application) -> None:
    await app[SOCKETS].close()
