"""A running average of a network's weights: what is sampled from, and what ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping


class Average:
    """An exponential moving average of parameters, in float32; young, it follows faster: decay (1 + n) / (10 + n)."""

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {name: value.detach().float().clone() for name, value in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move a little towards the network as it is now."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        now = dict(network.named_parameters())
        mine = list(self.weights.values())
        torch._foreach_lerp_(mine, [now[name].detach().float() for name in self.weights], 1 - decay)

    def state(self) -> dict[str, object]:
        """Everything that goes on from here, as `load` takes it."""
        return {"updates": self.updates, "weights": self.weights}

    def load(self, state: Mapping[str, object]) -> None:
        """Go on from a state."""
        weights = state["weights"]
        assert isinstance(weights, dict)
        self.updates = int(str(state["updates"]))
        self.weights = {name: Tensor.clone(weights[name]) for name in self.weights}

    @torch.no_grad()
    def copy_to(self, network: nn.Module) -> None:
        """Give the network the averaged weights."""
        for name, value in network.named_parameters():
            value.copy_(self.weights[name])
