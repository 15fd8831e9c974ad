"""Model files: safetensors, and folders of transformers, to networks and back.  Only opening and saving load torch.

Pickles are never opened: a file is what its bytes say that it is.  The format: 8 bytes, little endian, say how long a
JSON header is; the header gives dtype, shape and place of every tensor; then come the tensors, without a gap.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import json
import math
import re
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from ..errors import ModelFileError, ModelMissing, StorageError
from ..files import reason, replacing
from ..values import LatentFormat, Recipe, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import nn

T = TypeVar("T")

LONGEST_HEADER = 16 << 20  # bytes: a large UNet's takes 0.3 MB
MOST_TENSORS = 100_000
MOST_DIMENSIONS = 32
MOST_WIDE = 1 << 20  # a number in a configuration, none of which is near
LISTED = 8  # names in a message, of those that are wrong in one way
MODEL_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja"})

BITS = MappingProxyType(
    {"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64}
    | {"F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64}
    | {
        "F8_E4M3": 8,
        "F8_E5M2": 8,
        "F8_E8M0": 8,
        "F8_E4M3FNUZ": 8,
        "F8_E5M2FNUZ": 8,
        "F6_E2M3": 6,
        "F6_E3M2": 6,
        "F4": 4,
    }
)
FLOATS = frozenset(dtype for dtype in BITS if dtype.startswith(("F", "BF")))  # what another compute dtype changes

# What people save under the name of a model: where its mark stands, the mark, what it is.
MARKS = (
    (0, b"PK\x03\x04", "a zip archive, as PyTorch writes pickles"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"Rar!", "a rar archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"GGUF", "a GGUF file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, whose file was not fetched"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x00-\xff]")  # the opcode PROTO and its number
_WEB_PAGE = re.compile(rb"(?i)\s*(<!doctype|<html|<\?xml|<head|<!--)")
_PACKAGE = re.compile(r"package:([A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of networks: the module beside this one where it stands, and the names there."""

    words: str  # what a person calls it
    module: str
    config: str
    network: str
    former: str | None = None  # a function from a name in an old file to the name today


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "unet": Kind("UNet", "unet", "UNetConfig", "UNet"),
        "autoencoder_kl": Kind("VAE", "vae", "VaeConfig", "AutoencoderKL", former="present_name"),
        "patch_autoencoder": Kind("VAE", "patch_autoencoder", "PatchAutoencoderConfig", "PatchAutoencoder"),
        "text_encoder": Kind("text encoder", "text", "TextConfig", "TextNetwork"),
    }
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor as a header describes it."""

    dtype: str  # a key of BITS
    shape: tuple[int, ...]
    start: int  # bytes after the header
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself."""

    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Description:
    """What network a file holds."""

    kind: str  # a key of KINDS
    config: Mapping[str, Any]
    sampling: Sampling | None = None  # of a denoising network
    latent: LatentFormat | None = None  # of a denoising network or an autoencoder


# ----------------------------------------------------------------------------------------------- looking, without torch


def header(path: Path) -> Header:
    """Read and check the header of a safetensors file; nothing else of it is read.

    Raises ModelMissing, and ModelFileError for a file that is damaged, cut short, or no safetensors.
    """
    if not path.is_file():
        raise ModelMissing(f"there is no model file {path}")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            text = _header_text(path, file, size)
    except OSError as error:
        raise ModelFileError(path, f"cannot be read: {reason(error)}") from error
    return _header(path, text, size - 8 - len(text))


def describe(path: Path) -> Description:
    """What network a safetensors file of Limner's holds, or that a folder with a config.json holds a text encoder."""
    if path.is_dir():
        _folder(path)
        return Description("text_encoder", {})
    found = header(path).metadata.get("limner")
    if found is None:
        raise ModelFileError(path, "does not say which network it holds (its metadata has no entry 'limner')")
    said = _parsed(path, found)
    kind = said.get("kind") if isinstance(said, dict) else None
    if not isinstance(kind, str) or kind not in KINDS or not isinstance(said.get("config"), dict):
        raise ModelFileError(path, f"says that it holds {found[:80]}, which is none of {', '.join(KINDS)}")
    sampling, latent = said.get("sampling"), said.get("latent")
    return Description(
        kind,
        said["config"],
        None if sampling is None else _made(path, Sampling, sampling),
        None if latent is None else _made(path, LatentFormat, latent),
    )


