"""`comfy.comfy_types` and `comfy.comfy_types.node_typing`: the names of types, and what describes a node."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Any, TypedDict

__all__ = [
    "IO",
    "CheckLazyMixin",
    "ComfyNodeABC",
    "FileLocator",
    "HiddenInputTypeDict",
    "InputTypeDict",
    "InputTypeOptions",
]


class IO(StrEnum):
    """The types that wires have."""

    STRING = "STRING"
    IMAGE = "IMAGE"
    MASK = "MASK"
    LATENT = "LATENT"
    BOOLEAN = "BOOLEAN"
    INT = "INT"
    FLOAT = "FLOAT"
    COMBO = "COMBO"
    CONDITIONING = "CONDITIONING"
    SAMPLER = "SAMPLER"
    SIGMAS = "SIGMAS"
    GUIDER = "GUIDER"
    NOISE = "NOISE"
    CLIP = "CLIP"
    CONTROL_NET = "CONTROL_NET"
    VAE = "VAE"
    MODEL = "MODEL"
    LORA_MODEL = "LORA_MODEL"
    LOSS_MAP = "LOSS_MAP"
    CLIP_VISION = "CLIP_VISION"
    CLIP_VISION_OUTPUT = "CLIP_VISION_OUTPUT"
    STYLE_MODEL = "STYLE_MODEL"
    GLIGEN = "GLIGEN"
    UPSCALE_MODEL = "UPSCALE_MODEL"
    AUDIO = "AUDIO"
    WEBCAM = "WEBCAM"
    POINT = "POINT"
    FACE_ANALYSIS = "FACE_ANALYSIS"
    BBOX = "BBOX"
    SEGS = "SEGS"
    VIDEO = "VIDEO"
    ANY = "*"
    NUMBER = "FLOAT,INT"
    PRIMITIVE = "STRING,FLOAT,INT,BOOLEAN"


class InputTypeOptions(TypedDict, total=False):
    """What an input's options may say."""

    default: Any
    defaultInput: bool
    forceInput: bool
    lazy: bool
    rawLink: bool
    tooltip: str
    min: float
    max: float
    step: float
    round: float
    label_on: str
    label_off: str
    placeholder: str
    multiline: bool
    dynamicPrompts: bool
    image_upload: bool
    control_after_generate: bool
    options: list[Any]


class HiddenInputTypeDict(TypedDict, total=False):
    """Inputs that the host fills in."""

    node_id: str
    unique_id: str
    prompt: str
    extra_pnginfo: str
    dynprompt: str


class InputTypeDict(TypedDict, total=False):
    """What INPUT_TYPES gives."""

    required: dict[str, Any]
    optional: dict[str, Any]
    hidden: HiddenInputTypeDict


class FileLocator(TypedDict):
    """A file that an editor shows."""

    filename: str
    subfolder: str
    type: str


class ComfyNodeABC(ABC):
    """What a node's class has."""

    DESCRIPTION: str
    CATEGORY: str
    EXPERIMENTAL: bool
    DEPRECATED: bool
    RETURN_TYPES: tuple[Any, ...]
    RETURN_NAMES: tuple[str, ...]
    OUTPUT_TOOLTIPS: tuple[str, ...]
    OUTPUT_IS_LIST: tuple[bool, ...]
    OUTPUT_NODE: bool
    INPUT_IS_LIST: bool
    FUNCTION: str

    @classmethod
    @abstractmethod
    def INPUT_TYPES(cls) -> InputTypeDict:  # noqa: N802 - its name there
        """What it takes."""
        return {"required": {}}


class CheckLazyMixin:
    """Asks for all lazy inputs that are plugged in."""

    def check_lazy_status(self, **kwargs: Any) -> list[str]:
        """The inputs whose values are not there yet."""
        return [name for name, value in kwargs.items() if value is None]
