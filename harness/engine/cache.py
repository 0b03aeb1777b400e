"""Keys and values of many sequences of uneven length, kept across turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stepcredit.harness.errors import UserError


@dataclass(frozen=True, slots=True)
class Heads:
    """Shape of a model's attention: query heads, key-value heads, layers, size of a head."""

    query: int
    kv: int
    layers: int
    size: int

    def bytes_per_token(self, itemsize: int) -> int:
        """Keys and values of one token in all layers, at so many bytes a number."""
        return 2 * self.layers * self.kv * self.size * itemsize

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
        """Make room for that many tokens per row, growing by at least a half."""
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

    def places(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> Tensor:
        """[T * kv heads] where `write` puts T tokens, given the row [T] and the position [T] of each."""
        kv = self.keys[0].shape[1]
        place = (rows[:, None] * kv + np.arange(kv)) * self.capacity + positions[:, None]
        return torch.from_numpy(place.reshape(-1)).to(self.keys[0].device)

    def write(self, layer: int, place_T: Tensor, key_THD: Tensor, value_THD: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values; returns the layer's tensors [rows, kv heads, capacity, head size].

        Args:
            layer: which layer's.
            place_T: see `places`.
            key_THD: [T, kv heads, head size]; values likewise.
        """
        size = key_THD.shape[-1]
        for store, new in ((self.keys[layer], key_THD), (self.values[layer], value_THD)):
            store.view(-1, size).index_copy_(0, place_T, new.reshape(-1, size))
        return self.keys[layer], self.values[layer]


def _rounded(tokens: int) -> int:
    return -(-tokens // 64) * 64
