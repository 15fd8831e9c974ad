"""The last lines of the log, for those who look at the server from afar."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from ..schema import NAMESPACE

MOST = 300  # lines
TERMINAL = {"cols": 80, "rows": 24}  # that it is as wide as

Line = dict[str, str]  # t: when, m: what


class Recent(logging.Handler):
    """Keeps the last lines, and tells whoever follows them.  Lines come from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[Line] = deque(maxlen=MOST)
        self.follower: Callable[[Line], None] = lambda _: None
        self.setFormatter(logging.Formatter("%(message)s"))

    def __enter__(self) -> Recent:
        logging.getLogger(NAMESPACE).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(NAMESPACE).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, without its traceback."""
        text = record.getMessage()
        line = {"t": datetime.fromtimestamp(record.created, UTC).isoformat(), "m": f"{text}\n"}
        self.lines.append(line)
        with suppress(RuntimeError):  # the loop has gone
            self.follower(line)
