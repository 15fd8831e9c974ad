"""Nodes on texts."""
# ruff: noqa: N802

from . import marks


class Glue:
    DESCRIPTION = "Put one text behind another."
    CATEGORY = "toys/words"
    RETURN_TYPES = ("STRING", "INT")
    RETURN_NAMES = ("text", "length")
    OUTPUT_TOOLTIPS = ("Both.", "How long it is.")
    FUNCTION = "glue"
    DEPRECATED = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "first": ("STRING", {"default": "a", "multiline": True, "tooltip": "What comes first."}),
                "second": ("STRING", {"forceInput": True}),
            },
            "optional": {
                "times": ("INT", {"default": 1, "min": 1, "max": 4, "step": 1}),
                "gap": (["", "-", 7, 2.5], {"default": "-"}),
            },
        }

    def glue(self, first, second, times=3, gap=""):
        text = first + str(gap) + second * times
        return text, len(text)


class Shout:
    RETURN_TYPES = "STRING"  # a comma was forgotten
    FUNCTION = "shout"
    EXPERIMENTAL = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": "STRING"}}

    def shout(self, text):
        return text.upper() + marks.MARK
