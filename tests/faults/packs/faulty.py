"""Nodes with every fault that nodes of others have.  Files tell what goes on, and let them go on."""
# ruff: noqa: N802, PLW0108, RUF012

import itertools
import os
import signal
import threading
import time
from pathlib import Path
from uuid import uuid4

import folder_paths
import torch
from comfy.utils import ProgressBar
from server import PromptServer

LOST = "CUDA error: device-side assert triggered\nCUDA kernel errors might be reported at some other call."


class Faulty:
    CATEGORY = "faulty"
    FUNCTION = "run"
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    REQUIRED = {}

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": cls.REQUIRED}


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError


class OfItsOwn(BaseException):
    pass


def deep():
    return deep()


RAISES = {
    "Exception": lambda: Exception("it went wrong"),
    "SystemExit": lambda: SystemExit(1),
    "KeyboardInterrupt": lambda: KeyboardInterrupt(),
    "GeneratorExit": lambda: GeneratorExit(),
    "StopIteration": lambda: StopIteration(7),
    "BaseException": lambda: OfItsOwn("of its own kind"),
    "no words": lambda: Unspeakable(),
    "path": lambda: FileNotFoundError(2, "No such file or directory", "/opt/secret place/x.bin"),
    "surrogate": lambda: ValueError("half a pair: \ud83c"),
    "endless": lambda: ValueError("x" * 5_000_000),
    "memory": lambda: MemoryError(),
    "device memory": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "lost device": lambda: RuntimeError(LOST),
    "recursion": deep,
}


class FaultyRaise(Faulty):
    REQUIRED = {"kind": (list(RAISES),)}

    def run(self, kind):
        error = RAISES[kind]()
        raise error


RETURNS = {
    "nothing": lambda: None,
    "a generator": lambda: (k for k in range(3)),
    "a number": lambda: 7,
    "too little": lambda: (1,),
    "an empty tuple": lambda: (),
    "text": lambda: "ab",
    "a set": lambda: {1, 2},
    "a class": lambda: FaultyReturn,
    "a result of nothing": lambda: {"result": None},
    "an expansion of nothing": lambda: {"result": (["no", 0], ["no", 1]), "expand": {}},
    "an expansion of nonsense": lambda: {"result": (["x", 0], 1), "expand": {"x": {"class_type": "NoSuchNode"}}},
    "an ui of nonsense": lambda: {"ui": 7, "result": (1, 2)},
}


class FaultyReturn(Faulty):
    RETURN_TYPES = ("INT", "INT")
    OUTPUT_NODE = False
    REQUIRED = {"kind": (list(RETURNS),)}

    def run(self, kind):
        return RETURNS[kind]()


class FaultyTake(Faulty):
    REQUIRED = {"first": ("INT", {}), "second": ("INT", {})}

    def run(self, first, second):
        return {"ui": {"text": [str((first, second))]}}


class FaultyHang(Faulty):
    """Hears no stop, in each of three ways."""

    REQUIRED = {"folder": ("STRING", {}), "how": (["sleep", "compute", "lock"],)}

    def run(self, folder, how):
        (Path(folder) / "begun").touch()
        while not (Path(folder) / "go").exists():
            if how == "compute":
                sum(range(10**6))
            elif how == "lock":
                lock = threading.Lock()
                lock.acquire()
                lock.acquire(timeout=0.1)
            else:
                time.sleep(0.02)
        return ()


class FaultyGate(Faulty):
    """Waits until it may go on, and looks up meanwhile."""

    REQUIRED = {"folder": ("STRING", {}), "steps": ("INT", {"default": 1}), "pause": ("FLOAT", {"default": 0.01})}

    def run(self, folder, steps, pause):
        bar = ProgressBar(steps)
        (Path(folder) / "begun").touch()
        for k in itertools.count():
            bar.update_absolute(min(k, steps))
            if (Path(folder) / "go").exists():
                break
            time.sleep(pause)
        return ()


class FaultyWalk(Faulty):
    """Takes so many steps, then leaves a file with a name of its own that begins with `name`."""

    REQUIRED = {
        "folder": ("STRING", {}),
        "name": ("STRING", {}),
        "steps": ("INT", {"default": 1}),
        "pause": ("FLOAT", {"default": 0.01}),
        "fails": ("BOOLEAN", {"default": False}),
    }

    def run(self, folder, name, steps, pause, fails):
        bar = ProgressBar(steps)
        for _ in range(steps):
            time.sleep(pause)
            bar.update(1)
        if fails:
            raise ValueError("it was to fail")
        (Path(folder) / f"{name}.{uuid4().hex}").touch()
        return ()


