"""`nodes`: every node there is, as a class by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..house import House

__all__ = ["MAX_RESOLUTION"]

MAX_RESOLUTION = 16384


def members(house: House) -> dict[str, Any]:
    """The host's tables; a pack may look into them, and finds what was loaded before it."""
    by_name = {name: kind for name, kind in house.classes.items() if name.isidentifier()}
    return {
        "NODE_CLASS_MAPPINGS": house.classes,
        "NODE_DISPLAY_NAME_MAPPINGS": house.titles,
        "EXTENSION_WEB_DIRS": house.web,
    } | by_name
