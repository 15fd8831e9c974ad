"""ComfyUI's kind of node as ours: a class of the V1 protocol becomes a `Node` whose function calls it.

Values are unwrapped on their way in and wrapped on their way out; what classes do in ways of their own ends here.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import json
import logging
import math
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from ..call import CALLING
from ..errors import BadReturn, words
from ..graph import Link
from ..litegraph.lowering import is_link
from ..raw import held, unwrapped
from ..schema import REQUIRED, WIDGETS, Choice, Hint, Input, Multiline, Node, Output, Range
from ..values import Blocked, Items, Returned
from .awaiting import Quiet, ended, quiet
from .shims.comfy_execution_graph_utils import GRAPHS, ExecutionBlocker

COMBO = "COMBO"
KINDS = {wire: kind for kind, wire in WIDGETS.items()}
FILLED_IN = ("UNIQUE_ID", "PROMPT", "EXTRA_PNGINFO", "DYNPROMPT")  # hidden inputs that the runner knows
EMPTY: Mapping[str, Any] = {"PROMPT": {}, "EXTRA_PNGINFO": {}}  # what a class finds there while nothing runs yet
INSTANCES = 256  # kept for each class: some remember things from one run to the next
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class NotANode(TypeError):
    """A class that does not keep to the protocol."""


class Offered(Choice):
    """Choices that a class gives anew when it is asked again: a file may have come since."""

    again: Callable[[], Sequence[Any]]

    def __new__(cls, again: Callable[[], Sequence[Any]], *options: Any) -> Offered:
        """Offer `options`, and what `again` finds."""
        offered: Any = super().__new__(cls, *options)
        offered.again = again
        return cast("Offered", offered)

    def __contains__(self, value: object) -> bool:
        return super().__contains__(value) or value in self.again()


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function may be given by name."""

    names: tuple[str, ...]
    takes_all: bool  # it has a **kwargs


def node(node_id: str, kind: type, *, pack: str, version: str, label: str = "") -> Node[..., object]:
    """The node that `kind` is.  Raises what its INPUT_TYPES raises, and `NotANode`."""
    if not callable(method := getattr(kind, str(getattr(kind, "FUNCTION", "")), None)):
        raise NotANode("it names no method of its own as FUNCTION")
    inputs = _inputs(kind)
    outputs = _outputs(kind)
    signature = signed(method)
    foreign = Foreign(kind, inputs, outputs, signature)
    declared = {spec.name for spec in inputs}
    return Node(
        name=node_id,
        category=str(getattr(kind, "CATEGORY", pack)),
        version=version,
        function=_function(foreign),
        inputs=inputs,
        outputs=outputs,
        delivers=bool(getattr(kind, "OUTPUT_NODE", False)),
        namespace="",
        label=str(label or node_id),
        help=str(getattr(kind, "DESCRIPTION", "") or ""),
        pack=pack,
        takes_lists=foreign.takes_lists,
        by_id=bool(getattr(kind, "NOT_IDEMPOTENT", False)) or any(spec.hidden == "UNIQUE_ID" for spec in inputs),
        open=signature.takes_all or any(name not in declared for name in signature.names),
        asks=foreign.asks if hasattr(kind, "check_lazy_status") else None,
        fingerprint=foreign.fingerprint if hasattr(kind, "IS_CHANGED") else None,
        checks=foreign.checks if hasattr(kind, "VALIDATE_INPUTS") else None,
        unchecked=foreign.unchecked if hasattr(kind, "VALIDATE_INPUTS") else None,
        deprecated=bool(getattr(kind, "DEPRECATED", False)),
        experimental=bool(getattr(kind, "EXPERIMENTAL", False)),
    )


