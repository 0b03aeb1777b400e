"""Scores a trajectory's tokens under other weights, or with hindsight in every step's context.

A running transcript is read once. Each step of a hindsight request then branches off that trunk: it reuses the
keys and values before the step's own turn, and adds the hindsight block, the generation suffix and its response.
The cost is linear in transcript plus branches, where separate forward passes would read each prefix again. Windowed
prompts share no prefix and are read one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from harness.attention import cached_batch, packed_logits
from harness.cache import Heads, RowCache
from harness.policy import Policy
from harness.sequences import TokenSequence, micro_batches, response_logits, runs_of, token_logprobs
from methods.contract import MethodError, ScoreRequest, Step, Weights


@dataclass(frozen=True, slots=True)
class _Branch:
    """A step in its changed context: what follows the first `start` tokens of the transcript.

    The last `response` of the tokens are the response itself, whose final token predicts nothing.
    """

    start: int
    tokens: NDArray[np.int64]
    response: int


@dataclass(frozen=True, slots=True)
class _Row:
    """A sequence to be read in one pass, and where its scores belong."""

    scores: list[Tensor]
    place: int
    sequence: TokenSequence


class ModelRescorer:
    """Implements `methods.contract.Rescorer` with the live policy and an optional stale copy of it.

    Log-probabilities are taken at the temperature of the rollouts (at 1 where it is 0), for students and teachers
    alike, so that a gap without hindsight and staleness is zero. A hindsight block goes right before the generation
    suffix of every step's prompt. One that would push a step beyond the model's positions loses its end, by the same
    number of tokens in every step.

    Attributes:
        cut_tokens: hindsight tokens that were cut off so far, counted once a request.

    Args:
        policy: the live policy.
        stale: the lagging teacher; None for methods without one. It is one more copy of the weights in memory.
        token_budget: padded tokens a forward pass.
        temperature: of the rollouts.
        checkpoint: the other policy that teaches; None for methods without one.
    """

    def __init__(
        self,
        policy: Policy,
        stale: PreTrainedModel | None,
        token_budget: int,
        temperature: float = 1.0,
        checkpoint: PreTrainedModel | None = None,
    ) -> None:
        self._policy = policy
        self._models = {Weights.LIVE: policy.model, Weights.STALE: stale, Weights.CHECKPOINT: checkpoint}
        self._budget, self._temperature = token_budget, temperature
        self.cut_tokens = 0

    @torch.no_grad()
    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        """One detached float32 tensor [T] a request, on the CPU, over all response tokens in order.

        Raises:
            MethodError: stale weights or a checkpoint's are asked for and there are none.
        """
        rows: dict[Weights, list[_Row]] = {weights: [] for weights in Weights}
        parts: list[list[Tensor]] = []
        for request in requests:
            model, runs = self._model(request.weights), runs_of(request.trajectory)
            block = None if request.hindsight is None else self._block(model, request.hindsight, runs)
            own = [torch.zeros(0) for _ in runs]
            parts.append(own)
            for place, steps in enumerate(runs):
                if block is None or len(runs) > 1 == len(steps):
                    rows[request.weights].append(_Row(own, place, self._sequence(steps, block)))
                else:
                    own[place] = self._score_branches(model, steps, block)
        for weights, of_weights in rows.items():
            if of_weights:
                self._score_rows(self._model(weights), of_weights)
        return [torch.cat(own) if own else torch.zeros(0) for own in parts]

    def _model(self, weights: Weights) -> PreTrainedModel:
        model = self._models[weights]
        if model is None:
            raise MethodError(
                f"{weights} weights are asked for, but the method keeps none; its `needs` must say "
                f"{'how often they are refreshed' if weights is Weights.STALE else 'where they lie'}"
            )
        return model

    def _block(self, model: PreTrainedModel, hindsight: str, runs: Sequence[Sequence[Step]]) -> NDArray[np.int64]:
        """The hindsight's tokens, without the end that would push a step beyond the model's positions."""
        tokens = self._policy.transcript.hindsight(hindsight)
        longest = max((len(steps[-1].prompt_ids) + len(steps[-1].response_ids) for steps in runs), default=0)
        room = max(model.config.max_position_embeddings - longest, 0)
        self.cut_tokens += max(len(tokens) - room, 0)
        return np.array(tokens[:room], dtype=np.int64)

    def _sequence(self, steps: Sequence[Step], block: NDArray[np.int64] | None) -> TokenSequence:
        """The run as it was, or a single step with the block before its generation suffix."""
        if block is None:
            return TokenSequence.of(steps)
        (step,), suffix = steps, len(self._policy.transcript.generation_suffix)
        prompt = np.concatenate([step.prompt_ids[:-suffix], block, step.prompt_ids[-suffix:]])
        return TokenSequence.of([replace(step, prompt_ids=prompt)])

    def _score_rows(self, model: PreTrainedModel, rows: Sequence[_Row]) -> None:
        """Ordinary passes over whole sequences, many at a time."""
        for batch in micro_batches([len(row.sequence.ids) for row in rows], self._budget):
            chosen = [rows[index] for index in batch]
            logits_KV, token_K = response_logits(model, [row.sequence for row in chosen])
            score_K = token_logprobs(logits_KV, token_K, self._temperature).cpu()
            scores = score_K.split([len(row.sequence.response_T) for row in chosen])
            for row, score_T in zip(chosen, scores, strict=True):
                row.scores[row.place] = score_T

    def _score_branches(self, model: PreTrainedModel, steps: Sequence[Step], block: NDArray[np.int64]) -> Tensor:
        """Every step of a run with the block before its generation suffix."""
        branches = self._branches(steps, block)
        trunk = self._trunk(model, TokenSequence.of(steps).ids[: branches[-1].start])
        scores = [torch.zeros(0) for _ in branches]
        for batch in micro_batches([branch.start + len(branch.tokens) for branch in branches], self._budget):
            parts = self._score_branch_batch(model, trunk, [branches[index] for index in batch])
            for index, score_T in zip(batch, parts, strict=True):
                scores[index] = score_T
        return torch.cat(scores)

    def _branches(self, steps: Sequence[Step], block: NDArray[np.int64]) -> list[_Branch]:
        suffix = self._policy.transcript.generation_suffix
        opening = np.array([*block, *suffix], dtype=np.int64)
        return [
            _Branch(
                len(step.prompt_ids) - len(suffix), np.concatenate([opening, step.response_ids]), len(step.response_ids)
            )
            for step in steps
        ]

    def _trunk(self, model: PreTrainedModel, ids: NDArray[np.int64]) -> RowCache:
        """Keys and values of the transcript, one row."""
        heads = Heads.of(model)
        cache = RowCache(heads, 1, len(ids), dtype=model.dtype, device=model.device)
        row = np.zeros(1, dtype=np.int64)
        batch = cached_batch(cache, heads, row, row, np.array([len(ids)]))
        nothing = torch.zeros(0, dtype=torch.long, device=model.device)
        packed_logits(model, batch, torch.from_numpy(ids).to(model.device), nothing)
        return cache

    def _score_branch_batch(self, model: PreTrainedModel, trunk: RowCache, branches: Sequence[_Branch]) -> list[Tensor]:
        starts = np.array([branch.start for branch in branches])
        counts = np.array([len(branch.tokens) for branch in branches])
        rows = np.arange(len(branches))
        cache = trunk.taken([0] * len(branches), int(starts.max()), int((starts + counts).max()))
        batch = cached_batch(cache, Heads.of(model), rows, starts, counts)
        ends = np.cumsum(counts)
        target = np.concatenate([np.arange(end - b.response, end) for end, b in zip(ends, branches, strict=True)])
        ids = torch.from_numpy(np.concatenate([branch.tokens for branch in branches])).to(model.device)
        target_K = torch.from_numpy(target).to(model.device)
        logits_KV = packed_logits(model, batch, ids, target_K - 1)
        score_K = token_logprobs(logits_KV, ids[target_K], self._temperature).cpu()
        return list(score_K.split([branch.response for branch in branches]))
