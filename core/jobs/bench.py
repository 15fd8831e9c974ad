"""Where jobs are worked off: one host on one device, its runs driven side by side, in one thread of its owner's.

Whatever a node raises ends its own job alone.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from .. import workflow
from ..errors import Interrupted, WorkerLost
from ..event import Failed
from ..run import Run
from . import failure, telling
from .backend import Emit, Result
from .job import Job
from .telling import Teller

if TYPE_CHECKING:
    from ..host import Host

SCOPE = "server"  # the name under which what ran is remembered, for those who ask why it will run again

log = logging.getLogger(__name__)


class Order:
    """A job at work.  `stop` may be called from any thread, also before there is a run; it stops no other job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.stopped = False
        self.node = ""  # that is running
        self._run: Run | None = None
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End it before its next node or network call."""
        with self._lock:
            self.stopped = True
            if self._run is not None:
                self._run.stop()

    def given(self, run: Run) -> None:
        """It has its run.  Raises `Interrupted` if it was stopped before."""
        with self._lock:
            self._run = run
            if self.stopped:
                raise Interrupted("stopped before it began")


class Bench:
    """Makes its host when the first job comes, and keeps it."""

    def __init__(self, host: Callable[[], Host], emit: Emit) -> None:
        """`emit` is called in the thread that works."""
        self.previews = False  # whether anybody wants them
        self._make, self._emit = host, emit
        self._host: Host | None = None
        self._tellers: list[Teller] = []

    def work(self, orders: Sequence[Order]) -> list[Result]:
        """Run jobs side by side, to the end of the last one.  Raises nothing that a node has raised.

        Raises `WorkerLost` where the device is of no more use to this process: those that have not ended run elsewhere.
        """
        self._tellers = [Teller(order.job, self._emit, lambda: self.previews) for order in orders]
        broken: BaseException | None = None
        try:
            runs = [r for order, teller in zip(orders, self._tellers, strict=True) if (r := self._run(order, teller))]
            self._drive(runs)
        except WorkerLost:
            self._tellers = []
            raise
        except BaseException as error:  # not a node's: it is the driver's, or a signal's
            log.exception("runs could not be driven to their end")
            broken = error
        results = [teller.end(broken) for teller in self._tellers]
        self._tellers = []
        return results

    def free(self, *, models: bool, cache: bool) -> None:
        """Unload networks, forget results."""
        if self._host is None:
            return
        if models and "networks" in vars(self._host):  # else none was ever loaded
            self._host.networks.clear("somebody has asked for memory")
        if cache:
            self._host.cache.forget()

    @property
    def device(self) -> str:
        """Where networks compute; empty while that is not known."""
        there = self._host is not None and "networks" in vars(self._host)
        return str(self._host.networks.device) if there and self._host else ""

    def memory(self) -> dict[str, int]:
        """Bytes of the device: all, free, and what torch has of them.  Empty where networks compute on the CPU."""
        if not self.device.startswith("cuda"):
            return {}
        import torch

        free, total = torch.cuda.mem_get_info(self.device)
        reserved, used = torch.cuda.memory_reserved(self.device), torch.cuda.memory_allocated(self.device)
        return {
            "vram_total": total,
            "vram_free": free + reserved - used,
            "torch_vram_total": reserved,
            "torch_vram_free": reserved - used,
        }

    def _run(self, order: Order, teller: Teller) -> tuple[Order, Teller, Run] | None:
        """A job's run; None where it cannot begin, which is told."""
        try:
            host = self._hosted()
            folders = host.folders
            teller.folders = (folders.base, folders.inputs, folders.output, folders.temp, folders.data)
            job = order.job
            document = None if job.document is None else workflow.parse(json.dumps(job.document), "the document")
            nodes = workflow.graph(job.prompt)
            run = host.run(nodes, SCOPE, job.targets, document=document, extra=job.extra.get("extra_pnginfo"))
            run.owner = {"client_id": job.client, "prompt_id": job.id}
            order.given(run)
            run.aside = teller.event
            teller.begin(run)
        except BaseException as error:  # a graph that cannot run, files that are not there, a device that is not
            _check_device(error)
            teller.end(error)
            return None
        return order, teller, run

    def _drive(self, runs: Sequence[tuple[Order, Teller, Run]]) -> None:
        for _, teller, run in runs:
            run.work = _guarded(run.work, teller)
        if runs:
            for k, event in self._hosted().drive([run for _, _, run in runs]):
                order, teller, _ = runs[k]
                if isinstance(event, Failed):
                    _check_device(event.error)
                teller.event(event)
                order.node = teller.node

    def _hosted(self) -> Host:
        if self._host is None:
            self._host = self._make()
            self._host.listen(self._network)
        return self._host

    def _network(self, event: object) -> None:
        try:
            working = [teller.job for teller in self._tellers if teller.result is None]
            folders = self._tellers[0].folders if self._tellers else ()
            self._emit(telling.of_network(event, working, folders))
        except Exception:  # those who load networks must not hear of it
            log.exception("a network's coming and going could not be told")


def _check_device(error: BaseException) -> None:
    """Raises `WorkerLost` if that is an error after which nothing else can run on the device."""
    if words := failure.lost_device(error):
        log.error("the device is lost to this process:\n%s", failure.trace(error))
        raise WorkerLost(f"its device has failed ({words})") from error


def _guarded(work: Generator[Any, Any, None], teller: Teller) -> Generator[Any, Any, None]:
    """A run's work, of which nothing escapes: not even what ends programs and generators.  Its end is told at once."""
    answer: Any = None
    while True:
        try:
            said = work.throw(answer) if isinstance(answer, BaseException) else work.send(answer)
        except StopIteration:
            break
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise  # somebody's Ctrl-C
            yield Failed(teller.node, error)
            break
        try:
            answer = yield said
        except GeneratorExit:  # the driver lets go of it
            work.close()
            raise
        except Exception as error:  # the driver's: a call that failed, or a stop
            answer = error
    teller.end()