def digest(path: Path) -> str:
    """The sha256 of a file; of a folder, that of the names and digests of its model's files.  64 hexadecimal digits."""
    if path.is_dir():
        folders = {"": path, "tokenizer": path.with_name(path.name.replace("text_encoder", "tokenizer"))}
        lines = [
            f"{name}/{file.relative_to(folder).as_posix()}\0{digest(file)}\n"
            for name, folder in folders.items()
            for file in _model_files(folder)
            if not name or folder != path  # the second is how diffusers keeps tokenizers
        ]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    if not path.is_file():
        raise ModelMissing(f"there is no model file {path}")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(path, f"cannot be read: {reason(error)}") from error


def locate(path: str) -> Path:
    """The file or folder of a recipe.  `package:NAME` is the folder that an installed package keeps its model in."""
    named = _PACKAGE.fullmatch(path)
    if named is None:
        return Path(path)
    spec = importlib.machinery.PathFinder.find_spec(named[1])  # finds it, and runs nothing of it
    roots = [Path(root) for root in (spec.submodule_search_locations or ())] if spec else []
    if not roots:
        raise ModelMissing(f"there is no installed package {named[1]}")
    found = sorted({file.parent for root in roots for file in root.rglob("config.json") if _has_weights(file.parent)})
    if len(found) != 1:
        raise ModelMissing(f"the package {named[1]} holds {len(found)} folders with a config.json and weights, not one")
    return found[0]


def weight_bytes(recipe: Recipe, bits: int) -> int:
    """How many bytes a recipe's network will take, when its floats have so many bits.  Reads headers only."""
    path = locate(recipe.path)
    files = [file for file in _model_files(path) if file.suffix == ".safetensors"] if path.is_dir() else [path]
    entries = [entry for file in files for entry in header(file).tensors.values()]
    return sum(math.prod(e.shape) * (bits if e.dtype in FLOATS else BITS[e.dtype]) for e in entries) // 8


def canonical(value: object) -> str:
    """A value as JSON, in the one way that equal values share.  Dataclasses are the objects of their fields."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_as_json
    )


# --------------------------------------------------------------------------------------------------- opening and saving


def open_network(recipe: Recipe, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
    """Make a recipe's network, its weights mapped from the file where neither device nor dtype changes them.

    dtype None keeps the file's.  Raises ModelFileError, which names weights that are missing, unexpected or misshapen.
    """
    import torch

    kind = KINDS.get(recipe.kind)
    path = locate(recipe.path)
    if kind is None:
        raise ModelFileError(path, f"a network is one of {', '.join(KINDS)}, not {recipe.kind!r}")
    module = importlib.import_module(f".{kind.module}", __package__)
    config = _made(path, getattr(module, kind.config), _parsed(path, recipe.config))
    if recipe.kind == "text_encoder":
        return _text(path, module, config, device, dtype)
    with torch.device("meta"):
        network: nn.Module = getattr(module, kind.network)(config)
    tensors = header(path).tensors
    names = _names(tensors, getattr(module, kind.former) if kind.former else str)
    _check_weights(path, network, {name: tensors[key].shape for name, key in names.items()})
    network.load_state_dict(_weights(path, names, device, dtype), strict=True, assign=True)
    return network


def save_network(
    path: Path, network: nn.Module, metadata: Mapping[str, object], dtype: torch.dtype | None = None
) -> None:
    """Write a network's weights, whole or not at all.

    metadata is kind and config, and sampling and latent where there are any, as values or as JSON.  dtype is that of
    the floats in the file, None the network's.  Raises StorageError with the reason.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if metadata.get("kind") not in KINDS or not {"kind", "config"} <= set(metadata) <= set(Description.__slots__):
        raise ValueError(f"metadata has kind, config, and maybe sampling and latent, not {sorted(metadata)}")
    weights = {
        name: value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
        for name, value in network.state_dict().items()
    }
    try:
        with replacing(path) as temporary:
            save_file(weights, temporary, {"limner": canonical(metadata)})
    except SafetensorError as error:  # it words the system's refusals itself
        raise StorageError(path, str(error)) from error


