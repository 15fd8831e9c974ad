"""The backend in this process: one thread owns the device, and is started anew if it ever ends."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from ..errors import WorkerLost
from .backend import Emit, Result, Worker
from .bench import Bench, Order
from .job import Job

if TYPE_CHECKING:
    from ..host import Host

ID = "worker-1"
AT_ONCE = 200  # events that the loop is given before others have their turn
MOST_WAITING = 5000  # events: a thread that is ahead of the loop waits for it

log = logging.getLogger(__name__)


class InProcess:
    """Cannot kill a node that ignores its stop: it says so, after `patience` seconds.

    Nor can it have another device than the one that this process has lost: its jobs wait until the server is restarted.
    """

    def __init__(self, host: Callable[[], Host], *, device: str = "auto", patience: float = 30.0) -> None:
        """`host` is called once, in the thread that will own it, when the first job comes."""
        self._bench = Bench(host, self._tell)
        self._asked, self._patience = device, patience
        self._orders: dict[str, Order] = {}
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._said: deque[Callable[[], None]] = deque()  # by the thread, for the loop
        self._called = False  # the loop knows that there is something
        self._future: asyncio.Future[list[Result]] | None = None
        self._thread: threading.Thread | None = None
        self._restarts = 0
        self._useless = False  # the device is lost to this process
        self._closed = False

    async def start(self, emit: Emit) -> None:
        """Start the thread."""
        self._loop, self._emit = asyncio.get_running_loop(), emit
        self._begin()

    async def run(self, jobs: Sequence[Job], worker: str) -> list[Result]:
        """Run jobs side by side in the thread."""
        if worker != ID or self._future is not None:
            raise ValueError(f"{worker!r} is not a worker that is free")
        orders = [Order(job) for job in jobs]
        self._orders = {order.job.id: order for order in orders}
        future: asyncio.Future[list[Result]] = self._loop.create_future()
        self._future = future
        self._work.put(partial(self._worked, orders, future))
        try:
            return await future
        finally:
            self._orders, self._future = {}, None

    async def interrupt(self, job: str) -> None:
        """Stop a job before its next network call; say so if it does not stop."""
        order = self._orders.get(job)
        if order is not None:
            order.stop()
            self._loop.call_later(self._patience, self._complain, order)

    async def free(self, *, models: bool, cache: bool) -> None:
        """Free memory when the jobs that run have ended."""
        self._work.put(partial(self._bench.free, models=models, cache=cache))

    def workers(self) -> list[Worker]:
        """The thread."""
        alive = self._thread is not None and self._thread.is_alive() and not self._closed and not self._useless
        device = self._bench.device or self._asked
        return [Worker(ID, device, alive, tuple(self._orders), self._bench.memory(), self._restarts)]

    def tell(self, event: dict[str, Any]) -> None:
        """Emit an event, from any thread, after all that have been told by now."""
        self._call(lambda: self._emit(event))

    def show_previews(self, wanted: bool) -> None:  # noqa: FBT001 - a switch
        """Whether anybody wants to see half-done pictures."""
        self._bench.previews = wanted

    async def close(self) -> None:
        """Stop all, and wait for the thread as long as a node may take to hear of it; it ends with the program."""
        self._closed = True
        for order in self._orders.values():
            order.stop()
        self._work.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 1.0)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._serve, name="limner worker", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        """The thread: one lot of jobs after the other."""
        try:
            while (work := self._work.get()) is not None:
                work()
        except BaseException:  # no job's failure, those are results: something of our own
            log.exception("the thread that runs jobs has ended; another one takes its place")
        finally:
            self._call(self._over)

    def _worked(self, orders: Sequence[Order], future: asyncio.Future[list[Result]]) -> None:
        try:
            results = self._bench.work(orders)
        except WorkerLost as lost:
            self._call(partial(self._give_up, lost, future))
        else:
            self._call(lambda: None if future.done() else future.set_result(results))

    def _give_up(self, lost: WorkerLost, future: asyncio.Future[list[Result]]) -> None:
        """In the loop: nothing can run here any more."""
        log.critical("%s; no job runs until the server is restarted (--workers keeps devices in processes)", lost)
        self._useless = True
        if not future.done():
            future.set_exception(lost)
        self._emit({"event": "worker"})

    def _over(self) -> None:
        """In the loop: the thread has ended."""
        if self._closed:
            return
        self._restarts += 1
        if self._future is not None and not self._future.done():
            self._future.set_exception(WorkerLost("the thread that ran it has ended"))
        self._begin()
        self._emit({"event": "worker"})

    def _complain(self, order: Order) -> None:
        if self._orders.get(order.job.id) is order:
            text = "does not stop; nothing but a restart of the server ends it (--workers keeps nodes in processes)"
            told = {
                "event": "warning",
                "job": order.job.id,
                "client": order.job.client,
                "node": order.node,
                "text": text,
            }
            log.warning("the node %r of the job %s does not stop", order.node, order.job.id)
            self._emit(told)

    def _tell(self, event: dict[str, Any]) -> None:
        """In the thread: an event, for the loop."""
        while len(self._said) > MOST_WAITING and not self._closed:
            time.sleep(0.005)
        self._call(lambda: self._emit(event))

    def _call(self, what: Callable[[], None]) -> None:
        """From any thread: have the loop call something, after all that it was to call before."""
        self._said.append(what)
        if not self._called:
            self._called = True
            try:
                self._loop.call_soon_threadsafe(self._hear)
            except RuntimeError:  # the loop is closed: the program ends
                self._closed = True

    def _hear(self) -> None:
        self._called = False
        for _ in range(AT_ONCE):
            if not self._said:
                return
            try:
                self._said.popleft()()
            except Exception:
                log.exception("an event could not be told")
        self._called = True
        self._loop.call_soon(self._hear)
