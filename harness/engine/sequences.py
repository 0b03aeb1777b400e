"""Log-probabilities of the response tokens in token sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from stepcredit.harness.engine.attention import PackedBatch, Readers, fresh_batch, packed_hidden, packed_logits
from stepcredit.harness.engine.cache import RowCache
from stepcredit.harness.engine.stretches import TokenSequence

Read = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""What is taken of the logits [K, V] that predict tokens [K]: tensors [K, ...]."""


def response_logits(
    model: PreTrainedModel, sequences: Sequence[TokenSequence], cache: RowCache | None = None
) -> tuple[Tensor, Tensor]:
    """Logits [K, V] that predict all response tokens of the sequences, in order, and those tokens [K].

    A cache with a row for each sequence is filled with their keys and values; where K is 0, nothing else is computed.
    """
    batch, ids, target_K, readers = _packed(model, sequences, cache)
    return packed_logits(model, batch, ids, readers), ids[target_K]


def response_logprobs(
    model: PreTrainedModel,
    sequences: Sequence[TokenSequence],
    temperature: float,
    *,
    head_tokens: int | None = None,
    cache: RowCache | None = None,
) -> Tensor:
    """Log-probabilities [K] of all response tokens; see `response_logits` and `packed_read`."""
    return response_read(model, sequences, logprobs_at(temperature), head_tokens, cache)[0]


def response_read(
    model: PreTrainedModel,
    sequences: Sequence[TokenSequence],
    read: Read,
    head_tokens: int | None,
    cache: RowCache | None,
) -> tuple[Tensor, ...]:
    """What is read of the logits of all response tokens, in order; see `response_logits` and `packed_read`."""
    batch, ids, target_K, readers = _packed(model, sequences, cache)
    return packed_read(model, batch, ids, readers, ids[target_K], read, head_tokens)


def packed_read(
    model: PreTrainedModel,
    batch: PackedBatch,
    ids: Tensor,
    readers: Readers,
    token_K: Tensor,
    read: Read,
    head_tokens: int | None,
) -> tuple[Tensor, ...]:
    """What is read of the logits that predict tokens where the readers are.

    With `head_tokens` logits exist for so many tokens at a time. That takes a model whose logits are its language
    head's alone; see `recompute.require_recomputable`.
    """
    if head_tokens is None:
        return read(packed_logits(model, batch, ids, readers), token_K)
    hidden_KD, head = packed_hidden(model, batch, ids, readers), model.get_output_embeddings()
    pairs = zip(hidden_KD.split(head_tokens), token_K.split(head_tokens), strict=True)
    parts = [read(head(some_KD), some_K) for some_KD, some_K in pairs]
    return tuple(torch.cat(own) for own in zip(*parts, strict=True))


def logprobs_at(temperature: float) -> Read:
    """Reads the tokens' log-probabilities [K]; see `token_logprobs`."""
    return lambda logits_KV, token_K: (token_logprobs(logits_KV, token_K, temperature),)


def likeliest_at(temperature: float, top: int) -> Read:
    """Reads the `top` likeliest tokens, or all there are: ids [K, k] and log-probabilities [K, k], likeliest first."""
    return partial(_likeliest, temperature=temperature, top=top)


def _likeliest(logits_KV: Tensor, token_K: Tensor, *, temperature: float, top: int) -> tuple[Tensor, Tensor]:
    scaled_KV = logits_KV.float() / (temperature or 1.0)
    logit_Kk, ids_Kk = scaled_KV.topk(min(top, scaled_KV.shape[1]))
    return ids_Kk.int(), logit_Kk - scaled_KV.logsumexp(-1, keepdim=True)


def response_hidden(model: PreTrainedModel, sequences: Sequence[TokenSequence]) -> tuple[Tensor, Tensor]:
    """What the head reads [K, D] to predict all response tokens of the sequences, in order, and those tokens [K]."""
    batch, ids, target_K, readers = _packed(model, sequences, None)
    return packed_hidden(model, batch, ids, readers), ids[target_K]


def _packed(
    model: PreTrainedModel, sequences: Sequence[TokenSequence], cache: RowCache | None
) -> tuple[PackedBatch, Tensor, Tensor, Readers]:
    """The batch, its tokens, the places of the response tokens, and the places before them."""
    lengths = [len(sequence.ids) for sequence in sequences]
    starts = np.cumsum(lengths) - lengths
    place = np.concatenate([start + sequence.response_T for start, sequence in zip(starts, sequences, strict=True)])
    ids = torch.from_numpy(np.concatenate([sequence.ids for sequence in sequences])).to(model.device)
    target_K = torch.from_numpy(place).to(model.device)
    readers = Readers(target_K - 1, tiles=None if len(place) else ())
    return fresh_batch(lengths, model.device, cache), ids, target_K, readers


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
