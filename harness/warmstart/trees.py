"""Token sequences that share their beginnings, written down once and learned from in one pass.

A policy's episode is the trunk; what it might have been shown in mid-episode, and what is to be said then, are
branches. Every token sees what it follows, back to the beginning, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stepcredit.harness.warmstart.demonstrations import Demonstration

_NOTHING = -1


@dataclass(frozen=True, slots=True)
class Tree:
    """An episode and its branches.

    Attributes:
        token_ids: [T] the trunk, then the branches.
        parents: [T] the row that each token follows; -1 for the first.
        weights: [T] how much it counts that each token is expected.
        copied: [T] the trunk's row after which the student's expectation is to be met in place of each token's; -1
            where there is none.
        trunk: tokens of the trunk.
    """

    token_ids: NDArray[np.int64]
    parents: NDArray[np.int64]
    weights: NDArray[np.float32]
    copied: NDArray[np.int64]
    trunk: int

    @classmethod
    def of(cls, demonstration: Demonstration) -> Tree:
        """One without branches."""
        count = len(demonstration.token_ids)
        weights = demonstration.weights.copy()
        weights[:1] = 0.0
        return cls(demonstration.token_ids, np.arange(-1, count - 1), weights, np.full(count, _NOTHING), count)

    @property
    def total(self) -> float:
        """The weight of all that is learned."""
        return float(self.weights.sum()) + int((self.copied != _NOTHING).sum())

    def sight(self) -> NDArray[np.bool_]:
        """[T, T] which tokens each one sees, itself included."""
        seen_TT = np.eye(len(self.parents), dtype=np.bool_)
        for row, parent in enumerate(self.parents):
            if parent != _NOTHING:
                seen_TT[row] |= seen_TT[parent]
        return seen_TT


class Sapling:
    """A tree that grows.

    Args:
        trunk: the episode's tokens.
    """

    def __init__(self, trunk: Sequence[int] | NDArray[np.int64]) -> None:
        count = len(trunk)
        self._tokens, self._trunk = [int(token) for token in trunk], count
        self._parents = list(range(-1, count - 1))
        self._weights, self._copied = [0.0] * count, [_NOTHING] * count

    def anchor(self, kept: range) -> None:
        """These tokens of the trunk are to be expected as the student expects them."""
        self._copied[kept.start : kept.stop] = range(kept.start - 1, kept.stop - 1)

    def branch(self, after: int, shown: Sequence[int], learned: Sequence[int]) -> None:
        """After a row of the trunk, what is shown, and what is to be said then."""
        self._grow(after, [*shown, *learned])
        self._weights += [0.0] * len(shown) + [1.0] * len(learned)
        self._copied += [_NOTHING] * (len(shown) + len(learned))

    def repeat(self, after: int, shown: Sequence[int], again: range, spans: Sequence[range]) -> None:
        """After a row of the trunk, what is shown, and a part of the trunk again: in these spans nothing changes."""
        self._grow(after, [*shown, *(self._tokens[row] for row in again)])
        self._weights += [0.0] * (len(shown) + len(again))
        kept = {row for span in spans for row in span}
        self._copied += [_NOTHING] * len(shown) + [row - 1 if row in kept else _NOTHING for row in again]

    def grown(self) -> Tree:
        """The tree."""
        return Tree(
            np.array(self._tokens, dtype=np.int64),
            np.array(self._parents, dtype=np.int64),
            np.array(self._weights, dtype=np.float32),
            np.array(self._copied, dtype=np.int64),
            self._trunk,
        )

    def _grow(self, after: int, tokens: Sequence[int]) -> None:
        first = len(self._tokens)
        self._parents += [after, *range(first, first + len(tokens) - 1)]
        self._tokens += tokens


def tree_loss(model: PreTrainedModel, student: PreTrainedModel, part: Sequence[Tree]) -> Tensor:
    """Summed cross-entropy of what the trees teach: of tokens, and with the student's expectations."""
    ids_BT, sight_BTT = _padded(part)
    seen = {"attention_mask": sight_BTT[:, None], "position_ids": sight_BTT.sum(-1) - 1}
    hidden_BTD = model.base_model(input_ids=ids_BT, use_cache=False, **seen).last_hidden_state
    return _of_tokens(model, hidden_BTD, ids_BT, part) + _of_expectations(model, student, hidden_BTD, ids_BT, part)


def _padded(part: Sequence[Tree]) -> tuple[Tensor, Tensor]:
    """Tokens [B, T], and [B, T, T] which of them each one sees; padding sees itself alone."""
    length = max(len(tree.token_ids) for tree in part)
    ids_BT = torch.zeros(len(part), length, dtype=torch.long)
    sight_BTT = torch.eye(length, dtype=torch.bool).repeat(len(part), 1, 1)
    for row, tree in enumerate(part):
        own = len(tree.token_ids)
        ids_BT[row, :own] = torch.from_numpy(tree.token_ids)
        sight_BTT[row, :own, :own] = torch.from_numpy(tree.sight())
    return ids_BT, sight_BTT


def _of_tokens(model: PreTrainedModel, hidden_BTD: Tensor, ids_BT: Tensor, part: Sequence[Tree]) -> Tensor:
    chosen = [tree.weights > 0 for tree in part]
    row_N, token_N, after_N = _places(part, chosen)
    if not len(row_N):
        return hidden_BTD.new_zeros(())
    weight_N = torch.from_numpy(np.concatenate([tree.weights[own] for tree, own in zip(part, chosen, strict=True)]))
    logprob_NV = _logprobs(model, hidden_BTD[row_N, after_N])
    return -(weight_N * logprob_NV.gather(1, ids_BT[row_N, token_N][:, None])[:, 0]).sum()


def _of_expectations(
    model: PreTrainedModel, student: PreTrainedModel, hidden_BTD: Tensor, ids_BT: Tensor, part: Sequence[Tree]
) -> Tensor:
    chosen = [tree.copied != _NOTHING for tree in part]
    row_N, _, after_N = _places(part, chosen)
    if not len(row_N):
        return hidden_BTD.new_zeros(())
    copied_N = torch.from_numpy(np.concatenate([tree.copied[own] for tree, own in zip(part, chosen, strict=True)]))
    with torch.no_grad():
        trunks_BT = ids_BT[:, : max(tree.trunk for tree in part)]
        student_BTD = student.base_model(input_ids=trunks_BT, use_cache=False).last_hidden_state
        expected_NV = _logprobs(student, student_BTD[row_N, copied_N]).exp()
    return -(expected_NV * _logprobs(model, hidden_BTD[row_N, after_N])).sum()


def _places(part: Sequence[Tree], chosen: Sequence[NDArray[np.bool_]]) -> tuple[Tensor, Tensor, Tensor]:
    """[N] rows of the batch, [N] tokens in them, and [N] the token that each of those follows."""
    tokens = [np.flatnonzero(own) for own in chosen]
    rows = np.repeat(np.arange(len(part)), [len(own) for own in tokens])
    after = np.concatenate([tree.parents[own] for tree, own in zip(part, tokens, strict=True)])
    return torch.from_numpy(rows), torch.from_numpy(np.concatenate(tokens)), torch.from_numpy(after)


def _logprobs(model: PreTrainedModel, hidden_ND: Tensor) -> Tensor:
    """[N, V]"""
    logits_NV: Tensor = model.get_output_embeddings()(hidden_ND)
    return logits_NV.log_softmax(-1)
