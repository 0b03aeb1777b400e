"""Attention over rows of ragged length whose tokens lie packed one after another, with or without a cache.

Any decoder of transformers that takes its attention from `AttentionInterface` runs on such a batch: the model sees
one sequence of T tokens, its linear layers never meet padding, and only the attention knows about rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from harness.errors import UserError

_NAME = "stepcredit_packed"


@dataclass(frozen=True, slots=True)
class Heads:
    """Shape of a model's attention: query heads, key-value heads, layers, size of a head."""

    query: int
    kv: int
    layers: int
    size: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> Heads:
        """Read from the configuration.

        Raises:
            UserError: the model's attention is not plain causal attention over the whole context.
        """
        config = model.config
        if not getattr(model, "_supports_attention_backend", False):
            raise UserError(
                f"{type(model).__name__} does not take its attention from transformers' AttentionInterface; "
                "choose a decoder that does, such as Qwen3 or Llama"
            )
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"}:
            raise UserError(
                f"{type(model).__name__} has layers of type {sorted(kinds)}; only full_attention works here"
            )
        query = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // query
        return cls(query, getattr(config, "num_key_value_heads", None) or query, config.num_hidden_layers, size)


class RowCache:
    """Keys and values of many sequences, one row each, with room to grow.

    Row r of a layer is [kv heads, capacity, head size]; how much of it is filled is the owner's to know.
    """

    def __init__(self, heads: Heads, rows: int, capacity: int, *, dtype: torch.dtype, device: torch.device) -> None:
        shape = (rows, heads.kv, _rounded(capacity), heads.size)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(heads.layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(heads.layers)]

    @property
    def capacity(self) -> int:
        """Tokens that a row has room for."""
        return self.keys[0].shape[2]

    def reserve(self, tokens: int) -> None:
        """Make room for that many tokens a row, growing by at least a half."""
        if tokens <= self.capacity:
            return
        grown = _rounded(max(tokens, self.capacity * 3 // 2))
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                new = old.new_zeros((old.shape[0], old.shape[1], grown, old.shape[3]))
                new[:, :, : old.shape[2]] = old
                tensors[layer] = new

    def taken(self, rows: Sequence[int], tokens: int, capacity: int) -> RowCache:
        """A copy of the first `tokens` positions of these rows, which may repeat, with room for `capacity`."""
        keys = self.keys[0]
        heads = Heads(query=keys.shape[1], kv=keys.shape[1], layers=len(self.keys), size=keys.shape[3])
        copy = RowCache(heads, len(rows), capacity, dtype=keys.dtype, device=keys.device)
        index = torch.tensor(rows, device=keys.device)
        for old, new in zip(self.keys + self.values, copy.keys + copy.values, strict=True):
            new[:, :, :tokens] = old[:, :, :tokens].index_select(0, index)
        return copy

    def write(self, layer: int, place_T: Tensor, key_THD: Tensor, value_THD: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values; returns the layer's tensors [rows, kv heads, capacity, head size].

        Args:
            layer: which layer's.
            place_T: [T * kv heads] place of each token's head among rows x kv heads x capacity.
            key_THD: [T, kv heads, head size]; values likewise.
        """
        size = key_THD.shape[-1]
        for store, new in ((self.keys[layer], key_THD), (self.values[layer], value_THD)):
            store.view(-1, size).index_copy_(0, place_T, new.reshape(-1, size))
        return self.keys[layer], self.values[layer]


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring rows that are attended together, padded to R x N queries and L keys.

    Attributes:
        tokens: the block's packed tokens.
        rows: its rows in the cache.
        shape: (R, N).
        keys: L.
        grid_T: place of each token among the R * N; None where every place holds a token, in order.
        mask: 0 where a query may look, else -inf: [R * kv heads, 1, L] if N is 1, else [R, 1, group * N, L];
            None means causal, rows without a past.
    """

    tokens: slice
    rows: slice
    shape: tuple[int, int]
    keys: int
    grid_T: Tensor | None
    mask: Tensor | None

    def spread(self, packed_THD: Tensor) -> Tensor:
        """[t, H, D] of the block's tokens to [R, N, H, D], zeros where there is no token."""
        rows, queries = self.shape
        if self.grid_T is None:
            return packed_THD.reshape(rows, queries, *packed_THD.shape[1:])
        grid = packed_THD.new_zeros((rows * queries, *packed_THD.shape[1:]))
        return grid.index_copy(0, self.grid_T, packed_THD).view(rows, queries, *packed_THD.shape[1:])

    def collect(self, grid_RNHD: Tensor) -> Tensor:
        """The inverse of `spread`."""
        flat = grid_RNHD.flatten(0, 1)
        return flat if self.grid_T is None else flat.index_select(0, self.grid_T)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """The layout of one forward pass.

    Attributes:
        positions_T: [T] position of each token in its row.
        blocks: the rows, in the order of their tokens.
        cache: where the rows' past lies and their new keys and values go; None for rows without a past.
        place_T: see `RowCache.write`; None without a cache.
    """

    positions_T: Tensor
    blocks: tuple[Block, ...]
    cache: RowCache | None = None
    place_T: Tensor | None = None


def fresh_batch(counts: Sequence[int], device: torch.device) -> PackedBatch:
    """Rows without a past: `counts` tokens each, packed in order."""
    sizes = np.asarray(counts, dtype=np.int64)
    positions = _offsets(sizes)
    queries = int(sizes.max())
    grid = _grid(np.repeat(np.arange(len(sizes)), sizes), positions, len(sizes), queries, device)
    block = Block(slice(0, len(positions)), slice(0, len(sizes)), (len(sizes), queries), queries, grid, None)
    return PackedBatch(torch.from_numpy(positions).to(device), (block,))


def cached_batch(
    cache: RowCache,
    heads: Heads,
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
    span: int,
) -> PackedBatch:
    """Rows that continue what the cache holds.

    Args:
        cache: with room for every row's start plus its count.
        heads: the model's.
        rows: [B] cache rows, ascending.
        starts: [B] filled positions of those rows.
        counts: [B] new tokens a row, at least one each.
        span: rows a block: small blocks waste less on rows that are short or have no new token.
    """
    device = cache.keys[0].device
    token_row = np.repeat(rows, counts)
    offsets = _offsets(counts)
    positions = np.repeat(starts, counts) + offsets
    blocks, first = [], 0
    ends = np.cumsum(counts)
    for members in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows // span)) + 1):
        low, high, last = int(rows[members[0]]), int(rows[members[-1]]) + 1, int(ends[members[-1]])
        tokens = slice(first, last)
        shape = (high - low, int(counts[members].max()))
        keys = int((starts[members] + counts[members]).max())
        grid = _grid(token_row[tokens] - low, offsets[tokens], *shape, device)
        from_row = np.zeros(shape[0], dtype=np.int64)
        from_row[rows[members] - low] = starts[members]
        mask = _mask(from_row, shape[1], keys, heads, cache.keys[0])
        blocks.append(Block(tokens, slice(low, high), shape, keys, grid, mask))
        first = last
    place = (token_row[:, None] * heads.kv + np.arange(heads.kv)) * cache.capacity + positions[:, None]
    return PackedBatch(
        torch.from_numpy(positions).to(device), tuple(blocks), cache, torch.from_numpy(place.reshape(-1)).to(device)
    )


def packed_logits(model: PreTrainedModel, batch: PackedBatch, token_ids_T: Tensor, keep_K: Tensor) -> Tensor:
    """Logits [K, V] after the packed tokens `keep_K`; the language head sees no other position."""
    with _packed_attention(model):
        output = model(
            input_ids=token_ids_T[None],
            position_ids=batch.positions_T[None],
            use_cache=False,
            logits_to_keep=keep_K,
            packed=batch,
        )
    logits: Tensor = output.logits[0]
    return logits


@contextmanager
def _packed_attention(model: PreTrainedModel) -> Iterator[None]:
    usual = model.config._attn_implementation
    model.config._attn_implementation = _NAME
    try:
        yield
    finally:
        model.config._attn_implementation = usual


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    packed: PackedBatch,
    **unused: Any,
) -> tuple[Tensor, None]:
    """The function transformers calls in every layer, with query [1, H, T, D] and key, value [1, kv heads, T, D]."""
    query_THD, key_THD, value_THD = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if packed.cache is None or packed.place_T is None:
        parts = [_attend_fresh(block, query_THD, key_THD, value_THD, scaling) for block in packed.blocks]
    else:
        keys, values = packed.cache.write(int(module.layer_idx), packed.place_T, key_THD, value_THD)  # type: ignore[arg-type]
        parts = [
            (_attend_single if block.shape[1] == 1 else _attend_many)(
                block, query_THD[block.tokens], keys[block.rows], values[block.rows], scaling
            )
            for block in packed.blocks
        ]
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[None], None


AttentionInterface.register(_NAME, _attention)


def _attend_fresh(block: Block, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Causal attention of rows without a past; differentiable."""
    group = query.shape[1] // key.shape[1]
    grids = [block.spread(tensor[block.tokens]).transpose(1, 2) for tensor in (query, key, value)]
    queries, keys, values = grids[0], *(grid.repeat_interleave(group, dim=1) for grid in grids[1:])
    attended = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scaling)
    return block.collect(attended.transpose(1, 2))


def _attend_single(block: Block, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """One new token a row; a group of query heads is one small matrix against its shared keys."""
    rows, kv = keys.shape[:2]
    folded = block.spread(query).view(rows * kv, query.shape[1] // kv, query.shape[2])
    key, value = (tensor.flatten(0, 1)[:, : block.keys] for tensor in (keys, values))
    assert block.mask is not None
    scores = torch.baddbmm(block.mask, folded, key.transpose(1, 2), alpha=scaling)
    attended = torch.bmm(
        scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype), value
    )
    return block.collect(attended.view(rows, 1, *query.shape[1:]))


def _attend_many(block: Block, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """Several new tokens a row; the query heads of a group are folded into the queries of their shared keys."""
    (rows, queries), (kv, size) = block.shape, (keys.shape[1], query.shape[2])
    group = query.shape[1] // kv
    grid = block.spread(query).view(rows, queries, kv, group, size)
    attended = functional.scaled_dot_product_attention(
        grid.permute(0, 2, 3, 1, 4).reshape(rows, kv, group * queries, size),
        keys[:, :, : block.keys],
        values[:, :, : block.keys],
        attn_mask=block.mask,
        scale=scaling,
    )
    unfolded = attended.view(rows, kv, group, queries, size).permute(0, 3, 1, 2, 4)
    return block.collect(unfolded.reshape(rows, queries, kv * group, size))


def _mask(start_R: NDArray[np.int64], queries: int, keys: int, heads: Heads, like: Tensor) -> Tensor:
    """Query n of row r sees the positions up to start_r + n."""
    last_RN = torch.from_numpy(start_R[:, None] + np.arange(queries)).to(like.device)
    visible = torch.arange(keys, device=like.device) <= last_RN[:, :, None]
    bias = torch.zeros((), dtype=like.dtype, device=like.device).where(visible, -torch.inf)
    if queries == 1:
        return bias.repeat_interleave(heads.kv, dim=0)
    return bias[:, None].repeat(1, 1, heads.query // heads.kv, 1)


def _grid(
    row_T: NDArray[np.int64], offset_T: NDArray[np.int64], rows: int, queries: int, device: torch.device
) -> Tensor | None:
    if len(row_T) == rows * queries:
        return None
    return torch.from_numpy(row_T * queries + offset_T).to(device)


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... within each row."""
    total = int(counts.sum())
    return np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)


def _rounded(tokens: int) -> int:
    return -(-tokens // 64) * 64
