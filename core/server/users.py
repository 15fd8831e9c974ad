"""Users and their settings.  There is one user, as in ComfyUI unless it is told otherwise; further names are kept."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import Any

from aiohttp import web

from ..files import write
from ..strict_json import loads
from .guard import Refused, read_json, read_object
from .keys import SETTINGS_FILE, USERS_FILE

DEFAULT = "default"
LONGEST = 100  # characters of a name

routes = web.RouteTableDef()


class Kept:
    """A JSON object in a file.  Changes are made one after the other, and written whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()

    def read(self) -> dict[str, Any]:
        """What is in it; nothing if there is no file, or none that can be read."""
        try:
            found = loads(self.path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def change(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Have `change` change it.  What that raises leaves it as it was."""
        with self._lock:
            found = self.read()
            change(found)
            write(self.path, json.dumps(found, indent=2))


@routes.get("/users")
async def users(_: web.Request) -> web.Response:
    """Where users' files are kept: here, and not in the browser."""
    return web.json_response({"storage": "server", "migrated": True})


@routes.post("/users")
async def add_user(request: web.Request) -> web.Response:
    """Keep a user's name; answer with his id."""
    name = (await read_object(request)).get("username")
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST:
        raise Refused(400, "invalid_user", f"a username must be a text of 1 to {LONGEST} characters")
    user_id = f"{re.sub(r'[^a-zA-Z0-9-]+', '-', name.strip())}_{token_hex(16)}"
    try:
        await asyncio.to_thread(request.app[USERS_FILE].change, lambda known: _added(known, user_id, name.strip()))
    except KeyError:
        return web.json_response({"error": "Duplicate username."}, status=400)
    return web.json_response(user_id)


@routes.get("/settings")
async def settings(request: web.Request) -> web.Response:
    """All that an editor has asked to be remembered."""
    return web.json_response(await asyncio.to_thread(request.app[SETTINGS_FILE].read))


@routes.get("/settings/{id}")
async def setting(request: web.Request) -> web.Response:
    """One of them; null where there is none."""
    found = await asyncio.to_thread(request.app[SETTINGS_FILE].read)
    return web.json_response(found.get(request.match_info["id"]))


@routes.post("/settings")
async def change_settings(request: web.Request) -> web.Response:
    """Remember these, beside the others."""
    changed = await read_object(request)
    await asyncio.to_thread(request.app[SETTINGS_FILE].change, lambda known: known.update(changed))
    return web.Response()


@routes.post("/settings/{id}")
async def change_setting(request: web.Request) -> web.Response:
    """Remember one."""
    changed = {request.match_info["id"]: await read_json(request)}
    await asyncio.to_thread(request.app[SETTINGS_FILE].change, lambda known: known.update(changed))
    return web.Response()


def _added(known: dict[str, Any], user_id: str, name: str) -> None:
    if name == DEFAULT or name in known.values():
        raise KeyError(name)
    known[user_id] = name
