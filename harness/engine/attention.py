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

from stepcredit.harness.engine.cache import Heads, RowCache

_NAME = "stepcredit_packed"
_CPU_TILE_ROWS = 16  # small tiles waste less on rows that are short or have no new token; a GPU wants one tile


@dataclass(frozen=True, slots=True)
class Tile:
    """Neighbouring rows that are attended together, padded to R x N queries and L keys.

    Attributes:
        tokens: the tile's packed tokens.
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
        """[t, H, D] of the tile's tokens to [R, N, H, D], zeros where there is no token."""
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
        tiles: the rows, in the order of their tokens.
        cache: where the rows' past lies and their new keys and values go; None for rows that have neither.
        place_T: see `RowCache.write`; None without a cache.
    """

    positions_T: Tensor
    tiles: tuple[Tile, ...]
    cache: RowCache | None = None
    place_T: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Readers:
    """The tokens whose logits are read; of the others the last layer needs keys and values, and nothing else.

    Attributes:
        keep_K: [K] their places among the packed tokens.
        tiles: the attention of these tokens alone, in a pass with a cache; None leaves nothing out.
    """

    keep_K: Tensor
    tiles: tuple[Tile, ...] | None = None


def fresh_batch(counts: Sequence[int], device: torch.device, cache: RowCache | None = None) -> PackedBatch:
    """Rows without a past: `counts` tokens each, packed in order, to be left in the cache's rows if there is one."""
    sizes = np.asarray(counts, dtype=np.int64)
    row, positions = np.repeat(np.arange(len(sizes)), sizes), _offsets(sizes)
    queries = int(sizes.max())
    grid = _grid(row, positions, len(sizes), queries, device)
    tile = Tile(slice(0, len(positions)), slice(0, len(sizes)), (len(sizes), queries), queries, grid, None)
    place_T = None if cache is None else cache.places(row, positions)
    return PackedBatch(torch.from_numpy(positions).to(device), (tile,), cache, place_T)


