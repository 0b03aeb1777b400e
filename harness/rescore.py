"""Scores a trajectory's tokens under other weights, or with hindsight in every step's context.

A trajectory's transcript is read once. Each step of a hindsight request then branches off that trunk: it reuses the
keys and values before the step's own turn, and adds the hindsight block, the generation suffix and its response.
The cost is linear in transcript plus branches, where separate forward passes would read each prefix again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from harness.attention import cached_batch, packed_logits
from harness.cache import Heads, RowCache
from harness.policy import Policy
from harness.sequences import TokenSequence, micro_batches, response_logits, token_logprobs
from methods.contract import MethodError, ScoreRequest, Trajectory, Weights


@dataclass(frozen=True, slots=True)
class _Branch:
    """A step in its changed context: what follows the first `start` tokens of the transcript.

    The last `response` of the tokens are the response itself, whose final token predicts nothing.
    """

    start: int
    tokens: NDArray[np.int64]
    response: int


class ModelRescorer:
    """Implements `methods.contract.Rescorer` with the live policy and an optional stale copy of it.

    Log-probabilities are taken at the temperature of the rollouts (at 1 where it is 0), for students and teachers
    alike, so that a gap without hindsight and staleness is zero. A hindsight block goes right before the generation
    suffix of every step's prompt. One that would push a step beyond the model's positions loses its end, by the same
    number of tokens in every step.

    Args:
        policy: the live policy.
        stale: the lagging teacher; None for methods without one.
        token_budget: padded tokens a forward pass.
        temperature: of the rollouts.
    """

    def __init__(
        self, policy: Policy, stale: PreTrainedModel | None, token_budget: int, temperature: float = 1.0
    ) -> None:
        self._policy, self._stale = policy, stale
        self._budget, self._temperature = token_budget, temperature
        self._heads = Heads.of(policy.model)

    @torch.no_grad()
    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        """One detached float32 tensor [T] a request, on the CPU, over all response tokens in order.

        Raises:
            MethodError: stale weights are asked for and there are none.
        """
        scores = [torch.zeros(0) for _ in requests]
        causal: dict[Weights, list[int]] = {weights: [] for weights in Weights}
        for place, request in enumerate(requests):
            if not request.trajectory.steps:
                continue
            if request.hindsight is None:
                causal[request.weights].append(place)
            else:
                model = self._model(request.weights)
                scores[place] = self._score_hindsight(model, request.trajectory, request.hindsight)
        for weights, places in causal.items():
            if places:
                found = self._score_causal(self._model(weights), [requests[place].trajectory for place in places])
                for place, score_T in zip(places, found, strict=True):
                    scores[place] = score_T
        return scores

    def _model(self, weights: Weights) -> PreTrainedModel:
        if weights is Weights.LIVE:
            return self._policy.model
        if self._stale is None:
            raise MethodError(
                "stale weights are asked for, but the method keeps none; its `needs.stale_refresh` must say how often"
            )
        return self._stale

    def _score_causal(self, model: PreTrainedModel, trajectories: Sequence[Trajectory]) -> list[Tensor]:
        """Every step in its own prompt: one ordinary pass over each transcript."""
        sequences = [TokenSequence.of(trajectory) for trajectory in trajectories]
        scores = [torch.zeros(0) for _ in sequences]
        for batch in micro_batches([len(sequence.ids) for sequence in sequences], self._budget):
            chosen = [sequences[index] for index in batch]
            score_K = token_logprobs(*response_logits(model, chosen), self._temperature).cpu()
            parts = score_K.split([len(sequence.response_T) for sequence in chosen])
            for index, score_T in zip(batch, parts, strict=True):
                scores[index] = score_T
        return scores

    def _score_hindsight(self, model: PreTrainedModel, trajectory: Trajectory, hindsight: str) -> Tensor:
        """Every step with the hindsight block before its generation suffix."""
        ids = TokenSequence.of(trajectory).ids
        branches = self._branches(trajectory, hindsight, model.config.max_position_embeddings - len(ids))
        trunk = self._trunk(model, ids[: branches[-1].start])
        scores = [torch.zeros(0) for _ in branches]
        for batch in micro_batches([branch.start + len(branch.tokens) for branch in branches], self._budget):
            parts = self._score_branches(model, trunk, [branches[index] for index in batch])
            for index, score_T in zip(batch, parts, strict=True):
                scores[index] = score_T
        return torch.cat(scores)

    def _branches(self, trajectory: Trajectory, hindsight: str, room: int) -> list[_Branch]:
        suffix = self._policy.transcript.generation_suffix
        block = np.array([*self._policy.transcript.hindsight(hindsight)[: max(room, 0)], *suffix], dtype=np.int64)
        return [
            _Branch(
                len(step.prompt_ids) - len(suffix), np.concatenate([block, step.response_ids]), len(step.response_ids)
            )
            for step in trajectory.steps
        ]

    def _trunk(self, model: PreTrainedModel, ids: NDArray[np.int64]) -> RowCache:
        """Keys and values of the transcript, one row."""
        cache = RowCache(self._heads, 1, len(ids), dtype=model.dtype, device=model.device)
        row = np.zeros(1, dtype=np.int64)
        batch = cached_batch(cache, self._heads, row, row, np.array([len(ids)]))
        nothing = torch.zeros(0, dtype=torch.long, device=model.device)
        packed_logits(model, batch, torch.from_numpy(ids).to(model.device), nothing)
        return cache

    def _score_branches(self, model: PreTrainedModel, trunk: RowCache, branches: Sequence[_Branch]) -> list[Tensor]:
        starts = np.array([branch.start for branch in branches])
        counts = np.array([len(branch.tokens) for branch in branches])
        rows = np.arange(len(branches))
        cache = trunk.taken([0] * len(branches), int(starts.max()), int((starts + counts).max()))
        batch = cached_batch(cache, self._heads, rows, starts, counts)
        ends = np.cumsum(counts)
        target = np.concatenate([np.arange(end - b.response, end) for end, b in zip(ends, branches, strict=True)])
        ids = torch.from_numpy(np.concatenate([branch.tokens for branch in branches])).to(model.device)
        target_K = torch.from_numpy(target).to(model.device)
        logits_KV = packed_logits(model, batch, ids, target_K - 1)
        score_K = token_logprobs(logits_KV, ids[target_K], self._temperature).cpu()
        return list(score_K.split([branch.response for branch in branches]))