def signed(function: Callable[..., Any]) -> Signature:
    """What `function` may be given by name, `self` and `cls` apart where it is a method."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # made in C
        return Signature((), takes_all=True)
    return Signature(
        tuple(p.name for p in parameters if p.kind in NAMED and p.name not in {"self", "cls"}),
        any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters),
    )


def theirs(error: BaseException) -> bool:
    """Whether foreign code has raised this, be it what ends programs; not where somebody has pressed Ctrl-C."""
    return not isinstance(error, KeyboardInterrupt) or threading.current_thread() is not threading.main_thread()


# ------------------------------------------------------------------------------------------------ what a class declares


def _inputs(kind: type) -> tuple[Input, ...]:
    groups = kind.INPUT_TYPES()  # type: ignore[attr-defined]
    if not isinstance(groups, Mapping):
        raise NotANode(f"its INPUT_TYPES gives {type(groups).__name__}, not a dict")
    found = {
        name: _input(kind, group, name, entry)
        for group in ("required", "optional", "hidden")
        for name, entry in (groups.get(group) or {}).items()
    }
    return tuple(found.values())


def _input(kind: type, group: str, name: str, entry: Any) -> Input:
    first, options = _entry(entry)
    if group == "hidden" and isinstance(first, str) and _text(first) in FILLED_IN:
        return Input(name, object, str(first), None, hidden=str(first))
    choices = _choices(first, options)
    wire = COMBO if choices is not None else _wire(first)
    hint: Hint | None = _hint(wire, options)
    if choices is not None:
        hint = Offered(lambda: _again(kind, group, name), *choices)
    return Input(
        name=name,
        type=str if choices is not None else KINDS.get(_text(wire), object),
        wire=wire,
        default=REQUIRED if group == "required" else None,
        hint=hint,
        doc=str(options.get("tooltip") or ""),
        lazy=bool(options.get("lazy", False)),
        raw=bool(options.get("rawLink", False)),
        options=options,
    )


def _entry(entry: Any) -> tuple[Any, Mapping[str, Any]]:
    """The type and the options of `("INT", {...})`, `("INT",)` and, as some write, `"INT"`."""
    if isinstance(entry, str) or not isinstance(entry, Sequence) or not entry:
        entry = (entry,)
    options = entry[1] if len(entry) > 1 and isinstance(entry[1], Mapping) else {}
    return entry[0], options


def _choices(first: Any, options: Mapping[str, Any]) -> Sequence[Any] | None:
    if isinstance(first, list | tuple):
        return first
    if isinstance(first, str) and _text(first) == COMBO:
        return tuple(options.get("options") or ())
    return None


def _again(kind: type, group: str, name: str) -> Sequence[Any]:
    try:
        first, options = _entry(kind.INPUT_TYPES()[group][name])  # type: ignore[attr-defined]
        return _choices(first, options) or ()
    except BaseException as error:  # it worked before; what it offers now cannot be known
        if not theirs(error):
            raise
        return ()


def _hint(wire: str, options: Mapping[str, Any]) -> Hint | None:
    match _text(wire):
        case "INT" | "FLOAT" if "min" in options or "max" in options:
            return Range(options.get("min", -math.inf), options.get("max", math.inf), options.get("step"))
        case "STRING" if options.get("multiline"):
            return Multiline()
    return None


def _outputs(kind: type) -> tuple[Output, ...]:
    wires = _row(getattr(kind, "RETURN_TYPES", ()))
    names = _row(getattr(kind, "RETURN_NAMES", ()))
    many = _row(getattr(kind, "OUTPUT_IS_LIST", ()))
    docs = _row(getattr(kind, "OUTPUT_TOOLTIPS", ()))
    return tuple(
        Output(
            name=str(names[k]) if k < len(names) and names[k] else _text(_wire(wire)),
            wire=_wire(wire),
            many=k < len(many) and bool(many[k]),
            doc=str(docs[k] or "") if k < len(docs) else "",
        )
        for k, wire in enumerate(wires)
    )


def _row(value: Any) -> tuple[Any, ...]:
    """A tuple; `("IMAGE")` is one of one, as was meant."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) or not isinstance(value, Sequence) else tuple(value)


def _wire(kind: Any) -> str:
    """The name of a type.  A string of a class that answers `!=` in its own way is kept as it is."""
    if isinstance(kind, list | tuple):
        return COMBO
    if not isinstance(kind, str):
        return str(getattr(kind, "__name__", kind))
    own = type(kind).__ne__ is not str.__ne__
    if own and type(kind).__hash__ is None:  # it cannot stand in a table
        own = False
    return kind if own else _text(kind)


def _text(kind: str) -> str:
    """The plain string in `kind`, whatever its class makes of it."""
    return str.__str__(kind)[:]


def _function(foreign: Foreign) -> Callable[..., object]:
    """What a node calls: of the pack's module, so that nobody takes its results for those of our own code."""

    def call(**arguments: Any) -> object:
        return foreign.call(**arguments)

    call.__module__ = foreign.kind.__module__
    return call


