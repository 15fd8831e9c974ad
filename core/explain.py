"""Why each node of a plan will run, or not.  Loads nothing and runs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

from .cache import Cache
from .evaluation import below, will_run
from .graph import Link
from .plan import Plan, Step

Verdict = Literal["HIT", "MISS", "RUN", "SKIP"]  # in the cache; to compute; runs every time; not needed

NEVER: dict[str, Any] = {"key": None, "stored": None, "inputs": {}}  # what is known of a node that has never run


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
    memory = {i for i in hits if cache.where(plan.steps[i]) == "memory"}
    again = below(plan, forced)
    changed = {i for i, step in plan.steps.items() if seen.get(i, NEVER)["key"] != step.key}
    found: list[Explained] = []
    for step in plan.steps.values():
        before = seen.get(step.id, NEVER)
        stored = before["stored"]
        settings = [k for k, v in step.inputs.items() if before["inputs"].get(k) != _short(v)]
        above = [v.node for v in step.inputs.values() if isinstance(v, Link) and v.node in changed]
        rules: tuple[tuple[object, Verdict, str], ...] = (  # the first that holds
            (step.id in memory, "HIT", "in memory"),
            (step.id in hits, "HIT", "on disk"),
            (step.id not in runs, "SKIP", "not needed: what it is for is cached"),
            (step.node.delivers, "RUN", "output node"),
            (not step.node.cached, "RUN", "always runs"),
            (not step.cached, "RUN", "below a node that always runs"),
            (step.id in forced, "RUN", "forced"),
            (step.id in again, "RUN", "below a forced node"),
            (before is NEVER, "MISS", "first run"),
            (settings, "MISS", f"{', '.join(settings)} changed"),
            (above, "MISS", f"upstream {', '.join(dict.fromkeys(above))}"),
            (step.id in changed, "MISS", "the node or a file that it names changed"),
            (stored and not step.stored_key, "MISS", "not known yet: the device, or what a file holds"),
            (stored and stored != step.stored_key, "MISS", "code, libraries or device changed"),
            (True, "MISS", "not kept: quick to make again, or dropped for room"),
        )
        verdict, reason = next((verdict, reason) for holds, verdict, reason in rules if holds)
        found.append(Explained(step.id, step.node.id, verdict, reason, step.key[:8]))
    return found


def records(steps: Iterable[Step]) -> dict[str, Any]:
    """What to remember of a run: of each node its keys, and hashes of what it was given."""
    return {
        step.id: {"key": step.key, "stored": step.stored_key, "inputs": {k: _short(v) for k, v in step.inputs.items()}}
        for step in steps
    }


def _short(value: object) -> object:
    if isinstance(value, Link):
        return [value.node, value.output]
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
