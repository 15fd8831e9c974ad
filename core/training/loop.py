"""The training loop as a generator of events: resumable after a kill, the same to the last bit as if never stopped.

Everything random in a step is drawn from (seed, step), so a checkpoint need not carry the state of a generator.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .ema import Average
from .losses import cosine

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Plan:
    """How a network is trained: warm up, hold the rate, then let it fall over the last part of the steps."""

    steps: int
    rate: float = 1e-3  # of AdamW, at its highest
    warmup: int = 300  # steps
    decay: float = 0.3  # the part of all steps, at the end, in which the rate falls to 0 by half a cosine
    ema: float = 0.999
    weight_decay: float = 0.01
    clip: float = 1.0  # the gradient's norm
    save_every: int = 500  # steps
    betas: tuple[float, float] = (0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Step:
    """A step was made."""

    step: int  # how many there have been
    loss: float
    rate: float
    eta: float  # seconds until the last step, by this run's pace


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint is on disk."""

    path: Path
    step: int


Event = Step | Saved
Loss = Callable[[nn.Module, int], Tensor]  # a network and the number of a step to a scalar


def rate(plan: Plan, step: int) -> float:
    """The learning rate of a step, counted from 0."""
    return (
        plan.rate * min(1.0, (step + 1) / plan.warmup) * cosine(step, round(plan.steps * (1 - plan.decay)), plan.steps)
    )


def train(network: nn.Module, loss: Loss, plan: Plan, checkpoint: Path) -> Iterator[Event]:
    """Train a network in place until plan.steps, going on from the checkpoint if there is one.

    Yields a Step after each step, and Saved whenever the checkpoint was replaced; the last event is Saved.
    """
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=plan.rate, betas=plan.betas, weight_decay=plan.weight_decay, fused=True
    )
    average = Average(network, plan.ema)
    step = first = _resume(checkpoint, network, optimizer, average)
    began = time.monotonic()
    network.train()
    while step < plan.steps:
        now = rate(plan, step)
        for group in optimizer.param_groups:
            group["lr"] = now
        value = loss(network, step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), plan.clip)
        optimizer.step()
        average.update(network)
        step += 1
        eta = (time.monotonic() - began) / (step - first) * (plan.steps - step)
        yield Step(step, float(value.detach()), now, eta)
        if step % plan.save_every == 0 or step == plan.steps:
            save(
                checkpoint,
                {
                    "step": step,
                    "network": network.state_dict(),
                    "average": average.state(),
                    "optimizer": optimizer.state_dict(),
                },
            )
            yield Saved(checkpoint, step)


def save(path: Path, state: dict[str, Any]) -> None:
    """Replace a file by a state in one go: whoever reads it finds the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def averaged(path: Path) -> tuple[int, dict[str, Tensor]]:
    """The step and the averaged weights of a checkpoint."""
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return int(state["step"]), {name: value.clone() for name, value in state["average"]["weights"].items()}


def _resume(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, average: Average) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    average.load(state["average"])
    return int(state["step"])
