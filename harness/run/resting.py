"""What is read now and then rests in host memory, and visits the device for the time that it is read.

Copies change no bit. On a machine without a GPU the device is the host, and nothing moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim import AdamW

HOST = torch.device("cpu")


@contextmanager
def visiting(device: torch.device, *models: nn.Module | None) -> Iterator[None]:
    """Meanwhile the models are on the device; before and after they are in host memory."""
    there = [model for model in models if model is not None]
    try:
        for model in there:
            model.to(device)
        yield
    finally:
        for model in there:
            model.to(HOST)


class RestingAdamW(AdamW):
    """AdamW whose moments rest in host memory. A step fetches those of one weight after the other.

    A step is bit for bit AdamW's. Memory on the device: 8 bytes a weight less. Every step moves as much there and back.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """AdamW's step, weight by weight."""
        groups = [(group, list(group["params"])) for group in self.param_groups]
        for group, _ in groups:
            group["params"] = []
        for group, weights in groups:
            for weight in weights:
                group["params"] = [weight]
                self._move_moments(weight, weight.device)
                super().step(closure)
                self._move_moments(weight, HOST)
            group["params"] = []
        for group, weights in groups:
            group["params"] = weights

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """AdamW's; it puts moments beside their weights."""
        super().load_state_dict(state_dict)
        for weight in self.state:
            self._move_moments(weight, HOST)

    def _move_moments(self, weight: torch.Tensor, device: torch.device) -> None:
        state = self.state.get(weight, {})
        for name in ("exp_avg", "exp_avg_sq"):
            if name in state:
                state[name] = state[name].to(device)