class FaultyDie(Faulty):
    REQUIRED = {"folder": ("STRING", {})}

    def run(self, folder):
        with (Path(folder) / "deaths").open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)


class NeverEqual:
    def __eq__(self, other):
        raise RuntimeError("is not to be compared")

    __hash__ = None


FINGERPRINTS = {
    "raises": lambda: 1 / 0,
    "exits": lambda: (_ for _ in ()).throw(SystemExit(1)),
    "NaN": lambda: float("nan"),
    "a dictionary": lambda: {"a": [1, {2}]},
    "incomparable": lambda: NeverEqual(),
    "100 MB": lambda: "x" * 100_000_000,
    "a tensor": lambda: torch.ones(2),
}


class FaultyFingerprint(Faulty):
    RETURN_TYPES = ("INT",)
    OUTPUT_NODE = False
    REQUIRED = {"kind": (list(FINGERPRINTS),)}

    @classmethod
    def IS_CHANGED(cls, kind):
        return FINGERPRINTS[kind]()

    def run(self, kind):
        return (1,)


class FaultyCheck(Faulty):
    """What checks it raises what ends programs."""

    REQUIRED = {"kind": (["sound", "exits", "base", "no words"],)}

    @classmethod
    def VALIDATE_INPUTS(cls, kind):
        if kind != "sound":
            raise {"exits": SystemExit(1), "base": OfItsOwn("no"), "no words": Unspeakable()}[kind]
        return True

    def run(self, kind):
        return {"ui": {"text": [kind]}}


class FaultyOffers(Faulty):
    """Fails, once a file is there, when it is asked what there is to choose from."""

    @classmethod
    def INPUT_TYPES(cls):
        if Path(folder_paths.get_input_directory(), "offers-no-more").exists():
            raise SystemExit(1)
        return {"required": {"kind": (["a", "b"],)}}

    def run(self, kind):
        return {"ui": {"text": [kind]}}


class FaultyLazy(Faulty):
    """Fails when it is asked what it needs."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"lazy": True})}}

    def check_lazy_status(self, value):
        raise SystemExit(1)

    def run(self, value):
        return ()


class FaultyImage(Faulty):
    """A picture of one value."""

    RETURN_TYPES = ("IMAGE",)
    OUTPUT_NODE = False
    REQUIRED = {"value": (["nan", "inf", "0"],), "seed": ("INT", {"default": 0})}

    def run(self, value, seed):
        return (torch.full((1, 16, 16, 3), float(value)),)


class FaultyLatent(Faulty):
    """A latent of which one number is none."""

    RETURN_TYPES = ("LATENT",)
    OUTPUT_NODE = False
    REQUIRED = {"seed": ("INT", {"default": 0})}

    def run(self, seed):
        latent = torch.zeros(1, 16, 8, 8)
        latent[0, 1, 2, 3] = float("nan")
        return ({"samples": latent},)


class FaultyClean(Faulty):
    """Makes black of what is no number, as some savers do."""

    RETURN_TYPES = ("IMAGE",)
    OUTPUT_NODE = False
    REQUIRED = {"image": ("IMAGE",)}

    def run(self, image):
        return (image.nan_to_num().clamp(0, 1),)


class FaultyWriter(Faulty):
    """Writes into what it is given."""

    RETURN_TYPES = ("IMAGE",)
    OUTPUT_NODE = False
    REQUIRED = {"image": ("IMAGE",)}

    def run(self, image):
        image.fill_(1.0)
        return (image,)


class FaultyNoise(Faulty):
    """A picture that no compression makes small."""

    RETURN_TYPES = ("IMAGE",)
    OUTPUT_NODE = False
    REQUIRED = {"size": ("INT", {"default": 512, "max": 8192}), "seed": ("INT", {"default": 0})}

    def run(self, size, seed):
        return (torch.rand(1, size, size, 3, generator=torch.Generator().manual_seed(seed)),)


@PromptServer.instance.routes.get("/faulty/{how}")
async def route(request):
    raise {"exits": SystemExit(1), "base": OfItsOwn("no"), "stops": StopAsyncIteration()}[request.match_info["how"]]


def handler(body):
    if body.get("extra_data", {}).get("handler") == "exits":
        raise SystemExit(1)
    return body


PromptServer.instance.add_on_prompt_handler(handler)

NODE_CLASS_MAPPINGS = {c.__name__: c for c in Faulty.__subclasses__()}