# ------------------------------------------------------------------------------------------------------ reading headers


def _header_text(path: Path, file: BinaryIO, size: int) -> bytes:
    start = file.read(512)
    length = int.from_bytes(start[:8], "little")
    if size < 8 or start[8:9] != b"{" or length > min(LONGEST_HEADER, size - 8):
        raise ModelFileError(path, _what_else(start, size, length))
    file.seek(8)
    return file.read(length)


def _what_else(start: bytes, size: int, length: int) -> str:
    """What a file is that is no safetensors, and what would have been."""
    for offset, mark, words in MARKS:
        if start.startswith(mark, offset):
            return f"is {words}; weights are read from safetensors only"
    if _PICKLE.match(start):
        return "is a pickle, which could run any code; weights are read from safetensors only"
    if _WEB_PAGE.match(start):
        return "is a web page, perhaps one that asks for a login; weights are read from safetensors only"
    if size < 8:
        return f"has {size} bytes; a safetensors file begins with 8 that say how long its header is"
    if length > LONGEST_HEADER:
        return f"is no safetensors file: its header would be {length} bytes long, and at most {LONGEST_HEADER} are read"
    if length > size - 8:
        return f"is cut short: its header is {length} bytes long, and {size - 8} are there"
    return "is no safetensors file: its header is no JSON object"


def _header(path: Path, text: bytes, room: int) -> Header:
    count = text.count(b'"data_offsets"')  # before parsing: 300 000 entries would take seconds
    if count > MOST_TENSORS:
        raise ModelFileError(path, f"has {count} tensors, and at most {MOST_TENSORS} are read")
    said = _parsed(path, text)
    metadata = said.pop("__metadata__", {}) if isinstance(said, dict) else {}
    if not isinstance(said, dict) or not isinstance(metadata, dict):
        raise ModelFileError(path, "is no safetensors file: its header is no JSON object of tensors")
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ModelFileError(path, "its metadata is not all text")
    tensors = {name: _entry(path, name, value) for name, value in said.items()}
    _check_places(path, tensors, room)
    return Header(tensors, metadata)


def _entry(path: Path, name: str, said: object) -> Entry:
    if not isinstance(said, dict) or set(said) != {"dtype", "shape", "data_offsets"}:
        raise ModelFileError(path, f"its tensor {name[:80]!r} is not described by dtype, shape and data_offsets")
    dtype, shape, place = said["dtype"], said["shape"], said["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise ModelFileError(path, f"its tensor {name[:80]!r} has the dtype {str(dtype)[:40]!r}, which is not known")
    if not _counts(shape) or not _counts(place) or len(place) != 2 or len(shape) > MOST_DIMENSIONS:
        raise ModelFileError(path, f"its tensor {name[:80]!r} has a shape or a place that is none")
    if math.prod(shape) * BITS[dtype] != (place[1] - place[0]) * 8:
        needed = f"{dtype} {shape} does not take {place[1] - place[0]} bytes"
        raise ModelFileError(path, f"its tensor {name[:80]!r} contradicts itself: {needed}")
    return Entry(dtype, tuple(shape), place[0], place[1])


def _counts(value: object) -> bool:
    # A file has fewer than 2**63 bytes; without a bound, a product of many numbers would take its time.
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 1 << 63 for number in value)