# ---------------------------------------------------------------------------------------------------- what a class does


@dataclass(frozen=True)
class Foreign:
    """A class of the V1 protocol, and what was found out about it."""

    kind: type
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    signature: Signature

    def __post_init__(self) -> None:
        object.__setattr__(self, "_instance", lru_cache(INSTANCES)(lambda _: self.kind()))

    @property
    def takes_lists(self) -> bool:
        """Whether each input is a list of all there is."""
        return bool(getattr(self.kind, "INPUT_IS_LIST", False))

    def call(self, **arguments: Any) -> Returned | Coroutine[Any, Any, Returned]:
        """Call the class's FUNCTION, on the instance that this node of the graph has."""
        GRAPHS.set(itertools.count())
        method = getattr(self._own_instance(), self.kind.FUNCTION)  # type: ignore[attr-defined]
        with quiet():
            result = method(**self._raw(arguments, self.signature))
        return self._later(result) if inspect.isawaitable(result) else self._returned(result)

    def asks(self, **arguments: Any) -> list[str] | Coroutine[Any, Any, list[str]]:
        """The lazy inputs that the class wants now."""
        method = self._own_instance().check_lazy_status
        signature = signed(method)
        with quiet():
            result = method(**self._raw(arguments, signature, only=True))
        return _names_later(result) if inspect.isawaitable(result) else _names(result)

    def fingerprint(self, **constants: Any) -> str | None:
        """What the class says of the world outside, as text; None where it is to run every time."""
        try:
            result = ended(self.kind.IS_CHANGED(**self._told(constants, self.kind.IS_CHANGED)))  # type: ignore[attr-defined]
            return _canonical(result)
        except BaseException as error:  # the protocol: then it runs every time
            if not theirs(error):
                raise
            reason = f"{type(error).__name__}: {words(error)}"
            _log_once(f"{self.kind.__name__} runs every time: its IS_CHANGED failed with {reason}")
            return None

    def checks(self, constants: Mapping[str, Any], links: Mapping[str, str]) -> dict[str | None, str]:
        """What the class has against its inputs."""
        method = self.kind.VALIDATE_INPUTS  # type: ignore[attr-defined]
        signature = signed(method)
        given = {**constants, **dict.fromkeys(links)}
        told = {n: v for n, v in given.items() if signature.takes_all or n in signature.names}
        if self.takes_lists:
            told = {name: [value] for name, value in told.items()}
        types = {"input_types": dict(links)} if "input_types" in signature.names else {}
        try:
            answer = ended(method(**told, **types))
        except BaseException as error:  # a check that cannot be made is not passed
            if not theirs(error):
                raise
            return {None: f"its own check failed with {type(error).__name__}: {words(error)}"}
        if answer is True or isinstance(answer, ExecutionBlocker):
            return {}
        about = next(iter(told)) if len(told) == 1 else None
        return {about: answer if isinstance(answer, str) and answer else "the node does not accept this"}

    def unchecked(self) -> frozenset[str]:
        """The inputs that the class checks by itself."""
        signature = signed(self.kind.VALIDATE_INPUTS)  # type: ignore[attr-defined]
        if signature.takes_all or "input_types" in signature.names:
            return frozenset({"*"})
        return frozenset(signature.names)

    def _own_instance(self) -> Any:
        calling = CALLING.get(None)
        return self._instance(calling.node if calling else "")  # type: ignore[attr-defined]

    def _raw(self, arguments: Mapping[str, Any], signature: Signature, *, only: bool = False) -> dict[str, Any]:
        """The arguments as the class knows them.  What it does not declare is left out unless its function takes it."""
        declared = {spec.name for spec in self.inputs} if not only else set()
        fits = {n: v for n, v in arguments.items() if n in declared or signature.takes_all or n in signature.names}
        if self.takes_lists:
            return {name: [_raw(item) for item in values] for name, values in fits.items()}
        return {name: _raw(value) for name, value in fits.items()}

    def _told(self, constants: Mapping[str, Any], method: Callable[..., Any]) -> dict[str, Any]:
        """Constants as IS_CHANGED gets them: hidden ones are empty, for nothing runs yet."""
        names = signed(method)
        hidden = {s.name: EMPTY.get(s.hidden) for s in self.inputs if s.hidden}
        told = {n: v for n, v in hidden.items() if names.takes_all or n in names.names} | {**constants}
        return {name: [value] for name, value in told.items()} if self.takes_lists else told

    async def _later(self, result: Awaitable[Any]) -> Returned:
        return self._returned(await Quiet(result))

    def _returned(self, result: Any) -> Returned:
        shown = expand = None
        if isinstance(result, dict) and (result.keys() & {"result", "ui", "expand"} or not self.outputs):
            shown, expand = result.get("ui"), result.get("expand")
            _check_shown(self.kind.__name__, shown)
            _check_expansion(self.kind.__name__, expand)
            result = result.get("result")
        if isinstance(result, ExecutionBlocker):
            result = (result,) * len(self.outputs)
        if result is None:
            return Returned((), shown, expand)
        row = tuple(result) if isinstance(result, tuple | list) else (result,)  # a forgotten comma
        return Returned(tuple(self._outward(row, expands=expand is not None)), shown, expand)

    def _outward(self, row: tuple[Any, ...], *, expands: bool) -> Iterator[Any]:
        """The results as our wires have them.  One that is missing blocks what depends on it, and nothing else."""
        for k, output in enumerate(self.outputs):
            if k >= len(row):
                yield Blocked(f"{self.kind.__name__} returned no {output.name}")
            elif output.many and _is_many(row[k], expands=expands):
                yield [_wrapped(item, output.wire, expands=expands) for item in row[k]]
            else:
                yield _wrapped(row[k], output.wire, expands=expands)


