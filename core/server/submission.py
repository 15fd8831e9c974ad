"""What somebody posts to be run: a graph in any of the forms that there are, held against the nodes that there are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..graph import near
from ..workflow import Document, lower, parse
from .guard import Refused
from .verdict import Verdict, judged

if TYPE_CHECKING:
    from ..host import Host
    from ..schema import Registry

MOST_NODES = 100_000
MODES = ("mode", "control")  # what is resolved before a graph runs


@dataclass(frozen=True, slots=True)
class Submission:
    """A graph to run, and all that was said with it."""

    prompt: Mapping[str, Any]  # strict API format
    outputs: tuple[str, ...]  # the nodes that it is for
    id: str
    client: str
    number: float | None
    front: bool
    priority: int
    extra: Mapping[str, Any]
    document: Mapping[str, Any] | None  # if it came as more than a prompt


def understood(body: Mapping[str, Any], host: Host) -> tuple[Submission, Verdict]:
    """What a body wants, and what can be run of it.  Raises `Refused` where that is nothing."""
    prompt, document = _graph(body, host)
    _check_types(prompt, host.registry)
    wanted = _listed(body, "partial_execution_targets")
    outputs = tuple(
        i for i, n in prompt.items() if host.registry[n["class_type"]].delivers and (wanted is None or i in wanted)
    )
    if not outputs:
        raise Refused(400, "prompt_no_outputs", _no_outputs(wanted))
    extra = _extra(body)
    submission = Submission(
        prompt=prompt,
        outputs=outputs,
        id=str(body.get("prompt_id") or uuid4()),
        client=str(extra.get("client_id") or ""),
        number=_number(body),
        front=bool(body.get("front", False)),
        priority=_whole(body, "priority"),
        extra=extra,
        document=document,
    )
    return submission, judged(host, prompt, outputs)


def _graph(body: Mapping[str, Any], host: Host) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """The strict graph that a body holds, and the workflow that it was posted as, if it says more than that."""
    posted = body.get("prompt")
    if posted is None and ("limner" in body or "nodes" in body):
        posted = body
    if posted is None:
        raise Refused(400, "no_prompt", 'there is no prompt: post {"prompt": {id: {"class_type", "inputs"}}}')
    if not isinstance(posted, dict):
        raise Refused(400, "invalid_prompt", "the prompt must be an object of nodes by their ids")
    if "limner" in posted or isinstance(posted.get("nodes"), list):
        document = parse(json.dumps(posted), "the prompt", host.sockets)
        return lower(document, host.sockets), document.as_json()
    nodes = {node_id: _entry(node_id, entry) for node_id, entry in posted.items()}
    if len(nodes) > MOST_NODES:
        raise Refused(400, "invalid_prompt", f"the prompt has more than {MOST_NODES} nodes")
    moded = any(mode in entry.get("_meta", {}) for entry in nodes.values() for mode in MODES)
    return (lower(Document(nodes), host.sockets) if moded else nodes), None


def _entry(node_id: str, entry: Any) -> Mapping[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("class_type"), str):
        words = f"the node {node_id!r} has no class_type: it must be an object with one, and with its inputs"
        raise Refused(400, "invalid_prompt", words, node_id=node_id)
    inputs, meta = entry.get("inputs", {}), entry.get("_meta", {})
    if not isinstance(inputs, dict) or not isinstance(meta, dict):
        raise Refused(400, "invalid_prompt", f"the inputs of the node {node_id!r} must be an object", node_id=node_id)
    return entry if "inputs" in entry else {**entry, "inputs": {}}


def _check_types(prompt: Mapping[str, Any], registry: Registry) -> None:
    """No prompt is run in part because this server does not know all of its nodes."""
    unknown = {i: n["class_type"] for i, n in prompt.items() if n["class_type"] not in registry}
    if unknown:
        node_id, kind = next(iter(unknown.items()))
        others = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        hint = near(kind, registry) or "; a node pack may bring it: limner serve --packs DIR"
        words = f"there is no node type {kind!r}, which node {node_id!r} is{others}{hint}"
        raise Refused(400, "invalid_prompt", words, node_id=node_id, class_type=kind)


def _no_outputs(wanted: Sequence[str] | None) -> str:
    if wanted is not None:
        return "none of the partial_execution_targets is a node that saves or shows anything"
    return "the prompt has no node that saves or shows anything: add one, such as SaveImage"


def _extra(body: Mapping[str, Any]) -> dict[str, Any]:
    extra = body.get("extra_data") or {}
    if not isinstance(extra, dict):
        raise Refused(400, "invalid_prompt", "extra_data must be an object")
    return extra | ({"client_id": body["client_id"]} if "client_id" in body else {})


def _listed(body: Mapping[str, Any], name: str) -> list[str] | None:
    found = body.get(name)
    if found is not None and not isinstance(found, list):
        raise Refused(400, "invalid_prompt", f"{name} must be a list of node ids")
    return None if found is None else [str(i) for i in found]


def _number(body: Mapping[str, Any]) -> float | None:
    found = body.get("number")
    if found is not None and (isinstance(found, bool) or not isinstance(found, int | float)):
        raise Refused(400, "invalid_prompt", f"number must be a number, not {found!r:.80}")
    return found


def _whole(body: Mapping[str, Any], name: str) -> int:
    found = body.get(name, 0)
    if type(found) is not int:
        raise Refused(400, "invalid_prompt", f"{name} must be a whole number, not {found!r:.80}")
    return found
