"""Node packs made for ComfyUI, as nodes of our own kind."""
