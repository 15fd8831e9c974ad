"""`comfy_execution.graph`: what blocks a value, and the graph that is running."""

from ...run import DynamicPrompt
from .comfy_execution_graph_utils import ExecutionBlocker, is_link

__all__ = ["DynamicPrompt", "ExecutionBlocker", "is_link"]
