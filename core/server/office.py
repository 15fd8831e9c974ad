"""What the handlers translate for: the machinery of one server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..packs.loading import Packs

if TYPE_CHECKING:
    from ..host import Host
    from ..jobs.dispatcher import Dispatcher


@dataclass(frozen=True, slots=True)
class Office:
    """What handlers need."""

    host: Host
    dispatcher: Dispatcher
    packs: Packs = field(default_factory=lambda: Packs({}))
