"""One node's work: asked, called for each item of a list, its results gathered.  Only this module calls nodes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from .errors import BadReturn
from .graph import Link
from .plan import Step
from .schema import ANY_WIRE, Input, Need
from .trees import tensors
from .values import Blocked, Call, Files, Items, Progress, Returned

if TYPE_CHECKING:
    from typing import TypeAlias

    Said: TypeAlias = "Wants | Awaits | Expands | Changed | Blocked | Progress | list[Call]"
    Work = Generator[Said, Any, "Result"]


@dataclass(frozen=True, slots=True)
class Wants:
    """Said by a node: it cannot go on without these outputs, which are sent back in this order."""

    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Awaits:
    """Said by a node: these are to be run side by side; what they return is sent back."""

    coroutines: tuple[tuple[Coroutine[Any, Any, object], Variables], ...]


@dataclass(frozen=True, slots=True)
class Expands:
    """Said by a node: these nodes, in the API format, take its place."""

    nodes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Changed:
    """Said of a node: it has written into tensors that these inputs gave it."""

    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a node."""

    outputs: tuple[Any, ...]
    files: tuple[str, ...] = ()
    ui: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Calling:
    """Which call of which node is going on: for what a foreign node builds and reports."""

    node: str
    index: int  # of the item in a list
    report: Callable[[Progress], None]  # raises `Interrupted` where somebody has pressed stop
    owner: Mapping[str, str] = field(default_factory=dict)  # whose run it is: client_id, prompt_id


CALLING: ContextVar[Calling] = ContextVar("calling")


@dataclass(frozen=True, slots=True)
class Desk:
    """What a run gives to the calls of one node."""

    context: Mapping[str, object]  # {"context": ...} for those that want it
    hidden: Callable[[str], object]  # the value of a hidden input, by its kind
    adapted: Callable[[object, str], object]  # a foreign value as our own nodes take it, by its wire
    report: Callable[[Progress], None]
    owner: Mapping[str, str]  # whose run it is


def work(step: Step, plugged: Mapping[str, Any], desk: Desk) -> Work:
    """All that one node does, said step by step; `plugged` are the values of what it `wants`."""
    given = {spec.name: desk.hidden(spec.hidden) for spec in step.node.inputs if spec.hidden}
    given |= {name: None if isinstance(v, Link) else v for name, v in step.inputs.items()}
    given |= {spec.name: step.inputs[spec.name] for spec in step.node.inputs if spec.raw and spec.name in step.inputs}
    given |= plugged
    if step.node.asks is not None:
        given = yield from _asked(step, step.node.asks, given)
    before = _versions(step, given)
    returned = yield from _called(step, given, desk)
    if changed := tuple(name for name, versions in _versions(step, given).items() if versions != before[name]):
        yield Changed(changed)
    return (yield from _gathered(step, returned))


def wants(step: Step) -> dict[str, Link]:
    """What has to be there before the node can begin: all that is plugged in, but for lazy inputs and raw links."""
    apart = {spec.name for spec in step.node.inputs if spec.lazy or spec.raw}
    return {name: v for name, v in step.inputs.items() if isinstance(v, Link) and name not in apart}


def _asked(
    step: Step, asks: Callable[..., Any], given: dict[str, Any]
) -> Generator[Wants | Awaits, Any, dict[str, Any]]:
    """The lazy inputs that a foreign node names, for any of its calls, until it names no more."""
    waiting = {
        spec.name: v for spec in step.node.inputs if spec.lazy and isinstance(v := step.inputs.get(spec.name), Link)
    }
    while waiting:
        said = [(asks(**call), copy_context()) for call in _calls(step, given) if _block(step, call) is None]
        names = {name for some in (yield from _awaited(said)) for name in some or ()}
        wanted = {name: waiting.pop(name) for name in tuple(waiting) if name in names}
        if not wanted:
            break
        values = yield Wants(tuple(wanted.values()))
        given = given | dict(zip(wanted, values, strict=True))
    return given


def _called(step: Step, given: Mapping[str, Any], desk: Desk) -> Generator[Said, Any, list[object]]:
    """What the node returns for each item."""
    returned: list[tuple[object, Variables]] = []
    for index, arguments in enumerate(_calls(step, given)):
        variables = copy_context()
        if (block := _block(step, arguments)) is not None:
            if block.message is not None:
                yield block
            result: object = Returned(tuple(Blocked() for _ in step.node.outputs))
        elif step.node.pack:
            variables.run(CALLING.set, Calling(step.id, index, desk.report, desk.owner))
            result = variables.run(partial(step.node, **arguments))
        else:
            result = step.node(**_fitting(step, arguments, desk), **desk.context)
        if isinstance(result, Generator):
            result = yield from _long(step, result)
        returned.append((result, variables))
    return (yield from _awaited(returned))


