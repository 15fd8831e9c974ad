"""The tensors inside wire values: found, replaced, and turned into plain data and back.  Knows every storable value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from operator import is_
from typing import TYPE_CHECKING, Any, TypeVar

from .values import Conditioning, Files, Image, Latent, Mask, Seeds, Sigmas

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

STORABLE = {kind.__name__: kind for kind in (Conditioning, Files, Image, Latent, Mask, Seeds, Sigmas)}


def tensors(value: object) -> Iterator[Tensor]:
    """Every tensor in a tuple of wire values.  Foreign lists and dicts may hold themselves."""
    from torch import Tensor

    waiting = [value]
    seen: set[int] = set()
    while waiting:
        part = waiting.pop()
        if isinstance(part, list | Mapping):
            if id(part) in seen:
                continue
            seen.add(id(part))
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, tuple | list):
            waiting += part
        elif isinstance(part, Mapping):
            waiting += part.values()
        elif is_dataclass(part) and not isinstance(part, type):
            waiting += (getattr(part, f.name) for f in fields(part))


def size(value: object) -> int:
    """Bytes that the tensors of `value` take."""
    return sum(t.nbytes for t in tensors(value))


def finite(value: object) -> bool:
    """Whether no tensor of `value` holds NaN or infinity."""
    return all(bool(t.isfinite().all()) for t in tensors(value) if t.is_floating_point())


def mapped(value: T, change: Callable[[Tensor], Tensor]) -> T:
    """`value` with every tensor replaced; itself where none was."""
    from torch import Tensor

    if isinstance(value, Tensor):
        return change(value)  # type: ignore[return-value]
    if type(value) in (tuple, list):
        parts = [mapped(part, change) for part in value]  # type: ignore[attr-defined]
        return value if all(map(is_, parts, value)) else type(value)(parts)  # type: ignore[call-arg, call-overload]
    if is_dataclass(value) and not isinstance(value, type):
        before = {f.name: getattr(value, f.name) for f in fields(value)}
        changed = {name: new for name, old in before.items() if (new := mapped(old, change)) is not old}
        return replace(value, **changed) if changed else value
    return value


def flattened(value: object) -> tuple[Any, dict[str, Tensor]]:
    """Plain JSON data and the tensors it names.  Raises TypeError where `value` holds something that is not plain."""
    found: dict[str, Tensor] = {}
    return _flat(value, found), found


def rebuilt(data: Any, found: Mapping[str, Tensor]) -> Any:
    """What `flattened` took apart.  Raises KeyError, TypeError or ValueError where `data` is damaged."""
    if not isinstance(data, dict):
        return data
    (tag, content), *_ = data.items()
    if tag == "tensor":
        return found[content]
    if tag == "tuple":
        return tuple(rebuilt(part, found) for part in content)
    return STORABLE[tag](**{name: rebuilt(part, found) for name, part in content.items()})


def _flat(value: object, found: dict[str, Tensor]) -> Any:
    from torch import Tensor

    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        name = str(len(found))
        found[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if type(value) is tuple:
        return {"tuple": [_flat(part, found) for part in value]}
    if type(value) in STORABLE.values():
        return {type(value).__name__: {f.name: _flat(getattr(value, f.name), found) for f in fields(value)}}  # type: ignore[arg-type]
    raise TypeError(f"{type(value).__name__} is not plain data")