def _check_shown(name: str, shown: Any) -> None:
    if shown is not None and not (
        isinstance(shown, Mapping) and all(isinstance(items, Iterable) for items in shown.values())
    ):
        raise BadReturn(f"{name} returned {shown!r:.80} as `ui`, which must be a dict of lists")


def _check_expansion(name: str, expand: Any) -> None:
    if expand is None:
        return
    if not isinstance(expand, Mapping):
        raise BadReturn(f"{name} returned {expand!r:.80} as `expand`, which must be a dict of nodes by their ids")
    for node_id, entry in expand.items():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("class_type"), str):
            raise BadReturn(f"{name} expands into {node_id!r}, which has no class_type")
        if not isinstance(entry.get("inputs"), Mapping):
            raise BadReturn(f"{name} expands into {node_id!r}, which has no inputs")


def _raw(value: Any) -> Any:
    """A value as foreign nodes know it.  Containers are theirs to change: what is in them is not copied."""
    match value:
        case Link(node_id, output):
            return [node_id, output]
        case Blocked(message):
            return ExecutionBlocker(message)
        case Items(values):
            return [_raw(item) for item in values]
        case dict() if "samples" in value:
            return copy.copy(value)
        case [[_, dict()], *_]:
            return [[part[0], dict(part[1])] if _is_pair(part) else part for part in value]
    return unwrapped(value)


def _is_pair(part: Any) -> bool:
    return isinstance(part, list | tuple) and len(part) == 2 and isinstance(part[1], dict)


def _is_many(value: Any, *, expands: bool) -> bool:
    return (
        not isinstance(value, str | dict | ExecutionBlocker)
        and hasattr(value, "__iter__")
        and not (expands and is_link(value))
    )


def _wrapped(value: Any, wire: str, *, expands: bool) -> Any:
    if isinstance(value, ExecutionBlocker):
        return Blocked(value.message)
    if expands and is_link(value):
        return Link(value[0], value[1])
    return held(value, _text(wire))


def _names(result: Any) -> list[str]:
    return [result] if isinstance(result, str) else [name for name in result or () if isinstance(name, str)]


async def _names_later(result: Awaitable[Any]) -> list[str]:
    return _names(await Quiet(result))


def _canonical(value: Any) -> str | None:
    """A value as text, so that equal ones are equal; None for NaN and for what cannot be compared."""
    text = json.dumps(value, sort_keys=True, default=_plain)
    return None if _has_nan(json.loads(text)) else text


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if hasattr(value, "item") and getattr(value, "size", None) == 1:  # a number of numpy's
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be compared from run to run")


def _has_nan(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_nan, value.values()))
    return any(map(_has_nan, value)) if isinstance(value, list) else isinstance(value, float) and math.isnan(value)


@lru_cache(1000)
def _log_once(text: str) -> None:
    logging.getLogger("limner.packs").warning(text)