def _calls(step: Step, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The arguments of each call: one call for each item, where a list that is shorter goes on with its last."""
    if step.node.takes_lists:
        yield {name: list(_items(value)) for name, value in given.items()}
        return
    lists = {name: v.values for name, v in given.items() if isinstance(v, Items)}
    for name, values in lists.items():
        if not values:
            raise ValueError(f"gets an empty list at {name!r}")
    for k in range(max(map(len, lists.values()), default=1)):
        yield {**given, **{name: values[min(k, len(values) - 1)] for name, values in lists.items()}}


def _items(value: object) -> tuple[Any, ...]:
    return value.values if isinstance(value, Items) else (value,)


def _block(step: Step, arguments: Mapping[str, Any]) -> Blocked | None:
    """What stops this call: rather a block that says why than one that does not."""
    values: Iterable[Any] = arguments.values()
    if step.node.takes_lists:
        values = (item for some in arguments.values() for item in some)
    return min((v for v in values if isinstance(v, Blocked)), key=lambda b: b.message is None, default=None)


def _fitting(step: Step, arguments: dict[str, Any], desk: Desk) -> dict[str, Any]:
    """The arguments as one of our own nodes declares them: foreign values are adapted, or refused in a sentence."""
    for spec in step.node.inputs:
        value = arguments[spec.name]
        if value is None or spec.wire == ANY_WIRE or _is(value, spec):
            continue
        if step.node.takes_lists:
            arguments[spec.name] = [v if _is(v, spec) else _adapted(v, spec, desk) for v in value]
        else:
            arguments[spec.name] = _adapted(value, spec, desk)
    return arguments


def _is(value: object, spec: Input) -> bool:
    return isinstance(value, float | int if spec.type is float else spec.type)


def _adapted(value: object, spec: Input, desk: Desk) -> object:
    adapted = desk.adapted(value, spec.wire)
    if not _is(adapted, spec):
        raise TypeError(f"{spec.name!r} takes a {spec.wire} of Limner's own kind, not {type(value).__name__}")
    return adapted


def _long(step: Step, going: Generator[Any, Any, object]) -> Generator[Said, Any, object]:
    """Pass a long node's calls and progress on, and what comes back to it, until it ends."""
    answer: object = None
    error: Exception | None = None
    while True:
        try:
            said = going.send(answer) if error is None else going.throw(error)
        except StopIteration as end:
            return end.value
        answer = error = None
        try:
            if isinstance(said, Need) and said.input in step.inputs:
                value = step.inputs[said.input]
                answer = (yield Wants((value,)))[0] if isinstance(value, Link) else value
            elif isinstance(said, Progress):
                yield said
            elif isinstance(said, list) and all(isinstance(call, Call) for call in said):
                answer = (yield said) if said else []
            else:
                raise BadReturn(
                    f"{step.node.id} yielded {said!r:.80}, which is neither calls, Progress nor Need of an input"
                )
        except BadReturn:
            raise
        except Exception as thrown:  # the driver's: a call that failed, or a stop, belongs to the node that asked
            error = thrown


def _awaited(returned: Sequence[tuple[object, Variables]]) -> Generator[Awaits, Any, list[Any]]:
    """The values, those that are coroutines run to their ends side by side."""
    coroutines = tuple((value, variables) for value, variables in returned if inspect.iscoroutine(value))
    values = iter((yield Awaits(coroutines)) if coroutines else ())
    return [next(values) if inspect.iscoroutine(value) else value for value, _ in returned]


def _versions(step: Step, given: Mapping[str, Any]) -> dict[str, list[int]]:
    """How often the tensors that a foreign node is given have been written to; our own nodes do not."""
    if not step.node.pack:
        return {}
    return {name: [t._version for t in tensors(_items(v)) if not t.is_inference()] for name, v in given.items()}


def _gathered(step: Step, returned: Sequence[object]) -> Generator[Said, Any, Result]:
    """One result of all calls.  Outputs that an expansion's nodes stand for are waited for."""
    parts = [_returned(step, value) for value in returned]
    nodes = {node_id: entry for part in parts for node_id, entry in (part.expand or {}).items()}
    if nodes:
        yield Expands(nodes)
    links = tuple(v for part in parts for v in part.outputs if part.expand is not None and isinstance(v, Link))
    values = iter((yield Wants(links)) if links else ())
    rows = [
        [next(values) if part.expand is not None and isinstance(v, Link) else v for v in part.outputs] for part in parts
    ]
    outputs = tuple(_output(step, j, [row[j] for row in rows]) for j in range(len(step.node.outputs)))
    files = tuple(path for value in returned if isinstance(value, Files) for path in value.paths)
    return Result(outputs, files, _shown(parts))


def _returned(step: Step, value: object) -> Returned:
    """What one call returned, with as many outputs as the node declares."""
    declared, node = step.node.outputs, step.node
    if isinstance(value, Files) and not declared:
        return Returned(())
    if not isinstance(value, Returned):
        none = value is None and not declared
        value = Returned(() if none else tuple(value) if isinstance(value, tuple) else (value,))
    if node.pack and not value.outputs and (value.ui is not None or value.expand is not None):
        return Returned((None,) * len(declared), value.ui, value.expand)
    if len(value.outputs) < len(declared) or (len(value.outputs) > len(declared) and not node.pack):
        raise BadReturn(f"{node.id} declares {len(declared)} outputs, and returned {len(value.outputs)}")
    return Returned(value.outputs[: len(declared)], value.ui, value.expand)


def _output(step: Step, slot: int, column: Sequence[Any]) -> object:
    """The values that the calls gave for one output: one value, or items that go on by themselves."""
    output = step.node.outputs[slot]
    items: list[object] = []
    for value in column:
        many = output.many and isinstance(value, list | tuple)
        items += value if many else _items(value)
    for item in items:
        if not step.node.pack and not isinstance(
            item, Blocked | (float | int if output.type is float else output.type)
        ):
            found = type(item).__name__
            raise BadReturn(f"{step.node.id} declares that {output.name} is {output.wire}, and returned {found}")
    return items[0] if len(items) == 1 else Items(tuple(items))


def _shown(parts: Sequence[Returned]) -> Mapping[str, Any] | None:
    """What an editor is to show: the lists of all calls, one after another."""
    shown = [part.ui for part in parts if part.ui is not None]
    names = dict.fromkeys(name for ui in shown for name in ui)
    return {name: [item for ui in shown for item in ui.get(name, ())] for name in names} if shown else None
