"""A job: a graph that somebody wants run, and what has become of it.  Plain values, which cross pipes as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

State = Literal["pending", "running", "done", "failed", "interrupted", "cancelled", "quarantined"]
Message = tuple[str, Mapping[str, Any]]

FINAL: tuple[State, ...] = ("done", "failed", "interrupted", "cancelled", "quarantined")
ATTEMPTS = 2  # how often a job may take its worker down before it is set aside


@dataclass(frozen=True, slots=True)
class Job:
    """One graph to run.  Times are seconds since 1970, for people: what runs when does not depend on any clock."""

    id: str  # the client's own, or a random one
    sequence: int  # the order in which jobs were accepted; never used twice
    number: float  # ComfyUI's: orders a client's jobs within a priority; negative for those put in front
    priority: int  # the highest runs first
    client: str  # who wants to be told; empty: nobody
    prompt: Mapping[str, Any]  # the strict API graph that runs
    targets: tuple[str, ...]  # the output nodes to execute
    extra: Mapping[str, Any]  # ComfyUI's extra_data, as it was posted
    document: Mapping[str, Any] | None  # the workflow to write into pictures, if one was posted
    state: State
    attempt: int  # how often it was begun
    created: float
    started: float | None
    ended: float | None
    outputs: Mapping[str, Any]  # what editors show, by node: {"9": {"images": [...]}}
    meta: Mapping[str, Any]  # whose output that is: {"9": {"node_id", "display_node", "parent_node", "real_node_id"}}
    messages: tuple[Message, ...]  # of ComfyUI's history
    error: Mapping[str, Any] | None  # code, node, type, message, traceback (which only says where to look)
    executed: tuple[str, ...]
    cached: tuple[str, ...]
    seconds: float | None  # that the last attempt took
    past: tuple[Mapping[str, Any], ...] = ()  # attempts cut short: {"attempt", "state", "started", "ended", "reason"}

    @property
    def final(self) -> bool:
        """Whether nothing more will become of it."""
        return self.state in FINAL

    def as_json(self) -> dict[str, Any]:
        """The job as plain data."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        """A job from what `as_json` made, also after it went through JSON, which has no tuples."""
        listed = {name: tuple(data[name]) for name in ("targets", "executed", "cached", "past")}
        messages = tuple((name, said) for name, said in data["messages"])
        return cls(**{**data, **listed, "messages": messages})
