"""`comfy_api.latest` and its like: how a node tells how far it is, from plain and from async functions."""

from __future__ import annotations

from typing import Any

from ...call import CALLING
from ...values import Progress

__all__ = ["ComfyAPI", "ComfyAPISync"]


class Execution:
    """Progress, for async nodes."""

    async def set_progress(
        self,
        value: float,
        max_value: float,
        node_id: str | None = None,  # noqa: ARG002 - its signature there; it is the node that is running
        preview_image: Any = None,
        ignore_size_limit: bool = False,  # noqa: ARG002, FBT001
    ) -> None:
        """So much of so much is done."""
        _report(value, max_value, preview_image)


class ExecutionSync:
    """Progress, for plain nodes."""

    def set_progress(
        self,
        value: float,
        max_value: float,
        node_id: str | None = None,  # noqa: ARG002 - its signature there; it is the node that is running
        preview_image: Any = None,
        ignore_size_limit: bool = False,  # noqa: ARG002, FBT001
    ) -> None:
        """So much of so much is done."""
        _report(value, max_value, preview_image)


class ComfyAPI:
    """What async nodes may ask of their host."""

    VERSION = "latest"
    STABLE = False
    Execution = Execution

    def __init__(self) -> None:
        self.execution = self.Execution()


class ComfyAPISync:
    """What plain nodes may ask of their host."""

    VERSION = "latest"
    STABLE = False
    Execution = ExecutionSync

    def __init__(self) -> None:
        self.execution = self.Execution()


def _report(value: float, total: float, preview: Any) -> None:
    """As steps of one thousandth where they are fractions."""
    if (calling := CALLING.get(None)) is None:  # a thread of the pack's own, which no run knows
        return
    whole = float(value).is_integer() and float(total).is_integer()
    scale = 1 if whole else 1000 / total
    done, most = round(value * scale), round(total * scale)
    calling.report(Progress(done, most, _framed(preview)))


def _framed(preview: Any) -> Any:
    """A Pillow image as a progress bar's preview; tensors are (1, H, W, 3) or (H, W, 3)."""
    if preview is None:
        return None
    if hasattr(preview, "save"):
        return ("JPEG", preview, None)
    from ...pictures import picture

    return ("JPEG", picture(preview.reshape(-1, *preview.shape[-2:])[: preview.shape[-3]]), None)
