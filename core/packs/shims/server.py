"""`server`: the running server, at `PromptServer.instance`."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from ..prompt_server import PromptServer

if TYPE_CHECKING:
    from ..house import House

__all__ = ["BinaryEventTypes"]


class BinaryEventTypes(IntEnum):
    """Events whose data are bytes, or a picture that becomes such."""

    PREVIEW_IMAGE = 1
    UNENCODED_PREVIEW_IMAGE = 2  # ("JPEG" or "PNG", a Pillow image, the largest side or None)
    TEXT = 3
    PREVIEW_IMAGE_WITH_METADATA = 4


def members(house: House) -> dict[str, Any]:
    """The class, with the one server that there is."""
    return {"PromptServer": type("PromptServer", (PromptServer,), {"instance": house.server})}
