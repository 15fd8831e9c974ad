"""A node for every sentence of the V1 protocol."""
# ruff: noqa: N802, RUF012, SLOT000

import asyncio
from pathlib import Path

import torch
from comfy.comfy_types import IO, ComfyNodeABC, InputTypeDict
from comfy.utils import ProgressBar
from comfy_execution.graph import ExecutionBlocker
from comfy_execution.graph_utils import GraphBuilder

CALLS = []  # what was called with what, for the tests


class Anything(str):
    """Fits everything."""

    def __ne__(self, other):
        return False

    __hash__ = str.__hash__


class Toy:
    CATEGORY = "toys"
    FUNCTION = "run"
    RETURN_TYPES = ("INT",)
    REQUIRED = {}
    OPTIONAL = {}

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": cls.REQUIRED, "optional": cls.OPTIONAL}


class Number(Toy):
    REQUIRED = {"value": ("INT", {"default": 0})}

    def run(self, value):
        CALLS.append(("Number", value))
        return (value,)


class Show(Toy):
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    REQUIRED = {"value": (IO.ANY, {})}

    def run(self, value):
        return {"ui": {"text": [str(value)]}}


class Numbers(Toy):
    """A list, of which each item goes on by itself."""

    OUTPUT_IS_LIST = (True,)
    REQUIRED = {"text": ("STRING", {"default": "1 2 3"})}

    def run(self, text):
        return ([int(word) for word in text.split()],)


class Add(Toy):
    REQUIRED = {"a": ("INT", {}), "b": ("INT", {})}

    def run(self, a, b):
        CALLS.append(("Add", a, b))
        return (a + b,)


class Sum(Toy):
    INPUT_IS_LIST = True
    REQUIRED = {"values": ("INT", {})}
    OPTIONAL = {"times": ("INT", {"default": 1})}

    def run(self, values, times=(1,)):
        return (sum(values) * times[0],)


class Either(Toy):
    RETURN_TYPES = ("*",)
    REQUIRED = {"first": ("BOOLEAN", {}), "a": ("*", {"lazy": True}), "b": ("*", {"lazy": True})}

    def check_lazy_status(self, first, a, b):
        name, value = ("a", a) if first else ("b", b)
        return [name] if value is None else []

    def run(self, first, a, b):
        return (a if first else b,)


class EitherLater(Either):
    async def check_lazy_status(self, **inputs):
        await asyncio.sleep(0)
        return super().check_lazy_status(**inputs)


MEETING = []  # of async nodes that wait for each other


class Meet(Toy):
    """Ends only if another one runs beside it."""

    REQUIRED = {"value": ("INT", {}), "people": ("INT", {"default": 2})}

    async def run(self, value, people):
        MEETING.append(value)
        while len(MEETING) < people:
            await asyncio.sleep(0)
        return (value,)


class Block(Toy):
    """Lets through what is above zero."""

    REQUIRED = {"value": ("INT", {})}
    OPTIONAL = {"message": ("STRING", {"default": ""})}

    def run(self, value, message=""):
        return (value if value > 0 else ExecutionBlocker(message or None),)


class Twice(Toy):
    """Two additions in its place."""

    REQUIRED = {"value": ("INT", {})}

    def run(self, value):
        graph = GraphBuilder()
        first = graph.node("ToyAdd", a=value, b=1)
        second = graph.node("ToyAdd", "last", a=first.out(0), b=first.out(0))
        return {"result": (second.out(0),), "expand": graph.finalize()}


class Countdown(Toy):
    """A loop: puts itself in its own place until nothing is left."""

    REQUIRED = {"value": ("INT", {})}
    OPTIONAL = {"total": ("INT", {"default": 0})}

    def run(self, value, total=0):
        if value == 0:
            return (total,)
        graph = GraphBuilder()
        added = graph.node("ToyAdd", a=total, b=value)
        again = graph.node("ToyCountdown", value=value - 1, total=added.out(0))
        return {"result": (again.out(0),), "expand": graph.finalize()}


class Circle(Toy):
    """Takes what it makes."""

    def run(self):
        graph = GraphBuilder()
        one, two = graph.node("ToyAdd", b=1), graph.node("ToyAdd", b=1)
        one.set_input("a", two.out(0))
        two.set_input("a", one.out(0))
        return {"result": (one.out(0),), "expand": graph.finalize()}


class Changing(Toy):
    REQUIRED = {"path": ("STRING", {})}
    RETURN_TYPES = ("STRING",)

    @classmethod
    def IS_CHANGED(cls, path):
        return None if path is None else Path(path).stat().st_size

    def run(self, path):
        CALLS.append(("Changing", path))
        return (Path(path).read_text(),)


class Always(Number):
    @classmethod
    def IS_CHANGED(cls, value):
        return float("nan")


class AlwaysByMistake(Number):
    @classmethod
    def IS_CHANGED(cls, something_else):
        return 1


class Even(Toy):
    REQUIRED = {"value": ("INT", {"default": 0, "max": 10})}

    @classmethod
    def VALIDATE_INPUTS(cls, value):
        return True if value is None or value % 2 == 0 else f"{value} is odd"

    def run(self, value):
        return (value,)


