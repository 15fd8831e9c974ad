"""Widget values: ComfyUI writes them by place, Limner by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .kinds import CONTROL, SEEDS, TYPED, VIRTUAL, Sockets, Widget
from .sheets import dicts

FIXED, RANDOMIZE = "fixed", "randomize"
WORDS = frozenset({FIXED, RANDOMIZE, "increment", "decrement", "increment-wrap"})
BUTTONS = ("upload", "audioUI", "image", "audio", "video", "refresh")  # what an editor calls buttons, and their values
NOTHING: Mapping[str, Any] = {"INT": 0, "FLOAT": 0, "STRING": "", "BOOLEAN": False}

Raw = Mapping[str, Any]  # a node of ComfyUI's format


@dataclass(frozen=True, slots=True)
class Place:
    """What stands at a place of `widgets_values`."""

    widget: Widget
    part: Literal["value", "control", "button", "socket"] = "value"


@dataclass(frozen=True, slots=True)
class Named:
    """What a node's widgets hold."""

    values: Mapping[str, Any] = field(default_factory=dict)
    controls: Mapping[str, str] = field(default_factory=dict)  # what happens to a widget after a run, if anything does
    places: Sequence[Place] = ()  # where these came from
    unread: bool = False  # there are values whose names are not known
    problem: str = ""  # the end of a sentence about the node


def read(raw: Raw, sockets: Sockets | None) -> Named:
    """The values of a node by name.  Names that the file holds are believed before places are counted."""
    held = raw.get("widgets_values")
    named = raw.get("widgets_values_named")
    if isinstance(named, dict) and isinstance(held, list) and _match(named, held):
        named = dict(zip(named, held, strict=True))  # scripts change the list and forget the names
    named = named if isinstance(named, dict) else held
    if isinstance(named, dict):
        return _by_name(named, sockets)
    if not isinstance(held, list) or not held:
        return Named()
    return _by_place(held, sockets) if sockets else _guessed(held, raw)


def write(sockets: Sockets, values: Mapping[str, Any], controls: Mapping[str, str]) -> tuple[list[Any], dict[str, Any]]:
    """Both forms of a node's values: by place and by name.  What is not given has its default."""
    places = next(_layouts(sockets))
    found = [_written(place, values, controls) for place in places]
    return found, dict(zip(_called(places), found, strict=True))


def patched(raw: Raw, sockets: Sockets | None, values: Mapping[str, Any], controls: Mapping[str, str]) -> Any:
    """The list or object that a node's values stood in, with what they are now."""
    held = raw.get("widgets_values")
    if isinstance(held, dict):
        return {**held, **{name: bare(value) for name, value in values.items() if name in held}}
    if not isinstance(held, list):
        return held
    places = read({**raw, "widgets_values_named": None}, sockets).places
    changed = [
        _written(place, values, controls) if place.widget.name in values or place.part == "control" else before
        for place, before in zip(places, held, strict=False)
    ]
    return [*changed, *held[len(changed) :]]


def is_control(name: str) -> bool:
    """Whether an editor calls the control of a widget so; some are called after what they are set to at first."""
    base = name.partition("#")[0]
    return base == CONTROL or base in WORDS


def kept(value: Any) -> Any:
    """A value as a workflow's inputs hold it, where a bare list would be taken for a link."""
    return {"__value__": value} if isinstance(value, list) else value


def bare(value: Any) -> Any:
    """The value itself."""
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value


def _match(named: Raw, held: Sequence[Any]) -> bool:
    """Whether names and list tell of the same widgets in the same order, and only their values may differ."""
    if len(named) != len(held) or sorted(map(repr, named.values())) == sorted(map(repr, held)):
        return False  # equal anyhow, or sorted by name
    return all(
        (value is None or before is None or type(value) is type(before))
        and is_control(name) == (isinstance(value, str) and value in WORDS)
        for (name, before), value in zip(named.items(), held, strict=True)
    )


def _by_name(named: Mapping[str, Any], sockets: Sockets | None) -> Named:
    known = None if sockets is None else {name for name, _ in sockets.inputs}
    values: dict[str, Any] = {}
    controls: dict[str, str] = {}
    last = ""
    for name, value in named.items():
        if is_control(name):
            controls |= _controlled(last, value)
        elif _is_value(name, value, known):
            values[name] = kept(value)
        last = name
    return Named(values, controls)


def _is_value(name: str, value: Any, known: set[str] | None) -> bool:
    if value is None:
        return False
    if known is None:  # of an object, an editor's own widget; of "name#1", the second that an editor calls so
        return not isinstance(value, dict) and "#" not in name and not (name in BUTTONS and value in (*BUTTONS, ""))
    return name in known or name.partition(".")[0] in known  # an input may have inputs of its own


def _by_place(held: Sequence[Any], sockets: Sockets) -> Named:
    """The first layout that agrees with every value; else the one that agrees longest, and a problem."""
    layouts = [*_layouts(sockets)]
    agreed = [_agreeing(layout, held) for layout in layouts]
    whole = [layout for layout, places in zip(layouts, agreed, strict=True) if len(layout) == len(places)]
    for layout in whole:
        if len(layout) == len(held):
            return _named(layout, held)
    for layout in whole:
        if all(map(_idle, held[len(layout) :])) or sockets in VIRTUAL.values():
            return _named(layout, held)
    longest = max(agreed, key=len)
    return _named(longest, held, _drifted(longest, held, sockets))


