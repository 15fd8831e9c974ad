"""GET /health and GET /limner/packs: whether jobs can run, and what became of other people's nodes."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ..schema import NAMESPACE
from .guard import hidden
from .keys import OFFICE

if TYPE_CHECKING:
    from ..folders import Folders
    from ..host import Host
    from ..jobs.backend import Worker
    from ..packs.loading import Report

PACKAGES = (NAMESPACE, "torch", "transformers", "aiohttp", "pillow")
BEGUN: web.AppKey[float] = web.AppKey("begun", float)

routes = web.RouteTableDef()


@routes.get("/health")
async def health(request: web.Request) -> web.Response:
    """Whether the workers live, how long the queue is, and what memory is taken.  503 where no job can run."""
    office = request.app[OFFICE]
    alive, counts = office.dispatcher.alive, office.dispatcher.queue.counts()
    told = {
        "status": "ok" if alive else "dead",
        "paused": office.dispatcher.paused,
        "queue": {state: counts.get(state, 0) for state in ("pending", "running")},
        "workers": [_worker(worker) for worker in office.dispatcher.backend.workers()],
        "memory": {"process": resident(), **_kept(office.host)},
        "versions": {"python": platform.python_version(), **_versions()},
        "uptime": round(time.monotonic() - request.app[BEGUN], 1),
    }
    return web.json_response(told, status=200 if alive else 503, headers={"Cache-Control": "no-store"})


@routes.get("/limner/packs")
async def packs(request: web.Request) -> web.Response:
    """Every pack that was found; of those that could not be loaded, why."""
    office = request.app[OFFICE]
    folders = office.host.folders
    return web.json_response({"packs": [_report(report, folders) for report in office.packs.reports]})


def resident() -> int | None:
    """The bytes of memory that this process takes; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _kept(host: Host) -> dict[str, int]:
    stored = host.store.info()["bytes"] if host.store else 0
    return {"cache": host.cache.bytes, "stored": stored}


def _worker(worker: Worker) -> dict[str, Any]:
    return {
        "id": worker.id,
        "device": worker.device,
        "alive": worker.alive,
        "busy": list(worker.busy),
        "memory": worker.memory,
    }


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _report(report: Report, folders: Folders) -> dict[str, Any]:
    """Without where on the machine things lie: a traceback's files are named from the pack's own folder on."""

    def told(text: str) -> str:
        return hidden(text.replace(f"{Path(report.path).parent}{os.sep}", ""), folders)

    return {
        "name": report.name,
        "loaded": not report.error,
        "nodes": report.nodes,
        "seconds": round(report.seconds, 3),
        "digest": report.digest,
        "error": told(report.error) or None,
        "traceback": told(report.traceback) or None,
        "warnings": [told(warning) for warning in report.warnings],
    }
