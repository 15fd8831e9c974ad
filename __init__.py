"""Limner: pictures from words, by graphs of nodes.  ComfyUI's door too: importing it costs nothing."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.notebook import Graph

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "Graph"]


def __getattr__(name: str) -> Any:
    """Make what is asked for when it is asked for."""
    if name == "Graph":
        from .core.notebook import Graph

        return Graph
    if name in {"NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"}:
        from .core.comfy import node_classes
        from .nodes import NODES

        names = {node.id: f"{node.title} (Limner)" for node in NODES.values()}
        return node_classes(NODES) if name == "NODE_CLASS_MAPPINGS" else names
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
