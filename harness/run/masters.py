"""Float32 master weights for a policy that computes in bfloat16.

Around 0.02 bfloat16 values lie 1.2e-4 apart. A step of 1e-6 rounds to nothing there, and weights that only exist in
bfloat16 never move. The optimiser therefore moves float32 masters, and the model computes with their rounding.

Rounding to nearest would still keep the model where it was: weights that were stored in bfloat16 lie on its grid, sixty
such steps away from where nearest rounding first changes. So each weight has a threshold of its own, drawn once: it is
rounded away from zero where the rest that bfloat16 cannot hold exceeds it. The share of weights that move a whole grid
step is then the share of the step that the masters have gone, in expectation over thresholds exactly, and a weight
whose master stands still never flickers. Weights on the grid stay themselves, whatever their thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from stepcredit.harness.run.resting import RestingAdamW
from stepcredit.harness.seeds import seed_for

_CHUNK = 2**24
_LOW_BITS = 0xFFFF

Held = Callable[[Tensor], tuple[Tensor, int]]
"""What this process holds of a tensor, contiguous, and the place of its first element among all."""


def whole(tensor: Tensor) -> tuple[Tensor, int]:
    """Where one process holds everything."""
    return tensor.detach(), 0


class MasterAdamW(AdamW):
    """AdamW over float32 masters of a bfloat16 model, whose gradients are summed in float32 as they arrive.

    A weight's own `grad` is None after each backward pass. Memory beside the model: 16 bytes a weight, of which 4 are
    free between updates.

    Args:
        model: in bfloat16, or float32 that is rounded to it; its weights that need a gradient change in place with
            every step.
        held: what this process has of each weight.
        settings: of AdamW.
    """

    def __init__(self, model: nn.Module, held: Held = whole, **settings: Any) -> None:
        self._held = held
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._masters = [
            nn.Parameter(weight.detach().to(torch.float32, copy=True), requires_grad=False)
            for weight in self._weights.values()
        ]
        super().__init__(self._masters, **settings)
        for weight, master in zip(self._weights.values(), self._masters, strict=True):
            weight.register_post_accumulate_grad_hook(_handed_to(master))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the masters, then the weights that compute."""
        super().step(closure)
        for (name, weight), master in zip(self._weights.items(), self._masters, strict=True):
            into, first = self._held(weight)
            round_into(into, self._held(master)[0], seed_for("rounding", name), first)

    def state_dict(self) -> dict[str, Any]:
        """AdamW's, and the masters."""
        return {**super().state_dict(), "masters": [master.detach() for master in self._masters]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """The inverse; the model's own weights are loaded on their own."""
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "masters"})
        for master, saved in zip(self._masters, state_dict["masters"], strict=True):
            master.copy_(saved)


class RestingMasterAdamW(MasterAdamW, RestingAdamW):
    """`MasterAdamW` whose moments rest in host memory: 8 bytes a weight less on the device."""


def round_into(weight: Tensor, master: Tensor, seed: int, first: int = 0) -> None:
    """Set a bfloat16 weight to its float32 master's neighbour below or above, by the threshold of each element.

    Args:
        weight: contiguous, bfloat16, or float32 to hold bfloat16's values.
        master: the same shape, finite float32.
        seed: names the weight's thresholds.
        first: place of the first element in the weight that these are a part of.
    """
    into, source = weight.detach().view(-1), master.detach().view(-1)
    for start in range(0, len(into), _CHUNK):
        part = source[start : start + _CHUNK]
        bits = part.view(torch.int32) + _thresholds(first + start, len(part), seed, part.device)
        into[start : start + _CHUNK] = (bits & ~_LOW_BITS).view(torch.float32)


def _handed_to(master: Tensor) -> Any:
    def hand_over(weight: Tensor) -> None:
        assert weight.grad is not None
        master.grad = weight.grad.float() if master.grad is None else master.grad.add_(weight.grad)
        weight.grad = None

    return hand_over


def _thresholds(first: int, count: int, seed: int, device: torch.device) -> Tensor:
    """[count] 16 bits for each element from `first` on: murmur3's finaliser of its place, in wrapping int32."""
    mixed = torch.arange(first, first + count, device=device).add_(seed & 0x7FFFFFFF).to(torch.int32)
    for shift, factor in ((16, -2048144789), (13, -1028477387)):
        mixed = (mixed ^ _shifted(mixed, shift)) * factor
    return (mixed ^ _shifted(mixed, 16)) & _LOW_BITS


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Right, filled with zeros; torch's int32 would copy the sign."""
    return (bits >> places) & ((1 << (32 - places)) - 1)
