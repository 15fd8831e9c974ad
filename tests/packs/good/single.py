"""A pack of one file."""
# ruff: noqa: N802


class Double:
    RETURN_TYPES = ("INT",)
    FUNCTION = "double"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("INT", {"default": 1})}}

    def double(self, number):
        return (2 * number,)


NODE_CLASS_MAPPINGS = {"ToyDouble": Double}
