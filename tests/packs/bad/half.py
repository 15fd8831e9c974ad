"""A pack of which some nodes are good."""
# ruff: noqa: N802


class Good:
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return (1,)


class Raises(Good):
    @classmethod
    def INPUT_TYPES(cls):
        raise KeyError("nothing there")


class NoFunction:
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):
        return {}


NODE_CLASS_MAPPINGS = {
    "BadGood": Good,
    "BadRaises": Raises,
    "BadNoFunction": NoFunction,
    "limner.SaveImage": Good,
    "ToyTwice": Good,
}
