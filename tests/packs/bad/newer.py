"""A pack of ComfyUI's later protocol."""


async def comfy_entrypoint():
    return None