class EvenLater(Even):
    @classmethod
    async def VALIDATE_INPUTS(cls, value):
        await asyncio.sleep(0)
        return super().VALIDATE_INPUTS(value)


class Tolerant(Toy):
    REQUIRED = {"value": ("INT", {}), "word": (["one", "two"], {})}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types, **others):
        return True if input_types.get("value", "INT") in ("INT", "STRING") else f"no {input_types['value']} please"

    def run(self, value, word):
        return (int(value),)


class Hidden(Toy):
    RETURN_TYPES = ("*",)

    @classmethod
    def INPUT_TYPES(cls):
        hidden = {"me": "UNIQUE_ID", "all": "PROMPT", "extra": "EXTRA_PNGINFO", "graph": "DYNPROMPT"}
        return {"required": {}, "hidden": hidden | {"mine": ("STRING", {"default": "x"})}}

    def run(self, me, all, extra, graph, mine="nothing"):  # noqa: A002
        return (
            {
                "me": me,
                "types": {i: n["class_type"] for i, n in all.items()},
                "extra": extra,
                "mine": mine,
                "node": graph.get_node(me)["class_type"],
            },
        )


class Raw(Toy):
    RETURN_TYPES = ("STRING",)
    REQUIRED = {"value": ("INT", {"rawLink": True})}

    def run(self, value):
        return (repr(value),)


class Open(Toy):
    """Takes whatever is plugged in."""

    RETURN_TYPES = ("STRING",)

    def run(self, **inputs):
        return (" ".join(f"{name}={value}" for name, value in sorted(inputs.items())),)


class Typed(Toy):
    RETURN_TYPES = (Anything("*"),)
    REQUIRED = {"value": (Anything("*"), {}), "number": ("INT,FLOAT", {}), "kind": ("COMBO", {"options": ["a", "b"]})}

    def run(self, value, number, kind):
        return ((value, number, kind),)


class Vandal(Toy):
    """Writes into what it is given."""

    RETURN_TYPES = ("IMAGE",)
    REQUIRED = {"image": ("IMAGE", {})}

    def run(self, image):
        image.fill_(0.5)
        return (image + 0,)


class Picture(Toy):
    RETURN_TYPES = ("IMAGE", "MASK", "LATENT", "SIGMAS", "CONDITIONING")
    OPTIONAL = {"odd": ("BOOLEAN", {"default": False})}

    def run(self, odd=False):
        latent, said = {"samples": torch.zeros(1, 4, 2, 2)}, {"pooled_output": torch.zeros(1, 3)}
        if odd:
            latent["downscale_ratio_spacial"] = 8
            said["strength"] = 0.5
        mask, sigmas = torch.zeros(1, 8, 8), torch.tensor([1.0, 0.0])
        return torch.rand(1, 8, 8, 4 if odd else 3), mask, latent, sigmas, [[torch.zeros(1, 5, 3), said]]


class Look(Toy):
    """What foreign nodes are given."""

    RETURN_TYPES = ("STRING",)
    INPUTS = ("image", "mask", "latent", "sigmas", "conditioning")

    @classmethod
    def INPUT_TYPES(cls):
        return {"optional": {name: (name.upper(), {}) for name in cls.INPUTS}}

    def run(self, **inputs):
        return (" ".join(f"{name}:{self.seen(value)}" for name, value in inputs.items()),)

    def seen(self, value):
        if isinstance(value, torch.Tensor):
            return f"{str(value.dtype)[6:]}{list(value.shape)}"
        if isinstance(value, dict):
            return f"dict({','.join(sorted(value))})"
        return f"list({','.join(sorted(value[0][1]))})"


class Slow(Toy):
    REQUIRED = {"steps": ("INT", {"default": 3})}

    def run(self, steps):
        bar = ProgressBar(steps)
        for _ in range(steps):
            bar.update(1)
        return (torch.is_grad_enabled(),)


class Remembers(Toy):
    """Each node of a graph has an instance of its own, which stays."""

    NOT_IDEMPOTENT = True
    OPTIONAL = {"nonce": ("INT", {"default": 0})}

    def __init__(self):
        self.count = 0

    def run(self, nonce=0):
        self.count += 1
        return (self.count,)


class Short(Toy):
    RETURN_TYPES = ("INT", "INT")

    def run(self):
        return (1,)


class Handing(ComfyNodeABC):
    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypeDict:
        return {"required": {}}

    def run(self):
        return (object(), object(), object())


class Adder:
    @staticmethod
    def add(a, b):
        return (a + b,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"a": ("INT", {}), "b": ("INT", {})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "add"


NODE_CLASS_MAPPINGS = {
    f"Toy{kind.__name__}": kind
    for kind in (
        Number, Show, Numbers, Add, Sum, Either, EitherLater, Meet, Block, Twice, Countdown, Circle, Changing, Always,
        AlwaysByMistake, Even, EvenLater, Tolerant, Hidden, Raw, Open, Typed, Vandal, Picture, Look, Slow, Remembers,
        Short, Handing, Adder,
    )
}  # fmt: skip
