"""Behaviour cloning: weighted next-token loss on demonstrations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from stepcredit.harness.warmstart.demonstrations import Demonstration


@dataclass(frozen=True, slots=True)
class CloningSpec:
    """Optimisation of the warm start: Muon for the matrices, AdamW for the rest, warm-up, cosine decay to a tenth."""

    steps: int = 2400
    batch: int = 12
    lr: float = 2e-3
    matrix_lr: float = 2e-2
    warmup: int = 50
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    micro_tokens: int = 1536


@dataclass(frozen=True, slots=True)
class CloningStep:
    """One step's mean loss per weighted token and the tokens seen so far."""

    step: int
    loss: float
    tokens: int


class Shown(Protocol):
    """Something to learn from, of token_ids [T]."""

    @property
    def token_ids(self) -> NDArray[np.int64]: ...

    @property
    def total(self) -> float:
        """The weight of all that is learned."""
        ...


ShownT = TypeVar("ShownT", bound=Shown)


def clone(model: PreTrainedModel, demonstrations: Iterator[Demonstration], spec: CloningSpec) -> Iterator[CloningStep]:
    """Train in place on demonstrations; yields after every step."""
    return learn(model, demonstrations, partial(_weighted_loss, model), spec)


def learn(
    model: PreTrainedModel,
    shown: Iterator[ShownT],
    loss_of: Callable[[Sequence[ShownT]], Tensor],
    spec: CloningSpec,
) -> Iterator[CloningStep]:
    """Train in place on whatever a summed loss is known of; yields after every step."""
    optimizers = _optimizers(model, spec)
    model.train()
    tokens = 0
    for step in range(spec.steps):
        batch = [next(shown) for _ in range(spec.batch)]
        for optimizer, peak in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * _schedule(step, spec)
        total = sum(item.total for item in batch)
        loss = 0.0
        for part in _micro_batches(batch, spec.micro_tokens):
            part_loss = loss_of(part) / total
            part_loss.backward()
            loss += float(part_loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec.grad_clip)
        for optimizer, _ in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        tokens += sum(len(item.token_ids) for item in batch)
        yield CloningStep(step, loss, tokens)
    model.eval()


def _optimizers(model: PreTrainedModel, spec: CloningSpec) -> list[tuple[torch.optim.Optimizer, float]]:
    """Each optimizer with its peak learning rate. Muon (Jordan et al. 2024) takes the hidden matrices only."""
    embedding = model.get_input_embeddings().weight
    hidden = [p for p in model.parameters() if p.ndim == 2 and p is not embedding]
    rest = [p for p in model.parameters() if p.ndim != 2 or p is embedding]
    muon = torch.optim.Muon(hidden, lr=spec.matrix_lr, weight_decay=spec.weight_decay)
    adamw = torch.optim.AdamW(rest, lr=spec.lr, betas=(0.9, 0.98), weight_decay=spec.weight_decay)
    return [(muon, spec.matrix_lr), (adamw, spec.lr)]


def _schedule(step: int, spec: CloningSpec) -> float:
    if step < spec.warmup:
        return (step + 1) / spec.warmup
    done = (step - spec.warmup) / max(1, spec.steps - spec.warmup)
    return 0.1 + 0.45 * (1.0 + math.cos(math.pi * done))


def _micro_batches(batch: Sequence[ShownT], budget: int) -> Iterator[list[ShownT]]:
    """Neighbours in length share a micro-batch of at most `budget` padded tokens."""
    part: list[ShownT] = []
    for item in sorted(batch, key=lambda item: len(item.token_ids), reverse=True):
        if part and (len(part) + 1) * len(part[0].token_ids) > budget:
            yield part
            part = []
        part.append(item)
    yield part


def _weighted_loss(model: PreTrainedModel, part: Sequence[Demonstration]) -> Tensor:
    """Summed weighted negative log-likelihood; logits only where the weight is not zero."""
    length = max(len(item.token_ids) for item in part)
    ids_BT = torch.zeros(len(part), length, dtype=torch.long)
    weights_BT = torch.zeros(len(part), length)
    for row, item in enumerate(part):
        ids_BT[row, : len(item.token_ids)] = torch.from_numpy(item.token_ids)
        weights_BT[row, : len(item.token_ids)] = torch.from_numpy(item.weights)
    hidden_BTD = model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
    chosen_BT = weights_BT[:, 1:] > 0
    logits_NV = model.get_output_embeddings()(hidden_BTD[:, :-1][chosen_BT])
    losses_N = functional.cross_entropy(logits_NV, ids_BT[:, 1:][chosen_BT], reduction="none")
    return (losses_N * weights_BT[:, 1:][chosen_BT]).sum()
