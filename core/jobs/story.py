"""What ComfyUI's history says of a run: its messages, in order, with times in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from .job import Job, Message

SEE_LOG = ("the server's log has the traceback",)  # which names files of the machine: not for clients
LONGEST = 200  # characters of an input that is quoted


def error(code: str, kind: str, message: str, node: str | None = None) -> dict[str, Any]:
    """What went wrong, as a job keeps it."""
    return {"code": code, "node": node, "type": kind, "message": message, "traceback": list(SEE_LOG)}


def begun(job: Job) -> Message:
    """It was begun."""
    return _said(job, "execution_start")


def cached(job: Job, nodes: Sequence[str]) -> Message:
    """These need not be executed."""
    return _said(job, "execution_cached", nodes=list(nodes))


def refused(job: Job, node: str, message: str, executed: Sequence[str]) -> Message:
    """A node was not run, because what it takes is blocked with a message; the others go on."""
    return _failure(job, error("blocked", "ExecutionBlocked", message, node), executed, ())


def ended(
    job: Job, state: str, found: Mapping[str, Any] | None, executed: Sequence[str], cached: Sequence[str]
) -> Message:
    """It has ended, and how."""
    if state == "done":
        return _said(job, "execution_success")
    if state == "interrupted":
        node = (found or {}).get("node")
        return _said(
            job, "execution_interrupted", node_id=node, node_type=_type(job, node), executed=[*executed, *cached]
        )
    return _failure(job, found or error("failed", "Exception", "it failed"), executed, cached)


def unfinished(job: Job, state: str, found: Mapping[str, Any]) -> tuple[Message, ...]:
    """All that can be said of a run whose worker was lost."""
    return begun(job), ended(job, state, found, (), ())


def _failure(job: Job, found: Mapping[str, Any], executed: Sequence[str], cached: Sequence[str]) -> Message:
    node = found["node"]
    there = [*cached, *executed]
    return _said(
        job,
        "execution_error",
        node_id=node,
        node_type=_type(job, node),
        executed=there,
        exception_message=found["message"],
        exception_type=found["type"],
        traceback=list(SEE_LOG),
        current_inputs=_inputs(job, node),
        current_outputs=there,
    )


def _type(job: Job, node: str | None) -> str | None:
    return job.prompt[node]["class_type"] if node is not None and node in job.prompt else None


def _inputs(job: Job, node: str | None) -> dict[str, list[str]]:
    """The constants that a node was given; what came along wires is not quoted."""
    inputs = job.prompt[node].get("inputs", {}) if node is not None and node in job.prompt else {}
    return {name: [str(value)[:LONGEST]] for name, value in inputs.items() if not isinstance(value, list)}


def _said(job: Job, name: str, **more: Any) -> Message:
    return name, {"prompt_id": job.id, **more, "timestamp": int(time.time() * 1000)}
