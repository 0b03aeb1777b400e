"""The transformers engine: batched sampling turn after turn over a key-value cache that outlives the turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stepcredit.harness.engine.attention import Readers, cached_batch, packed_logits
from stepcredit.harness.engine.cache import Heads, RowCache
from stepcredit.harness.engine.contract import NOT_FINITE, Sample, draw
from stepcredit.harness.engine.turns import TurnTracker
from stepcredit.harness.errors import UserError
from stepcredit.harness.seeds import uniforms

CACHE_BYTES = 2**34
_PREFILL_TOKENS = 16384
_ROOM = 128


class TransformersEngine:
    """Samples from any decoder of transformers that has plain causal attention; see `attention`.

    The model's weights may change between sessions, never during one.

    Raises:
        UserError: the model has another kind of attention.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._heads = Heads.of(model)
        self._ends = end_tokens(model)

    @property
    def exact(self) -> bool:
        """It runs the trainer's own model, but a token alone rounds otherwise than in a long pass.

        In float32 the log-probabilities differ by about 1e-5. In bfloat16 it is 0.05, more than many hindsight gaps.
        """
        return self._model.dtype is torch.float32

    def rows(self, tokens: int) -> int:
        """As many as 16 GiB of keys and values."""
        return max(1, CACHE_BYTES // (tokens * self._heads.bytes_per_token(self._model.dtype.itemsize)))

    def awake(self) -> AbstractContextManager[None]:
        """It runs the policy's own model, and its sessions own their caches: there is nothing to wake."""
        return nullcontext()

    def open(self, prompts: Sequence[NDArray[np.int64]]) -> CachedSession:
        """Start one sequence per prompt; equal prompts are computed once."""
        return CachedSession(self._model, self._heads, self._ends, prompts)


def end_tokens(model: PreTrainedModel) -> frozenset[int]:
    """Tokens that end a response."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    return frozenset([ends] if isinstance(ends, int) else ends or [])


class CachedSession:
    """A `contract.Session` over one growing cache. Rows that are done in a turn leave its batch at once."""

    def __init__(
        self, model: PreTrainedModel, heads: Heads, ends: frozenset[int], prompts: Sequence[NDArray[np.int64]]
    ) -> None:
        self._model, self._heads, self._ends = model, heads, ends
        self._device = model.device
        self._pending: list[list[int]] = [[int(prompt[-1])] for prompt in prompts]
        self._rows, self._lengths, self._cache = self._prefilled(prompts)

    def __len__(self) -> int:
        return len(self._rows)

    def generate(
        self,
        *,
        seeds: Sequence[int],
        new_tracker: Callable[[], TurnTracker],
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
    ) -> list[Sample]:
        """See `Session.generate`."""
        seed_B = np.asarray(seeds, dtype=np.int64)
        trackers = [new_tracker() for _ in seeds]
        drawn: list[list[int]] = [[] for _ in seeds]
        logprob_parts: list[tuple[NDArray[np.int64], Tensor]] = []
        active = np.arange(len(seeds))
        with torch.inference_mode():
            logits_BV = self._forward(np.arange(len(seeds)), self._pending)
            for index in range(max_tokens):
                uniform_B = torch.from_numpy(uniforms(seed_B[active], np.full_like(active, index)))
                token_B, logprob_B = draw(logits_BV, uniform_B.to(self._device), temperature, top_p)
                logprob_parts.append((active, logprob_B))
                tokens = token_B.tolist()
                going = []
                for place, (row, token) in enumerate(zip(active.tolist(), tokens, strict=True)):
                    drawn[row].append(token)
                    if not trackers[row].push(token) and token not in self._ends:
                        going.append(place)
                if not going or index + 1 == max_tokens:
                    break
                active = active[going]
                logits_BV = self._forward(active, [[tokens[place]] for place in going])
        self._pending = [tokens[-1:] for tokens in drawn]
        logprobs = _by_row(logprob_parts, len(seeds))
        return [
            Sample(np.array(ids, dtype=np.int64), scores, tracker, not tracker.done)
            for ids, scores, tracker in zip(drawn, logprobs, trackers, strict=True)
        ]

    def append(self, tokens: Sequence[Sequence[int]]) -> None:
        """Add tokens to each row; they are read together with the next draw."""
        for pending, new in zip(self._pending, tokens, strict=True):
            pending.extend(new)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, given in ascending order. The cache moves only once half of it is unused."""
        self._rows = self._rows[list(rows)]
        self._pending = [self._pending[row] for row in rows]
        if 0 < len(rows) <= len(self._lengths) // 2:
            self._lengths = self._lengths[self._rows]
            self._cache = self._cache.taken(self._rows.tolist(), int(self._lengths.max()), self._cache.capacity)
            self._rows = np.arange(len(rows))

    @torch.inference_mode()
    def _prefilled(self, prompts: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64], RowCache]:
        """Cache rows, their lengths and the cache, filled with all but the last token of each prompt."""
        unique: dict[bytes, int] = {}
        owner = [unique.setdefault(np.asarray(prompt, np.int64).tobytes(), len(unique)) for prompt in prompts]
        texts = [np.frombuffer(key, np.int64)[:-1].tolist() for key in unique]
        counts = np.array([len(text) for text in texts])
        longest = int(counts.max())
        cache = RowCache(self._heads, len(texts), longest, dtype=self._model.dtype, device=self._device)
        filled = np.flatnonzero(counts)
        if len(filled):
            self._read(cache, filled, np.zeros_like(filled), [texts[row] for row in filled])
        return np.arange(len(owner)), counts[owner], cache.taken(owner, longest, longest + _ROOM)

    def _forward(self, live: NDArray[np.int64], tokens: Sequence[Sequence[int]]) -> Tensor:
        """Extend some live rows; logits [B, V] after the last new token of each."""
        rows = self._rows[live]
        starts = self._lengths[rows]
        self._lengths[rows] += [len(new) for new in tokens]
        self._cache.reserve(int(self._lengths[rows].max()))
        return self._read(self._cache, rows, starts, tokens)

    def _read(
        self, cache: RowCache, rows: NDArray[np.int64], starts: NDArray[np.int64], tokens: Sequence[Sequence[int]]
    ) -> Tensor:
        counts = np.array([len(new) for new in tokens], dtype=np.int64)
        parts, first = [], 0
        for last in _chunk_ends(counts, _PREFILL_TOKENS):
            part = slice(first, last)
            batch = cached_batch(cache, self._heads, rows[part], starts[part], counts[part])
            ids = torch.tensor([token for new in tokens[part] for token in new], device=self._device)
            keep = torch.from_numpy(np.cumsum(counts[part]) - 1).to(self._device)
            parts.append(packed_logits(self._model, batch, ids, Readers(keep)))
            first = last
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _by_row(parts: Sequence[tuple[NDArray[np.int64], Tensor]], rows: int) -> list[NDArray[np.float32]]:
    """Log-probabilities by row, fetched from the device at once."""
    owner_K = np.concatenate([owner for owner, _ in parts])
    value_K = torch.cat([values for _, values in parts]).cpu().numpy()
    if not np.isfinite(value_K).all():
        raise UserError(NOT_FINITE)
    order = np.argsort(owner_K, kind="stable")
    return np.split(value_K[order], np.searchsorted(owner_K[order], np.arange(1, rows)))


def _chunk_ends(counts: NDArray[np.int64], budget: int) -> list[int]:
    """Ends of runs of rows with at most `budget` tokens each; a longer row has a run of its own."""
    ends, used = [], 0
    for row, count in enumerate(counts.tolist()):
        if row and used + count > budget:
            ends.append(row)
            used = 0
        used += count
    return [*ends, len(counts)]
