"""A pack that wants something of a module of ComfyUI's that is not there."""

from comfy.utils import unheard_of  # noqa: F401
