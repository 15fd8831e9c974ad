"""Foreign functions, plain and async, as they expect to be run: without gradients, and to their end."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any


def quiet() -> AbstractContextManager[Any]:
    """Where no gradients are kept; nothing to do while nobody has loaded torch."""
    torch = sys.modules.get("torch")
    return nullcontext() if torch is None else torch.no_grad()


@dataclass(frozen=True, slots=True)
class Quiet:
    """An awaitable that keeps no gradients.  Only while it is running: others run between its steps."""

    work: Awaitable[Any]

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.work.__await__()
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                with quiet():
                    said = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            answer = error = None
            try:
                answer = yield said
            except BaseException as thrown:  # a stop, for instance: it is for the function to deal with
                error = thrown


def ended(value: Any) -> Any:
    """`value`, or what it comes to if it is awaitable; also where a loop is running already."""
    if not inspect.isawaitable(value):
        return value
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_waited(value))
    with ThreadPoolExecutor(1) as other:
        return other.submit(asyncio.run, _waited(value)).result()


async def _waited(value: Awaitable[Any]) -> Any:
    return await value
