"""Results by key: in memory under a budget of bytes, and in a Store where there is one."""

from __future__ import annotations

import math
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

    def __init__(self, budget: int = 2 << 30, store: Store | None = None, most: float = math.inf) -> None:
        self.budget, self.most = budget, most  # bytes, and results
        self.store = store
        self.bytes = 0  # what the results in memory take
        self._kept: dict[str, _Kept] = {}
        self._clock = 0.0  # the score of the last one dropped: what is used now scores above it
        self._begun: dict[str, object] = {}  # keys of what is being made, and by whom
        self._lock = threading.RLock()

    def where(self, step: Step) -> str | None:
        """Which tier has the result of `step`: "memory", "disk" or None.  Reads no tensor."""
        if step.key in self._kept:
            return "memory"
        return "disk" if self.store and step.stored_key and self.store.has(step.stored_key) else None

    def get(self, step: Step) -> Outputs | None:
        """The result of `step`, from whichever tier has it."""
        with self._lock:
            if (kept := self._kept.get(step.key)) is not None:
                kept.score = self._score(kept.seconds, kept.bytes)
                return kept.outputs
        outputs = self.store.get(step.stored_key) if self.store and step.stored_key else None
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
        if worth and self.store and step.stored_key:
            self.store.put(step.stored_key, outputs, seconds)
        return True

    def begin(self, step: Step, maker: object) -> bool:
        """Whether `maker` may make the result of `step`; False while another one does, whose result will do."""
        with self._lock:
            return not step.cached or self._begun.setdefault(step.key, maker) is maker

    def release(self, maker: object, step: Step | None = None) -> None:
        """`maker` has made `step`, or without one: has given up all that it began."""
        with self._lock:
            made = set(self._begun) if step is None else {step.key}
            self._begun = {key: by for key, by in self._begun.items() if by is not maker or key not in made}

    def rekey(self, old: Step, new: Step) -> None:
        """`new` is `old`, now that its files are known by their content: it has the same result."""
        with self._lock:
            kept = self._dropped(old.key)
        if kept is not None:
            self.put(new, kept.outputs, kept.seconds, shown=kept.shown)

    def drop(self, step: Step) -> None:
        """Forget the result of `step` in memory."""
        with self._lock:
            self._dropped(step.key)

    def forget(self) -> None:
        """Forget everything that is in memory."""
        with self._lock:
            self._kept.clear()
            self.bytes = 0

    def clear(self) -> None:
        """Forget everything, on disk too."""
        self.forget()
        if self.store:
            self.store.clear()

    def _keep(self, key: str, outputs: Outputs, seconds: float, *, shown: bool = False) -> None:
        with self._lock:
            self._dropped(key)
            room = size(outputs) + OVERHEAD
            if room > self.budget:
                return
            self._kept[key] = _Kept(outputs, room, seconds, self._score(seconds, room), shown)
            self.bytes += room
            while self.bytes > self.budget or len(self._kept) > self.most:
                worst = min(self._kept, key=lambda k: self._kept[k].score)  # of equals the first that came
                self._clock = self._kept[worst].score
                self._dropped(worst)

    def _dropped(self, key: str) -> _Kept | None:
        """What was kept under `key` until now."""
        kept = self._kept.pop(key, None)
        self.bytes -= kept.bytes if kept else 0
        return kept

    def _score(self, seconds: float, room: int) -> float:
        return self._clock + seconds / room
