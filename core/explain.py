"""Why each node of a plan will run, or not.  Loads nothing and runs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

from .cache import Cache
from .graph import Link
from .plan import Plan, Step
from .run import below, will_run

Verdict = Literal["HIT", "MISS", "RUN", "SKIP"]  # in the cache; to compute; runs every time; not needed

WHERE = {"memory": "in memory", "disk": "on disk"}


@dataclass(frozen=True, slots=True)
class Explained:
    """What would become of one node, and why."""

    node: str
    type: str
    verdict: Verdict
    reason: str
    key: str


def explain(plan: Plan, cache: Cache, seen: Mapping[str, Any], forced: frozenset[str] = frozenset()) -> list[Explained]:
    """Every node of the plan, in order.  `seen` is what they were when they last ran (`Store.seen`)."""
    runs, hits = will_run(plan, cache, forced)
    again = {i: "forced" if i in forced else "below a forced node" for i in below(plan, forced)}
    changed: set[str] = set()  # nodes whose results are not those of the last time
    found: list[Explained] = []
    for step in plan.steps.values():
        before = seen.get(step.id)
        if before is None or before["key"] != step.key:
            changed.add(step.id)
        verdict, reason = _verdict(step, before, runs, hits, changed, again)
        if step.id in hits:
            reason = WHERE[cache.where(step) or "disk"]
        found.append(Explained(step.id, step.node.id, verdict, reason, step.key[:8]))
    return found


def records(steps: Iterable[Step]) -> dict[str, Any]:
    """What to remember of a run: of each node its keys, and hashes of what it was given."""
    return {
        step.id: {"key": step.key, "stored": step.stored_key, "inputs": {k: _short(v) for k, v in step.inputs.items()}}
        for step in steps
    }


def _verdict(  # noqa: PLR0913 - a step, and all that bears on it
    step: Step, before: Any, runs: set[str], hits: set[str], changed: set[str], again: Mapping[str, str]
) -> tuple[Verdict, str]:
    if step.id in hits:
        return "HIT", ""
    if step.id not in runs:
        return "SKIP", "not needed: what it is for is cached"
    if step.node.delivers:
        return "RUN", "output node"
    if not step.cached:
        return "RUN", "below a node that always runs" if step.node.cached else "always runs"
    if step.id in again:
        return "RUN", again[step.id]
    return "MISS", _reason(step, before, changed)


def _reason(step: Step, before: Any, changed: set[str]) -> str:
    if before is None:
        return "first run"
    settings = [k for k, v in step.inputs.items() if before["inputs"].get(k) != _short(v)]
    if settings:
        return f"{', '.join(settings)} changed"
    above = [v.node for v in step.inputs.values() if isinstance(v, Link) and v.node in changed]
    if above:
        return f"upstream {', '.join(dict.fromkeys(above))}"
    if before["key"] != step.key:
        return "the node or a file that it names changed"
    if before["stored"] is not None and step.stored_key is None:
        return "not known yet: the device, or what a file holds"
    if before["stored"] is not None and before["stored"] != step.stored_key:
        return "code, libraries or device changed"
    return "not kept: quick to make again, or dropped for room"


def _short(value: object) -> object:
    if isinstance(value, Link):
        return [value.node, value.output]
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
