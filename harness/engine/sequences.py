"""Finished trajectories as token sequences, and the log-probabilities of their response tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stepcredit.harness.engine.attention import Readers, fresh_batch, packed_logits
from stepcredit.harness.engine.cache import RowCache
from stepcredit.methods.contract import Step, Trajectory


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Tokens that a model reads in one row, with some steps' responses in them.

    Attributes:
        ids: [L] all tokens up to the end of the last response.
        response_T: [T] positions of the response tokens, in order.
    """

    ids: NDArray[np.int64]
    response_T: NDArray[np.int64]

    @classmethod
    def of(cls, steps: Sequence[Step]) -> TokenSequence:
        """Of at least one step; every step's prompt is a prefix of the last one's, see `stretches_of`."""
        last = steps[-1]
        spans = [np.arange(len(step.prompt_ids), len(step.prompt_ids) + len(step.response_ids)) for step in steps]
        return cls(np.concatenate([last.prompt_ids, last.response_ids]), np.concatenate(spans))


def stretches_of(trajectory: Trajectory) -> list[tuple[Step, ...]]:
    """The trajectory cut wherever a prompt does not continue the last one with its response.

    A running transcript is one stretch; with windowed prompts each turn, but for the first few, is one of its own.
    """
    steps = trajectory.steps
    cuts = [k for k in range(1, len(steps)) if not _continues(steps[k - 1], steps[k])]
    edges = [0, *cuts, len(steps)]
    return [steps[start:end] for start, end in pairwise(edges) if end > start]


def _continues(before: Step, after: Step) -> bool:
    prompt, grown = len(before.prompt_ids), len(before.prompt_ids) + len(before.response_ids)
    return (
        len(after.prompt_ids) >= grown
        and np.array_equal(after.prompt_ids[prompt:grown], before.response_ids)
        and np.array_equal(after.prompt_ids[:prompt], before.prompt_ids)
    )


def response_logits(
    model: PreTrainedModel, sequences: Sequence[TokenSequence], cache: RowCache | None = None
) -> tuple[Tensor, Tensor]:
    """Logits [K, V] that predict all response tokens of the sequences, in order, and those tokens [K].

    A cache with a row for each sequence is filled with their keys and values; where K is 0, nothing else is computed.
    """
    lengths = [len(sequence.ids) for sequence in sequences]
    starts = np.cumsum(lengths) - lengths
    place = np.concatenate([start + sequence.response_T for start, sequence in zip(starts, sequences, strict=True)])
    ids = torch.from_numpy(np.concatenate([sequence.ids for sequence in sequences])).to(model.device)
    target_K = torch.from_numpy(place).to(model.device)
    readers = Readers(target_K - 1, tiles=None if len(place) else ())
    return packed_logits(model, fresh_batch(lengths, model.device, cache), ids, readers), ids[target_K]


def token_logprobs(logits_KV: Tensor, token_K: Tensor, temperature: float) -> Tensor:
    """[K] log-probabilities at the sampling temperature, at 1 where it is 0; see `cached.draw`."""
    scaled_KV = logits_KV.float() / (temperature or 1.0)
    return scaled_KV.gather(1, token_K[:, None])[:, 0] - scaled_KV.logsumexp(-1)


def micro_batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices from the longest to the shortest, cut wherever rows x longest would exceed the budget.

    A sequence longer than the budget is alone. Equal lengths keep their order, so the cut is reproducible.
    """
    batch: list[int] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and (len(batch) + 1) * longest > token_budget:
            yield batch
            batch = []
        if not batch:
            longest = lengths[index]
        batch.append(index)
    if batch:
        yield batch
