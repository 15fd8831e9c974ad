"""A pack that works on ComfyUI's own networks."""

import comfy.sd  # noqa: F401
