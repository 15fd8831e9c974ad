"""Who works jobs off: the seam between the queue and what computes.  One suite of tests holds every backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from .job import Job, State

Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a job.  Plain values, which cross pipes as JSON."""

    job: str
    state: State  # done, failed or interrupted
    outputs: Mapping[str, Any] = field(default_factory=dict)  # what editors show, by node
    meta: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    executed: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    seconds: float | None = None
    trace: str = ""  # for the log alone: it names files of the machine

    def as_json(self) -> dict[str, Any]:
        """The result as plain data."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """A result from what `as_json` made, also after it went through JSON."""
        return cls(**{**data, "executed": tuple(data["executed"]), "cached": tuple(data["cached"])})


@dataclass(frozen=True, slots=True)
class Worker:
    """What runs jobs, one lot at a time."""

    id: str
    device: str  # as it was asked for, until it is known
    alive: bool  # whether it can take jobs now
    busy: tuple[str, ...] = ()  # the jobs that it has
    memory: Mapping[str, int] = field(default_factory=dict)  # bytes, under the names of ComfyUI's /system_stats
    restarts: int = 0  # how often it was lost


class Backend(Protocol):
    """Workers, and the way to them.  All methods but `tell` are called in the thread of one event loop."""

    async def start(self, emit: Emit) -> None:
        """Begin; waits for no worker.

        From now on `emit` is called in the loop's thread, with the events of jobs, with {"event": "ended", "job",
        "result"} as soon as one has ended, and with {"event": "worker"} when a worker has come or gone.
        """

    async def run(self, jobs: Sequence[Job], worker: str) -> list[Result]:
        """Run jobs side by side on one worker; before this first waits, they can be interrupted.

        Raises `WorkerLost`, for all that have not ended.
        """

    async def interrupt(self, job: str) -> None:
        """Stop a job before its next network call; nothing happens where no such job runs."""

    async def free(self, *, models: bool, cache: bool) -> None:
        """Have every worker unload its networks, or forget its results, when its jobs have ended."""

    def workers(self) -> list[Worker]:
        """What there is, the same workers for as long as this lives."""

    def tell(self, event: dict[str, Any]) -> None:
        """Emit an event of somebody else's, from any thread: after those of the job that this thread works at."""

    def show_previews(self, wanted: bool) -> None:  # noqa: FBT001 - a switch
        """Whether anybody wants to see half-done pictures."""

    async def close(self) -> None:
        """End all workers, whatever they do."""
