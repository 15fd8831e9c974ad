"""`node_helpers`: conditionings with more said in them, and pictures that Pillow finds odd."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

__all__ = ["conditioning_set_values", "hasher", "pillow", "string_to_torch_dtype"]


def conditioning_set_values(
    conditioning: list[Any],
    values: Mapping[str, Any] | None = None,
    append: bool = False,  # noqa: FBT001 - its signature there
) -> list[Any]:
    """A conditioning that also says `values`; with `append`, after what it says already."""
    found = []
    for tokens, said in conditioning:
        added = dict(values or {})
        if append:
            added = {name: [*said[name], *value] if name in said else value for name, value in added.items()}
        found.append([tokens, {**said, **added}])
    return found


def pillow(fn: Callable[[Any], T], arg: Any) -> T:
    """Call a function of Pillow's; a file that is cut off is read as far as it goes."""
    from PIL import ImageFile, UnidentifiedImageError

    try:
        return fn(arg)
    except (OSError, UnidentifiedImageError, ValueError):
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            return fn(arg)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def hasher() -> Callable[..., Any]:
    """How files are hashed."""
    return hashlib.sha256


def string_to_torch_dtype(string: str) -> Any:
    """A dtype by one of its short names, or None."""
    import torch

    names = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    return names.get(string)