def _check_places(path: Path, tensors: Mapping[str, Entry], room: int) -> None:
    """Raise ModelFileError unless the tensors fill what follows the header, one behind the other."""
    end = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != end:
            fault = "overlaps the one before it" if entry.start < end else "leaves a gap before it"
            raise ModelFileError(path, f"its tensor {name[:80]!r} {fault}")
        end = entry.end
    if end > room:
        raise ModelFileError(path, f"is cut short: its tensors take {end} bytes, and {room} are there")
    if end < room:
        raise ModelFileError(path, f"has {room - end} bytes behind its last tensor that belong to none")


def _parsed(path: Path, text: str | bytes) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(path, f"its description is no JSON: {str(error)[:200]}") from error


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


# ------------------------------------------------------------------------------------------------------- configurations


def _made(path: Path, kind: type[T], said: object) -> T:
    """A frozen dataclass from JSON.  Raises ModelFileError for a field or a value that it cannot have."""
    if not isinstance(said, dict):
        raise ModelFileError(path, f"its {kind.__name__} is no JSON object")
    hints = get_type_hints(kind)
    for name, value in said.items():
        if name not in hints or not _fits(value, hints[name]):
            raise ModelFileError(path, f"its {kind.__name__} cannot have {name[:80]!r}: {str(value)[:80]}")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise ModelFileError(path, f"its {kind.__name__} cannot be: {error}") from error


def _fits(value: object, hint: Any) -> bool:
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return value in arguments
    if get_origin(hint) is tuple:
        return isinstance(value, list) and len(value) <= 64 and all(_fits(item, arguments[0]) for item in value)
    if arguments:
        return any(_fits(value, each) for each in arguments)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint and (hint is not int or abs(cast("int", value)) < MOST_WIDE)


def _as_json(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


# -------------------------------------------------------------------------------------------------------------- folders


def _folder(path: Path) -> None:
    if not path.is_dir():
        raise ModelMissing(f"there is no folder {path} of a text encoder")
    if not (path / "config.json").is_file():
        raise ModelFileError(path, "a text encoder is a folder with a config.json, and there is none in it")


def _model_files(folder: Path) -> list[Path]:
    """The files that make a model, in a fixed order: weights, configurations, vocabularies."""
    files = (file for file in folder.rglob("*") if file.suffix in MODEL_SUFFIXES and file.is_file())
    return sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


# -------------------------------------------------------------------------------------------------------------- weights


def _text(path: Path, module: Any, config: Any, device: torch.device | str, dtype: torch.dtype | None) -> nn.Module:
    import torch

    _folder(path)
    for file in path.glob("*.safetensors"):
        header(file)  # whose refusals say more than transformers'
    network: nn.Module = module.open_text(path, config, device, dtype or torch.float32)
    return network


def _weights(
    path: Path, names: Mapping[str, str], device: torch.device | str, dtype: torch.dtype | None
) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            found = {name: file.get_tensor(key) for name, key in names.items()}
    except (SafetensorError, OSError) as error:
        raise ModelFileError(path, f"cannot be read: {error}") from error
    return {name: value.to(device, dtype if value.is_floating_point() else None) for name, value in found.items()}


def _names(tensors: Mapping[str, Entry], rename: Callable[[str], str]) -> dict[str, str]:
    """Names of today to names in the file.  A former name stays, and is refused later, where both are there."""
    return {key if rename(key) in tensors else rename(key): key for key in tensors}


def _check_weights(path: Path, network: nn.Module, given: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ModelFileError unless a file gives the network's weights, all of them and no others, in their shapes."""
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    wrong = [
        f"{name} {list(given[name])} and not {list(shape)}"
        for name, shape in wanted.items()
        if given.get(name, shape) != shape
    ]
    faults = {
        "missing": [name for name in wanted if name not in given],
        "unexpected": [name[:80] for name in given if name not in wanted],
        "of another shape": wrong,
    }
    said = [f"{len(found)} {fault}: {_list(found)}" for fault, found in faults.items() if found]
    if said:
        raise ModelFileError(path, f"its weights are not those that its configuration needs; {'; '.join(said)}")


def _list(names: list[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
