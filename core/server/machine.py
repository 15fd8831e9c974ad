"""The machine and the server themselves: versions, memory, devices, features, the log and where things lie."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ..schema import NAMESPACE
from .guard import read_object
from .keys import HERALD, OFFICE, RECENT, SETTINGS
from .log import TERMINAL
from .models import CALLED

if TYPE_CHECKING:
    from ..jobs.backend import Worker
    from .settings import Settings

SPOKEN = "0.3.64"  # the version of ComfyUI whose API this is: clients ask before they use what came later
SECRETS = ("--token",)  # flags whose values nobody is shown

routes = web.RouteTableDef()


def features(settings: Settings) -> dict[str, Any]:
    """What the server can do that not every one can."""
    return {"supports_preview_metadata": True, "max_upload_size": settings.max_upload_size}


@routes.get("/features")
async def told_features(request: web.Request) -> web.Response:
    """What the server can do that not every one can."""
    return web.json_response(features(request.app[SETTINGS]))


@routes.get("/system_stats")
async def system_stats(request: web.Request) -> web.Response:
    """The machine, and the devices that jobs run on."""
    total, free = memory()
    system = {
        "os": os.name,
        "ram_total": total,
        "ram_free": free,
        "comfyui_version": SPOKEN,
        "limner_version": _version(NAMESPACE),
        "required_frontend_version": None,
        "installed_templates_version": None,
        "required_templates_version": None,
        "python_version": sys.version,
        "pytorch_version": _version("torch"),
        "embedded_python": False,
        "argv": shown(sys.argv),
    }
    workers = request.app[OFFICE].dispatcher.backend.workers()
    return web.json_response({"system": system, "devices": [_device(worker, total, free) for worker in workers]})


@routes.get("/internal/logs")
async def log(request: web.Request) -> web.Response:
    """The last lines of the log, as one text."""
    return web.json_response("".join(f"{line['t']} - {line['m']}" for line in tuple(request.app[RECENT].lines)))


@routes.get("/internal/logs/raw")
async def log_lines(request: web.Request) -> web.Response:
    """The last lines of the log."""
    return web.json_response({"entries": list(request.app[RECENT].lines), "size": TERMINAL})


@routes.patch("/internal/logs/subscribe")
async def follow_log(request: web.Request) -> web.Response:
    """Tell a client of every line from now on, or no more."""
    body = await read_object(request)
    request.app[HERALD].follow_log(str(body.get("clientId")), follows=bool(body.get("enabled")))
    return web.Response()


@routes.get("/internal/folder_paths")
async def folder_paths(request: web.Request) -> web.Response:
    """Where models are looked for."""
    folders = request.app[OFFICE].host.folders
    return web.json_response({CALLED.get(k, k): [str(root) for root in folders.roots(k)] for k in folders.kinds()})


def shown(words: Sequence[str]) -> list[str]:
    """A command line without its secrets."""
    found: list[str] = []
    for word in words:
        flag, equals, _ = word.partition("=")
        if found and found[-1] in SECRETS:
            word = "..."  # noqa: PLW2901
        found.append(f"{flag}=..." if equals and flag in SECRETS else word)
    return found


def memory() -> tuple[int, int]:
    """The bytes of memory that there are, and that are free; 0 where that cannot be known."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        found = {name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in lines)}
        return found["MemTotal"], found["MemAvailable"]
    except (OSError, KeyError, ValueError):
        return _asked("SC_PHYS_PAGES"), _asked("SC_AVPHYS_PAGES")


def _device(worker: Worker, total: int, free: int) -> dict[str, Any]:
    """A worker's device.  What computes on the CPU has the machine's memory."""
    kind, _, index = worker.device.partition(":")
    room = {"vram_total": total, "vram_free": free, "torch_vram_total": total, "torch_vram_free": free}
    return {"name": worker.device, "type": kind, "index": int(index) if index else None, **room, **worker.memory}


def _asked(name: str) -> int:
    """So many pages, in bytes."""
    try:
        return max(os.sysconf(name), 0) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on every system
        return 0


def _version(package: str) -> str | None:
    """Of an installed package, without loading it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
