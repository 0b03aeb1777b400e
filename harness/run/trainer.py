"""Optimiser steps on one process; `stepcredit.harness.run.crew` makes the same ones on several."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from stepcredit.harness.engine.recompute import recomputing
from stepcredit.harness.engine.rescore import Drawn
from stepcredit.harness.engine.sequences import micro_batches
from stepcredit.harness.errors import Diverged, UserError
from stepcredit.harness.model.frozen import Frozen
from stepcredit.harness.run.loss import Item, Terms, loss_terms
from stepcredit.harness.spec import RunSpec


class Sums(NamedTuple):
    """`Terms` over many batches, and the largest gap of them all."""

    loss: float = 0.0
    policy: float = 0.0
    distill: float = 0.0
    entropy: float = 0.0
    clipped: float = 0.0
    gap: float = 0.0
    gap_max: float = 0.0

    def plus(self, terms: Terms) -> Sums:
        """One transfer for all of them."""
        return self.joined(Sums._make(torch.stack(terms).tolist()))

    def joined(self, other: Sums) -> Sums:
        """Of the batches of both."""
        sums = [a + b for a, b in zip(self[:-1], other[:-1], strict=True)]
        return Sums._make([*sums, max(self.gap_max, other.gap_max)])


class Trainer(Protocol):
    """Moves the policy's weights, wherever the work is done; they have moved when a step returns."""

    def set_rate(self, lr: float) -> None:
        """The learning rate of the steps to come."""
        ...

    def step(self, items: Sequence[Item], total: int) -> tuple[Sums, float]:
        """One optimiser step on the items' mean over `total` tokens: what they added up to, and the gradient's norm.

        Raises:
            Diverged: the loss or its gradient is not finite; no step is made.
            UserError: the engine is too far from the trainer; no step is made.
        """
        ...

    def optimizer_state(self) -> dict[str, Any]:
        """AdamW's state, as `Optimizer.state_dict` has it on one process."""
        ...

    def load(self, optimizer: Mapping[str, Any] | None) -> None:
        """Go on from the policy's weights as they are now and, where there is one, that state."""
        ...


@dataclass(frozen=True, slots=True)
class LocalTrainer:
    """On this process, and the model itself."""

    model: PreTrainedModel
    reference: Frozen | None
    optimizer: Optimizer
    spec: RunSpec
    drawn: Drawn

    def set_rate(self, lr: float) -> None:
        """See `Trainer`."""
        for settings in self.optimizer.param_groups:
            settings["lr"] = lr

    def step(self, items: Sequence[Item], total: int) -> tuple[Sums, float]:
        """See `Trainer`."""
        self.optimizer.zero_grad(set_to_none=True)
        sums = Sums()
        for batch in micro_batches([len(item.sequence.ids) for item in items], self.spec.optim.token_budget):
            with passing(self.model, self.spec):
                terms = loss_terms(self.model, self.reference, [items[index] for index in batch], self.spec)
                (terms.loss / total).backward()
            sums = sums.plus(terms)
        require_near(sums, sum(item.tokens for item in items), self.drawn, self.spec)
        return sums, move(self.optimizer, sums.loss, self.spec.optim.grad_clip)

    def optimizer_state(self) -> dict[str, Any]:
        """See `Trainer`."""
        return self.optimizer.state_dict()

    def load(self, optimizer: Mapping[str, Any] | None) -> None:
        """See `Trainer`."""
        if optimizer is not None:
            self.optimizer.load_state_dict(dict(optimizer))


def passing(model: PreTrainedModel, spec: RunSpec) -> AbstractContextManager[None]:
    """What a training pass forward and backward is made in."""
    return recomputing(model) if spec.optim.recompute else nullcontext()


def require_near(sums: Sums, tokens: int, drawn: Drawn, spec: RunSpec) -> None:
    """Refuse to train on tokens that an engine drew with probabilities far from the trainer's.

    Raises:
        UserError: it did.
    """
    gap, largest = sums.gap / tokens, spec.objective.max_engine_gap
    if drawn is Drawn.ELSEWHERE and gap > largest:
        raise UserError(
            f"engine and trainer differ by {gap:.3g} nats a token in the mean, more than objective.max_engine_gap "
            f"{largest:g}: the engine does not run the weights that are trained, or too coarsely"
        )


def move(optimizer: Optimizer, loss: float, grad_clip: float, value_of: Callable[[Tensor], float] = float) -> float:
    """Clip the gradient and step; returns the gradient's norm, as `value_of` reads it.

    Raises:
        Diverged: the loss or the norm is not finite; no step was made.
    """
    moved = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = value_of(torch.nn.utils.clip_grad_norm_(moved, grad_clip))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        optimizer.zero_grad(set_to_none=True)
        raise Diverged(loss, norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
