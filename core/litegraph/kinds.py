"""What has to be known of a type of node: its sockets and widgets, in the order in which files write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..schema import REQUIRED, Choice, Input, InputFile, ModelFile, Node, Seed

ANY = "*"
CONTROL = "control_after_generate"
TYPED = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})  # wires whose inputs are widgets, if not forced
SEEDS = frozenset({"seed", "noise_seed"})  # widgets that are followed by what happens to them after a run

REROUTE, PRIMITIVE, SET, GET = "Reroute", "PrimitiveNode", "SetNode", "GetNode"
NOTES = {"Note": False, "MarkdownNote": True}
EVERYWHERE = frozenset({"Anything Everywhere", "Anything Everywhere?", "Anything Everywhere3", "Prompts Everywhere"})


@dataclass(frozen=True, slots=True)
class Widget:
    """A value that is typed in or chosen."""

    name: str
    wire: str  # INT, FLOAT, STRING, BOOLEAN, COMBO, or another whose values nobody checks
    default: Any = None
    options: tuple[Any, ...] = ()  # of a drop-down, where they are known
    control: bool = False  # what happens to it after a run stands behind it
    button: str = ""  # what stands behind it for the button that uploads a file: "image"


@dataclass(frozen=True, slots=True)
class Sockets:
    """What can be plugged in and out of a type of node, in order, and which inputs are widgets as well."""

    inputs: tuple[tuple[str, str], ...]  # names and wires: required ones before optional ones
    outputs: tuple[str, ...]  # wires
    widgets: tuple[Widget, ...] = ()
    names: tuple[str, ...] = ()  # of the outputs; those that are not named are called as their wires

    @property
    def rows(self) -> list[tuple[str, str]]:
        """The inputs as an editor draws them, by which a bypassed node counts them: sockets before widgets."""
        typed = {widget.name for widget in self.widgets}
        return sorted(self.inputs, key=lambda row: row[0] in typed)

    def output(self, slot: int) -> tuple[str, str]:
        """The name and the wire of an output."""
        wire = self.outputs[slot] if slot < len(self.outputs) else ANY
        return (self.names[slot] if slot < len(self.names) else wire), wire


SocketsOf = Callable[[str], Sockets | None]  # of a class_type; None where it is not known

VIRTUAL: Mapping[str, Sockets] = {  # what only an editor knows; `lower` sees through them
    REROUTE: Sockets((("value", ANY),), (ANY,), names=("",)),
    PRIMITIVE: Sockets((("value", ANY),), (ANY,), (Widget("value", ANY, control=True),), names=("value",)),
    SET: Sockets((("value", ANY), ("name", "STRING")), (ANY,), (Widget("name", "STRING"),)),
    GET: Sockets((("name", "STRING"),), (ANY,), (Widget("name", "STRING"),)),
}


def sockets(node: Node[..., object]) -> Sockets:
    """The sockets of a node of ours, or of a pack's, as ComfyUI's editor shows it."""
    needed = (lambda spec: spec.default is REQUIRED) if node.pack else (lambda spec: spec.default is not None)
    inputs = sorted((spec for spec in node.inputs if not spec.hidden), key=needed, reverse=True)
    return Sockets(
        tuple((spec.name, spec.wire) for spec in inputs),
        tuple(output.wire for output in node.outputs),
        tuple(_widget(spec) for spec in inputs if spec.is_widget and not (spec.options or {}).get("forceInput")),
        tuple(output.name for output in node.outputs),
    )


def fits(wire: str, socket: str) -> bool:
    """Whether an output of type `wire` may be plugged into `socket`, as an editor of ComfyUI's format sees it."""
    if wire in ("", ANY) or socket in ("", ANY):
        return True
    return not _names(wire).isdisjoint(_names(socket))


def declared(entry: Mapping[str, Any]) -> Sockets | None:
    """The sockets that a node brought along from its file, because its type was not known where that was read."""
    found = entry.get("_meta", {}).get("sockets")
    if not isinstance(found, dict):
        return None
    inputs, outputs = _pairs(found.get("inputs")), _pairs(found.get("outputs"))
    return Sockets(inputs, tuple(wire for _, wire in outputs), (), tuple(name for name, _ in outputs))


def boundary(definition: Mapping[str, Any]) -> Sockets:
    """The sockets of the instances of a definition."""
    rows, outputs = definition.get("inputs", []), definition.get("outputs", [])
    return Sockets(
        tuple((row["name"], _wire(row)) for row in rows),
        tuple(_wire(row) for row in outputs),
        tuple(Widget(row["name"], _wire(row), row.get("default")) for row in rows if is_widget(row)),
        tuple(str(row.get("name", _wire(row))) for row in outputs),
    )


def is_widget(row: Mapping[str, Any]) -> bool:
    """Whether a definition's input can be typed in: it says so, or has a default."""
    return bool(row.get("widget", "default" in row))


def _widget(spec: Input) -> Widget:
    said = spec.options or {}
    chosen = isinstance(spec.hint, Choice | ModelFile | InputFile)
    uploads = [kind for kind in ("image", "audio", "video") if said.get(f"{kind}_upload")]
    seed = isinstance(spec.hint, Seed) or (spec.wire == "INT" and spec.name in SEEDS)
    return Widget(
        name=spec.name,
        wire="COMBO" if chosen else spec.wire,
        default=said.get("default") if spec.default is REQUIRED or spec.default is None else spec.default,
        options=tuple(spec.hint) if isinstance(spec.hint, Choice) else (),
        control=bool(said.get(CONTROL, seed)),
        button=uploads[0] if uploads else "image" if isinstance(spec.hint, InputFile) else "",
    )


def _wire(row: Mapping[str, Any]) -> str:
    wire = row.get("type", ANY)
    return wire if isinstance(wire, str) else ANY


def _pairs(rows: object) -> tuple[tuple[str, str], ...]:
    pairs = [row for row in rows if isinstance(row, list) and len(row) == 2] if isinstance(rows, list) else []
    return tuple((str(name), str(wire)) for name, wire in pairs)


def _names(wire: str) -> set[str]:
    return {name.strip().lower() for name in wire.split(",")}
