"""Results by key: in memory under a budget of bytes, and in a Store where there is one."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from .plan import Step
from .store import Outputs, Store
from .trees import finite, mapped, size

WRITE_SPEED = 100e6  # bytes a second: what storing and reading back may be assumed to take
WRITE_START = 0.005  # seconds that any stored result costs
SMALL = 1 << 20  # bytes of a result that is always stored if a network may have made it: loading that takes longer
OVERHEAD = 1024  # bytes that a result without tensors is counted as


@dataclass(slots=True)
class _Kept:
    outputs: Outputs
    bytes: int
    seconds: float
    score: float  # lowest goes first
    shown: bool


class Cache:
    """What has been computed.  Drops by recompute cost over size and recency (GreedyDual-Size, Cao and Irani 1997)."""

    def __init__(self, budget: int = 2 << 30, store: Store | None = None) -> None:
        self.budget = budget
        self.store = store
        self._kept: dict[str, _Kept] = {}
        self._bytes = 0
        self._clock = 0.0  # the score of the last one dropped: what is used now scores above it
        self._begun: dict[str, object] = {}  # keys of what is being made, and by whom
        self._lock = threading.RLock()

    def where(self, step: Step) -> str | None:
        """Which tier has the result of `step`: "memory", "disk" or None.  Reads no tensor."""
        if step.key in self._kept:
            return "memory"
        stored = self.store is not None and step.stored_key is not None and self.store.has(step.stored_key)
        return "disk" if stored else None

    def get(self, step: Step) -> Outputs | None:
        """The result of `step`, from whichever tier has it."""
        with self._lock:
            if (kept := self._kept.get(step.key)) is not None:
                kept.score = self._score(kept.seconds, kept.bytes)
                return kept.outputs
        if self.store is None or step.stored_key is None:
            return None
        outputs = self.store.get(step.stored_key)
        if outputs is not None:
            self._keep(step.key, outputs, WRITE_START)
        return outputs

    def put(self, step: Step, outputs: Outputs, seconds: float, *, shown: bool = False) -> bool:
        """Keep what `step` returned.  On disk if it is plain and worth more than it costs there, or is `shown`:

        the picture that an output node delivers is always stored, so that going back to it executes nothing else.
        Returns False, and keeps nothing, where there are NaN or infinities in it.
        """
        if not finite(outputs):
            return False
        if not step.cached:
            return True
        outputs = mapped(outputs, lambda tensor: tensor.cpu())  # what is kept takes no room on the device
        self._keep(step.key, outputs, seconds, shown=shown)
        room = size(outputs)
        worth = shown or seconds > WRITE_START + 2 * room / WRITE_SPEED or (step.node.wants_context and room <= SMALL)
        if worth and self.store is not None and step.stored_key is not None:
            self.store.put(step.stored_key, outputs, seconds)
        return True

    def begin(self, step: Step, maker: object) -> bool:
        """Whether `maker` may make the result of `step`; False while another one does, whose result will do."""
        with self._lock:
            return not step.cached or self._begun.setdefault(step.key, maker) is maker

    def release(self, maker: object, step: Step | None = None) -> None:
        """`maker` has made `step`, or without one: has given up all that it began."""
        with self._lock:
            keys = tuple(self._begun) if step is None else (step.key,)
            for key in keys:
                if self._begun.get(key) is maker:
                    del self._begun[key]

    def rekey(self, old: Step, new: Step) -> None:
        """`new` is `old`, now that its files are known by their content: it has the same result."""
        with self._lock:
            kept = self._kept.pop(old.key, None)
            if kept is not None:
                self._bytes -= kept.bytes
        if kept is not None:
            self.put(new, kept.outputs, kept.seconds, shown=kept.shown)

    def drop(self, step: Step) -> None:
        """Forget the result of `step` in memory."""
        with self._lock:
            if (kept := self._kept.pop(step.key, None)) is not None:
                self._bytes -= kept.bytes

    def clear(self) -> None:
        """Forget everything, on disk too."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0
        if self.store is not None:
            self.store.clear()

    @property
    def bytes(self) -> int:
        """What the results in memory take."""
        return self._bytes

    def _keep(self, key: str, outputs: Outputs, seconds: float, *, shown: bool = False) -> None:
        with self._lock:
            if (before := self._kept.pop(key, None)) is not None:
                self._bytes -= before.bytes
            room = size(outputs) + OVERHEAD
            if room > self.budget:
                return
            self._kept[key] = _Kept(outputs, room, seconds, self._score(seconds, room), shown)
            self._bytes += room
            while self._bytes > self.budget:
                worst = min(self._kept, key=lambda k: self._kept[k].score)
                self._clock = self._kept[worst].score
                self._bytes -= self._kept.pop(worst).bytes

    def _score(self, seconds: float, room: int) -> float:
        return self._clock + seconds / room
