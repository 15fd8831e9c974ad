"""A server from its plan: the queue, who works it off, the application, and the sockets it is reached by."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from .. import files
from ..jobs.dispatcher import Dispatcher
from ..jobs.events import Events
from ..jobs.inprocess import InProcess
from ..jobs.queue import Queue
from ..jobs.subprocesses import Setup, Subprocesses
from ..jobs.timings import Timings
from .app import application
from .hosting import FACTORY, Plan, devices, opened
from .listen import addresses, listen
from .office import Office
from .settings import Settings

if TYPE_CHECKING:
    from ..folders import Folders
    from ..host import Host
    from ..jobs.backend import Backend

DATABASE = "limner.db"
KEPT_DAYS = 7  # that previews are kept
WARM_AFTER = 1.0  # seconds from the first visitor on, in which the server has nothing else to do

log = logging.getLogger(__name__)


async def serve(
    plan: Plan, settings: Settings, sockets: Sequence[socket.socket], say: Callable[[list[str]], None]
) -> int:
    """Serve until a signal ends it; returns the exit code.  `say` is told the addresses when visitors are let in.

    Raises `Busy` where another server has the queue.
    """
    folders = plan.folders
    with ExitStack() as stack:
        queue = stack.enter_context(closing(Queue(folders.data / DATABASE, settings.keep)))
        events = stack.enter_context(closing(Events(folders.data / "events.db")))  # both may be lost ...
        timings = stack.enter_context(closing(Timings(folders.cache / "timings.db")))  # ... as the queue may not
        queue.tell(addresses(sockets)[0])
        host, packs = opened(plan)
        stack.callback(packs.close)
        backend = _backend(host, plan, settings)
        dispatcher = Dispatcher(queue, events, backend, timings, together=settings.together, paused=settings.paused)
        app = application(Office(host, dispatcher, packs), settings)

        def ready() -> None:
            say(addresses(sockets))
            loop = asyncio.get_running_loop()
            loop.run_in_executor(None, tidy, folders)
            if not settings.workers:
                loop.call_later(WARM_AFTER, loop.run_in_executor, None, warm)

        return await listen(app, settings, sockets, ready)


def warm() -> None:
    """Load beside the event loop what the first job would have to wait for."""
    import torch  # noqa: F401


def tidy(folders: Folders) -> None:
    """Remove what nobody wants any more, and what a server that was killed has left behind."""
    sweep(folders.temp)
    written = (folders.output, folders.inputs, folders.temp, folders.cache, folders.user, folders.base / "workflows")
    for root in dict.fromkeys(written):
        if count := files.sweep(root):
            log.info("removed %d unfinished files from the folder %s", count, root.name)


def sweep(temp: Path, days: float = KEPT_DAYS) -> None:
    """Remove previews that nobody will look at any more."""
    before = time.time() - days * 86400
    for path in temp.glob("*") if temp.is_dir() else ():
        try:
            if path.is_file() and not path.is_symlink() and path.stat().st_mtime < before:
                path.unlink()
        except OSError as error:
            log.warning("cannot remove an old preview: %s", error.strerror)


def _backend(host: Host, plan: Plan, settings: Settings) -> Backend:
    if not settings.workers:
        return InProcess(lambda: host, device=plan.device)
    wanted = devices(plan, settings.workers)
    return Subprocesses([Setup(device, {**plan.as_json(), "device": device}, FACTORY) for device in wanted])