def _guessed(held: Sequence[Any], raw: Raw) -> Named:
    """Of a type that is not known: its widgets are those that are drawn as sockets, if these are all there are."""
    rows = [
        (row["name"], row["type"])
        for row in dicts(raw.get("inputs"))
        if isinstance(row.get("widget"), dict)
        if isinstance(row.get("name"), str) and isinstance(row.get("type"), str)
    ]
    widgets = tuple(Widget(name, wire, control=wire == "INT" and name in SEEDS) for name, wire in rows)
    for layout in _layouts(Sockets(tuple(rows), (), widgets)):
        if len(layout) == len(held) == len(_agreeing(layout, held)):
            return _named(layout, held, sure=False)
    return Named(unread=True)


def _layouts(sockets: Sockets) -> Iterator[list[Place]]:
    """What `widgets_values` may hold: today's order first, then those of older editors."""
    for forced in (False, True):
        for control in (True, False):
            for button in (True, False):
                yield list(_places(sockets, control=control, button=button, forced=forced))


def _places(sockets: Sockets, *, control: bool, button: bool, forced: bool) -> Iterator[Place]:
    widgets = {widget.name: widget for widget in sockets.widgets}
    for name, wire in sockets.inputs:
        widget = widgets.get(name)
        if widget is not None:
            yield Place(widget)
            if widget.control and control:
                yield Place(widget, "control")
            if widget.button and button:
                yield Place(widget, "button")
        elif forced and wire in TYPED:
            yield Place(Widget(name, wire), "socket")


def _agreeing(layout: list[Place], held: Sequence[Any]) -> list[Place]:
    """The places up to the first whose value cannot be its own."""
    for k, (place, value) in enumerate(zip(layout, held, strict=False)):
        if not _agrees(place, value):
            return layout[:k]
    return layout[: len(held)]


def _agrees(place: Place, value: Any) -> bool:
    match place.part, place.widget.wire:
        case "control", _:
            return isinstance(value, bool) or (isinstance(value, str) and value in WORDS)
        case "button", _:
            return value is None or isinstance(value, str)
        case "socket", _:
            return True
        case "value", "INT":
            return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0)
        case "value", "FLOAT":
            return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        case "value", "STRING":
            return value is None or isinstance(value, str)
        case "value", "BOOLEAN":
            return value is None or isinstance(value, bool)
        case "value", "COMBO":
            return value is None or _may_be_chosen(value, place.widget.options)
    return True


def _may_be_chosen(value: Any, options: Sequence[Any]) -> bool:
    """A file that is not there any more is still a choice; a number among names is not."""
    kinds = {type(option) for option in options}
    return not isinstance(value, list | dict) and (not kinds or type(value) in kinds)


def _named(places: Sequence[Place], held: Sequence[Any], problem: str = "", *, sure: bool = True) -> Named:
    values: dict[str, Any] = {}
    controls: dict[str, str] = {}
    for place, value in zip(places, held, strict=False):
        if place.part == "value" and _is_value(place.widget.name, value, {place.widget.name} if sure else None):
            values[place.widget.name] = kept(_repaired(place.widget, value))
        elif place.part == "control":
            controls |= _controlled(place.widget.name, value)
    return Named(values, controls, places, unread=bool(problem), problem=problem)


def _drifted(places: Sequence[Place], held: Sequence[Any], sockets: Sockets) -> str:
    """What to say where the list does not fit the widgets: the node has changed since, or is another of its name."""
    expected = len([*_places(sockets, control=True, button=True, forced=False)])
    read = {place.widget.name for place in places}
    doubtful = [widget.name for widget in sockets.widgets if widget.name not in read]
    said = f"was saved with {len(held)} widget value{'s' * (len(held) != 1)}, and has places for {expected}"
    return f"{said}: look at {', '.join(doubtful)}" if doubtful else f"{said}: the last ones are not used"


def _idle(value: Any) -> bool:
    """Whether it is what an editor's own widget leaves behind the values: nothing, or the name of a button."""
    return value is None or value == "" or (isinstance(value, str) and value in BUTTONS)


def _repaired(widget: Widget, value: Any) -> Any:
    """Samplers had longer names once."""
    if isinstance(value, str) and widget.options and value not in widget.options:
        shorter = value.removeprefix("sample_")
        return shorter if shorter in widget.options else value
    return value


def _controlled(name: str, value: Any) -> dict[str, str]:
    word = {True: RANDOMIZE, False: FIXED}[value] if isinstance(value, bool) else value
    return {name: word} if isinstance(word, str) and word in WORDS and word != FIXED else {}


def _written(place: Place, values: Mapping[str, Any], controls: Mapping[str, str]) -> Any:
    widget = place.widget
    if place.part == "control":
        return controls.get(widget.name, FIXED)
    if place.part == "button":
        return widget.button
    if widget.name in values:
        return bare(values[widget.name])
    if widget.default is not None:
        return bare(widget.default)
    return widget.options[0] if widget.options else NOTHING.get(widget.wire)


def _called(places: Sequence[Place]) -> Iterator[str]:
    """What an editor calls what stands there; the second of a name is "name#1"."""
    taken: Counter[str] = Counter()
    for place in places:
        name = {"control": CONTROL, "button": "upload"}.get(place.part, place.widget.name)
        yield f"{name}#{taken[name]}" if taken[name] else name
        taken[name] += 1
