"""Which network is on which device, and why: the one place that loads and unloads them, under a budget of bytes."""

from __future__ import annotations

import gc
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeVar

import torch

from ..errors import DeviceError, LimnerError, OutOfMemory, kind
from ..trees import mapped
from ..values import Recipe
from .checkpoint import KINDS, open_network, weight_bytes

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# The activations of a VAE and those of T5 overflow float16, and a CPU gains nothing by less than float32.
WIDE = frozenset({"autoencoder_kl", "patch_autoencoder", "text_encoder"})

Open = Callable[[Recipe, torch.device, torch.dtype], "nn.Module"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network has come to the device."""

    recipe: Recipe
    bytes: int
    seconds: float
    reason: str  # for a person


@dataclass(frozen=True, slots=True)
class Unloaded:
    """A network has left the device."""

    recipe: Recipe
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Holding:
    """A network on the device, as a line of a table."""

    recipe: Recipe
    bytes: int
    dtype: torch.dtype
    lent: int  # to how many it is lent right now
    uses: int  # how often it was asked for since it came


Event = Loaded | Unloaded
Listener = Callable[[Event], None]


@dataclass(slots=True)
class _Held:
    network: nn.Module
    bytes: int
    lent: int = 0
    uses: int = 0


class Residency:
    """Networks by their recipes, each loaded once, at its first use.

    The least recently used go when another needs their room; those that are lent stay.  A network that exceeds the
    budget by itself is loaded all the same, once nothing else is left to go.  Safe to use from several threads.
    """

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        budget_bytes: int | None = None,
        open: Open = open_network,  # noqa: A002 - it is what opens
        listener: Listener | None = None,
    ) -> None:
        """Hold networks on device, the denoising ones in dtype; budget_bytes None is no bound.

        The listener hears each event on the thread that caused it, with nothing locked; it must not raise.
        """
        self.device, self.dtype, self.budget = device, dtype, budget_bytes
        self._open, self._listener = open, listener
        self._held: dict[Recipe, _Held] = {}  # the least recently used first
        self._opening: dict[Recipe, int] = {}  # the bytes that each is going to take
        self._known: set[Recipe] = set()  # has been here
        self._changed = threading.Condition()

    def network(self, recipe: Recipe) -> nn.Module:
        """The recipe's network.  It may be unloaded while the caller still has it: see `lent`."""
        with self.lent(recipe) as network:
            return network

    @contextmanager
    def lent(self, recipe: Recipe) -> Iterator[nn.Module]:
        """The recipe's network, which stays on the device until the block ends.

        Raises what opening raises, and OutOfMemory where it does not fit though all that is not lent has gone.
        """
        events: list[Event] = []
        try:
            held = self._taken(recipe, events)
        finally:
            self._tell(events)
        try:
            yield held.network
        finally:
            with self._changed:
                held.lent -= 1

    def place(self, value: T) -> T:
        """`value`, a wire value or a tuple of them, with its tensors on the device where networks compute."""
        return mapped(value, lambda tensor: tensor.to(self.device))

    def clear(self, reason: str = "memory was asked for") -> int:
        """Unload all that is not lent; how many bytes that were."""
        events: list[Event] = []
        with self._changed:
            self._drop(None, reason, events)
        _release(self.device)
        self._tell(events)
        return sum(event.bytes for event in events)

    def holdings(self) -> tuple[Holding, ...]:
        """What is on the device, the least recently used first."""
        with self._changed:
            return tuple(
                Holding(recipe, held.bytes, self.dtype_of(recipe), held.lent, held.uses)
                for recipe, held in self._held.items()
            )

    def table(self) -> str:
        """What is on the device, a line each, for a person."""
        lines = [
            f"{_amount(row.bytes):>8}  {_words(row.recipe)} {PurePath(row.recipe.path).name}, {str(row.dtype)[6:]}, "
            f"used {'once' if row.uses == 1 else f'{row.uses} times'}{', in use' if row.lent else ''}"
            for row in self.holdings()
        ]
        return "\n".join(lines) or "no network"

    def dtype_of(self, recipe: Recipe) -> torch.dtype:
        """What a recipe's network computes in."""
        if recipe.kind in WIDE and (self.device.type == "cpu" or self.dtype == torch.float16):
            return torch.float32
        return self.dtype

    def _taken(self, recipe: Recipe, events: list[Event]) -> _Held:
        with self._changed:
            while recipe in self._opening:
                self._changed.wait()
            if (held := self._held.get(recipe)) is not None:
                return self._lend(recipe, held)
            self._opening[recipe] = self._need(recipe)
            self._make_room(recipe, self._opening[recipe], events)
        try:
            return self._loaded(recipe, events)
        finally:
            with self._changed:
                self._opening.pop(recipe, None)
                self._changed.notify_all()  # where it failed, whoever waited tries for himself

    def _loaded(self, recipe: Recipe, events: list[Event]) -> _Held:
        began = time.perf_counter()
        network = self._fitted(recipe, events)
        size, seconds = _bytes(network), time.perf_counter() - began
        with self._changed:
            del self._opening[recipe]
            held = self._lend(recipe, _Held(network, size))
            self._make_room(recipe, size, events)  # more, if it is larger than its file said
            reason = "used again after it was unloaded" if recipe in self._known else "first use"
            self._known.add(recipe)
        events.append(Loaded(recipe, size, seconds, reason))
        return held

    def _fitted(self, recipe: Recipe, events: list[Event]) -> nn.Module:
        """Open a network; where it does not fit, unload all that is not lent, and try once more."""
        try:
            return self._ready(recipe)
        except (RuntimeError, MemoryError) as error:
            if kind(error) is not OutOfMemory:
                raise
        # Only here, after the error and the tensors in its frames have gone.
        with self._changed:
            self._drop(None, f"room for the {_words(recipe)}, which did not fit", events)
        _release(self.device)
        try:
            return self._ready(recipe)
        except (RuntimeError, MemoryError) as error:
            if kind(error) is not OutOfMemory:
                raise
            said = f"the {_words(recipe)} does not fit on {self.device}; on it are:\n{self.table()}"
            raise OutOfMemory(said) from error

    def _ready(self, recipe: Recipe) -> nn.Module:
        network = self._open(recipe, self.device, self.dtype_of(recipe)).eval().requires_grad_(False)
        if self.device.type == "cuda":
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch has it, its types not
        return network

    def _need(self, recipe: Recipe) -> int:
        try:
            return weight_bytes(recipe, self.dtype_of(recipe).itemsize * 8)
        except LimnerError:  # opening it will say why, and better
            return 0

    def _lend(self, recipe: Recipe, held: _Held) -> _Held:
        self._held.pop(recipe, None)
        self._held[recipe] = held  # now the last one used
        held.lent += 1
        held.uses += 1
        return held

    def _make_room(self, recipe: Recipe, size: int, events: list[Event]) -> None:
        if self.budget is not None:
            reason = f"room for the {_words(recipe)} ({_amount(size)}), budget {_amount(self.budget)}"
            self._drop(self.budget, reason, events)

    def _drop(self, budget: int | None, reason: str, events: list[Event]) -> None:
        """Drop what is not lent, the least recently used first, until the budget is kept; None: all of it."""
        used = sum(held.bytes for held in self._held.values()) + sum(self._opening.values())
        for recipe, held in list(self._held.items()):
            if budget is not None and used <= budget:
                return
            if not held.lent:
                del self._held[recipe]
                used -= held.bytes
                events.append(Unloaded(recipe, held.bytes, reason))

    def _tell(self, events: list[Event]) -> None:
        if self._listener is not None:
            for event in events:
                self._listener(event)


def resolve_device(name: str) -> torch.device:
    """The device of "auto", "cpu", "cuda" or "cuda:N".  Raises DeviceError with what there is."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if there else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    asked = re.fullmatch(r"cuda(?::(\d{1,3}))?", name)
    if asked is None:
        raise DeviceError(f"a device is auto, cpu, cuda or cuda:N, not {name!r}")
    if torch.version.cuda is None and torch.version.hip is None:
        raise DeviceError(f"{name} was asked for, and this PyTorch ({torch.__version__}) is built for the CPU only")
    number = int(asked[1] or 0)
    if number >= there:
        raise DeviceError(f"{name} was asked for, and PyTorch finds {there} CUDA devices (the first is cuda:0)")
    return torch.device("cuda", number)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of "float32", "float16" or "bfloat16"; "auto" is the fastest that device computes pictures well in."""
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise DeviceError(f"a dtype is auto, {', '.join(DTYPES)}, not {name!r}")
    if device.type != "cuda":
        return torch.float32
    with torch.cuda.device(device):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _release(device: torch.device) -> None:
    gc.collect()  # a network may hold itself
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _bytes(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))


def _words(recipe: Recipe) -> str:
    return KINDS[recipe.kind].words if recipe.kind in KINDS else recipe.kind


def _amount(size: int) -> str:
    if size >= 1_000_000_000:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 10_000_000 else f"{size / 1e6:.1f} MB"