def cached_batch(
    cache: RowCache, heads: Heads, rows: NDArray[np.int64], starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> PackedBatch:
    """Rows that continue what the cache holds.

    Args:
        cache: with room for every row's start plus its count.
        heads: the model's.
        rows: [B] cache rows, ascending.
        starts: [B] filled positions of those rows.
        counts: [B] new tokens per row, at least one each.
    """
    positions = np.repeat(starts, counts) + _offsets(counts)
    place_T = cache.places(np.repeat(rows, counts), positions)
    tiles = cached_tiles(cache, heads, rows, starts, counts)
    return PackedBatch(torch.from_numpy(positions).to(place_T.device), tiles, cache, place_T)


def cached_tiles(
    cache: RowCache, heads: Heads, rows: NDArray[np.int64], starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[Tile, ...]:
    """Attention of `counts` tokens from position `starts` on in each row; arguments as of `cached_batch`."""
    device = cache.keys[0].device
    span = _CPU_TILE_ROWS if device.type == "cpu" else cache.keys[0].shape[0]
    token_row, offsets = np.repeat(rows, counts), _offsets(counts)
    tiles, first = [], 0
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
        tiles.append(Tile(tokens, slice(low, high), shape, keys, grid, mask))
        first = last
    return tuple(tiles)


def packed_logits(model: PreTrainedModel, batch: PackedBatch, token_ids_T: Tensor, readers: Readers) -> Tensor:
    """Logits [K, V] after the packed tokens that are read; the language head sees no other position."""
    with packed_attention(model), _last_mlp_of(model, readers, len(token_ids_T)):
        output = model(
            input_ids=token_ids_T[None],
            position_ids=batch.positions_T[None],
            use_cache=False,
            logits_to_keep=readers.keep_K,
            packed=batch,
            readers=readers,
        )
    logits: Tensor = output.logits[0]
    return logits


def packed_hidden(model: PreTrainedModel, batch: PackedBatch, token_ids_T: Tensor, readers: Readers) -> Tensor:
    """[K, D] what the language head reads after the packed tokens that are read."""
    with packed_attention(model):
        output = model.get_decoder()(
            input_ids=token_ids_T[None],
            position_ids=batch.positions_T[None],
            use_cache=False,
            packed=batch,
            readers=readers,
        )
    hidden_TD: Tensor = output.last_hidden_state[0]
    return hidden_TD.index_select(0, readers.keep_K)


@contextmanager
def _last_mlp_of(model: PreTrainedModel, readers: Readers, tokens: int) -> Iterator[None]:
    """Meanwhile the last layer's `mlp` computes the readers alone, if the pass leaves anything out."""
    layers = getattr(model.get_decoder(), "layers", None)
    mlp = getattr(layers[-1], "mlp", None) if layers else None
    if readers.tiles is None or mlp is None:
        yield
        return

    def take(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0].index_select(1, readers.keep_K),)

    def put_back(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return output.new_zeros(1, tokens, output.shape[2]).index_copy_(1, readers.keep_K, output)

    hooks = mlp.register_forward_pre_hook(take), mlp.register_forward_hook(put_back)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def packed_attention(model: PreTrainedModel) -> Iterator[None]:
    """Meanwhile the model's layers attend as a `PackedBatch` says, which they must be given."""
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
    readers: Readers,
    **unused: Any,
) -> tuple[Tensor, None]:
    """The function transformers calls in every layer, with query [1, H, T, D] and key, value [1, kv heads, T, D]."""
    query_THD, key_THD, value_THD = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if packed.cache is None or packed.place_T is None:
        return _attend(packed.tiles, query_THD, key_THD, value_THD, None, scaling)[None], None
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    past = packed.cache.write(layer, packed.place_T, key_THD, value_THD)
    if readers.tiles is None or layer < len(packed.cache.keys) - 1:
        return _attend(packed.tiles, query_THD, key_THD, value_THD, past, scaling)[None], None
    attended_THD = torch.zeros_like(query_THD)
    if readers.tiles:
        query_KHD = query_THD.index_select(0, readers.keep_K)
        read_KHD = _attend(readers.tiles, query_KHD, key_THD, value_THD, past, scaling)
        attended_THD.index_copy_(0, readers.keep_K, read_KHD)
    return attended_THD[None], None


def _attend(
    tiles: Sequence[Tile],
    query_THD: Tensor,
    key_THD: Tensor,
    value_THD: Tensor,
    past: tuple[Tensor, Tensor] | None,
    scaling: float,
) -> Tensor:
    """[T, H, D] of all tiles' queries, over what the cache holds or, in tiles without a past, their own tokens."""
    parts = []
    for tile in tiles:
        own_THD = query_THD[tile.tokens]
        if past is None or tile.mask is None:
            parts.append(_attend_fresh(tile, own_THD, key_THD[tile.tokens], value_THD[tile.tokens], scaling))
        else:
            attend = _attend_single if tile.shape[1] == 1 else _attend_many
            parts.append(attend(tile, own_THD, past[0][tile.rows], past[1][tile.rows], scaling))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


AttentionInterface.register(_NAME, _attention)


def _attend_fresh(tile: Tile, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Causal attention of rows without a past; differentiable."""
    group = query.shape[1] // key.shape[1]
    # Repeated, although grouped heads need not be: on CUDA the flash kernel alone takes those, and has no float32; all
    # others would fall back to the one that writes out every score.
    grids = [tile.spread(tensor).transpose(1, 2) for tensor in (query, key, value)]
    queries, keys, values = grids[0], *(grid.repeat_interleave(group, dim=1) for grid in grids[1:])
    attended = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scaling)
    return tile.collect(attended.transpose(1, 2))


def _attend_single(tile: Tile, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """One new token per row; a group of query heads is one small matrix against its shared keys."""
    rows, kv = keys.shape[:2]
    folded = tile.spread(query).view(rows * kv, query.shape[1] // kv, query.shape[2])
    key, value = (tensor.flatten(0, 1)[:, : tile.keys] for tensor in (keys, values))
    assert tile.mask is not None
    scores = torch.baddbmm(tile.mask, folded, key.transpose(1, 2), alpha=scaling)
    attended = torch.bmm(
        scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype), value
    )
    return tile.collect(attended.view(rows, 1, *query.shape[1:]))


def _attend_many(tile: Tile, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """Several new tokens per row; the query heads of a group are folded into the queries of their shared keys."""
    (rows, queries), (kv, size) = tile.shape, (keys.shape[1], query.shape[2])
    group = query.shape[1] // kv
    grid = tile.spread(query).view(rows, queries, kv, group, size)
    attended = functional.scaled_dot_product_attention(
        grid.permute(0, 2, 3, 1, 4).reshape(rows, kv, group * queries, size),
        keys[:, :, : tile.keys],
        values[:, :, : tile.keys],
        attn_mask=tile.mask,
        scale=scaling,
    )
    unfolded = attended.view(rows, kv, group, queries, size).permute(0, 3, 1, 2, 4)
    return tile.collect(unfolded.reshape(rows, queries, kv * group, size))


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
