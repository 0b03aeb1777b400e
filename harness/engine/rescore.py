"""Scores a trajectory's tokens under other weights, or with hindsight in every step's context.

A running transcript is read once, whatever is asked about it. Each step of a hindsight request then branches off that
trunk: it reuses the keys and values before the step's own turn, and adds the hindsight block, the generation suffix and
its response. The cost is linear in transcript plus branches, where separate forward passes would read each prefix
again. Windowed prompts share no prefix and are read one by one. The last layer is computed only where it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stepcredit.harness.engine.attention import Readers, cached_batch, cached_blocks, packed_logits
from stepcredit.harness.engine.cache import Heads, RowCache
from stepcredit.harness.engine.sequences import TokenSequence, micro_batches, response_logits, runs_of, token_logprobs
from stepcredit.harness.model.policy import Policy
from stepcredit.methods.contract import MethodError, ScoreRequest, Step, Weights


class Drawn(Enum):
    """Which weights drew the trajectories that are scored.

    By the live ones, with an engine that computes what a forward pass computes: then their log-probabilities as they
    were recorded are the live policy's in those contexts, but for rounding, and no pass is made to find them again.
    """

    BY_LIVE_WEIGHTS = auto()
    ELSEWHERE = auto()


@dataclass(frozen=True, slots=True)
class _Answer:
    """Where the scores of a run's steps belong: in a request's list, one entry a step, from `first` on."""

    scores: list[Tensor]
    first: int


@dataclass(frozen=True, slots=True)
class _Reading:
    """A run of steps that some weights read once: as it was, and from there on with hindsight in each step's context.

    Attributes:
        steps: the run.
        plain: who wants the scores as it was.
        hinted: who wants them with which block's tokens.
    """

    steps: Sequence[Step]
    plain: list[_Answer] = field(default_factory=list)
    hinted: list[tuple[_Answer, NDArray[np.int64]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Branch:
    """A step in its changed context: what follows the first `start` tokens of the transcript in a row.

    The last `response` of the tokens are the response itself, whose final token predicts nothing.
    """

    row: int
    start: int
    tokens: NDArray[np.int64]
    response: int
    scores: list[Tensor]
    place: int


class ModelRescorer:
    """Implements `stepcredit.methods.contract.Rescorer` with the live policy and an optional stale copy of it.

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
        drawn: which weights drew the trajectories that are to be scored.
    """

    def __init__(
        self,
        policy: Policy,
        stale: PreTrainedModel | None,
        token_budget: int,
        temperature: float = 1.0,
        checkpoint: PreTrainedModel | None = None,
        *,
        drawn: Drawn = Drawn.ELSEWHERE,
    ) -> None:
        self._policy = policy
        self._models = {Weights.LIVE: policy.model, Weights.STALE: stale, Weights.CHECKPOINT: checkpoint}
        self._budget, self._temperature, self._drawn = token_budget, temperature, drawn
        self.cut_tokens = 0

    @torch.no_grad()
    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        """One detached float32 tensor [T] a request, on the CPU, over all response tokens in order.

        Raises:
            MethodError: stale weights or a checkpoint's are asked for and there are none.
        """
        answers = [self._recorded(request) for request in requests]
        for weights, readings in self._readings(requests, answers).items():
            lengths = [len(self._sequence(reading).ids) for reading in readings]
            for batch in micro_batches(lengths, self._budget):
                self._read(self._model(weights), [readings[index] for index in batch])
        return [torch.cat(own) if own else torch.zeros(0) for own in answers]

    def _is_recorded(self, request: ScoreRequest) -> bool:
        as_it_was = request.hindsight is None and request.weights is Weights.LIVE
        return as_it_was and self._drawn is Drawn.BY_LIVE_WEIGHTS

    def _recorded(self, request: ScoreRequest) -> list[Tensor]:
        """One tensor a step, empty where it is still to be computed."""
        known = self._is_recorded(request)
        return [torch.from_numpy(step.logprobs) if known else torch.zeros(0) for step in request.trajectory.steps]

    def _readings(
        self, requests: Sequence[ScoreRequest], answers: Sequence[list[Tensor]]
    ) -> dict[Weights, list[_Reading]]:
        """What each set of weights has to read; the requests for one trajectory share its reading."""
        found: dict[tuple[Weights, int, int], _Reading] = {}
        alone: dict[Weights, list[_Reading]] = {request.weights: [] for request in requests}
        for request, scores in zip(requests, answers, strict=True):
            if self._is_recorded(request):
                continue
            runs, first = runs_of(request.trajectory), 0
            block = None if request.hindsight is None else self._block(request, runs)
            for steps in runs:
                answer = _Answer(scores, first)
                shared = found.setdefault((request.weights, id(request.trajectory), first), _Reading(steps))
                first += len(steps)
                if block is None:
                    shared.plain.append(answer)
                elif len(steps) > 1:
                    shared.hinted.append((answer, block))
                else:
                    alone[request.weights].append(_Reading([self._with_block(steps[0], block)], [answer]))
        for (weights, _, _), reading in found.items():
            if reading.plain or reading.hinted:
                alone[weights].append(reading)
        return alone

    def _model(self, weights: Weights) -> PreTrainedModel:
        model = self._models[weights]
        if model is None:
            raise MethodError(
                f"{weights} weights are asked for, but the method keeps none; its `needs` must say "
                f"{'how often they are refreshed' if weights is Weights.STALE else 'where they lie'}"
            )
        return model

    def _block(self, request: ScoreRequest, runs: Sequence[Sequence[Step]]) -> NDArray[np.int64]:
        """The hindsight's tokens, without the end that would push a step beyond the model's positions."""
        model, tokens = self._model(request.weights), self._policy.transcript.hindsight(request.hindsight or "")
        longest = max((len(steps[-1].prompt_ids) + len(steps[-1].response_ids) for steps in runs), default=0)
        room = max(model.config.max_position_embeddings - longest, 0)
        self.cut_tokens += max(len(tokens) - room, 0)
        return np.array(tokens[:room], dtype=np.int64)

    def _with_block(self, step: Step, block: NDArray[np.int64]) -> Step:
        suffix = len(self._policy.transcript.generation_suffix)
        return replace(step, prompt_ids=np.concatenate([step.prompt_ids[:-suffix], block, step.prompt_ids[-suffix:]]))

    def _sequence(self, reading: _Reading) -> TokenSequence:
        """The whole run; or, where only branches are asked for, no more than they start from, and no response."""
        if reading.plain:
            return TokenSequence.of(reading.steps)
        trunk = reading.steps[-1].prompt_ids[: -len(self._policy.transcript.generation_suffix)]
        return TokenSequence(trunk, np.empty(0, dtype=np.int64))

    def _read(self, model: PreTrainedModel, readings: Sequence[_Reading]) -> None:
        """Every run in one pass, then their branches."""
        sequences = [self._sequence(reading) for reading in readings]
        branches = [branch for row, reading in enumerate(readings) for branch in self._branches(row, reading)]
        cache = None
        if branches:
            longest = max(len(sequence.ids) for sequence in sequences)
            cache = RowCache(Heads.of(model), len(readings), longest, dtype=model.dtype, device=model.device)
        logits_KV, token_K = response_logits(model, sequences, cache)
        _answer(readings, token_logprobs(logits_KV, token_K, self._temperature).cpu())
        for batch in micro_batches([branch.start + len(branch.tokens) for branch in branches], self._budget):
            assert cache is not None
            self._score_branches(model, cache, [branches[index] for index in batch])

    def _branches(self, row: int, reading: _Reading) -> Iterator[_Branch]:
        suffix = self._policy.transcript.generation_suffix
        for answer, block in reading.hinted:
            opening = np.array([*block, *suffix], dtype=np.int64)
            for k, step in enumerate(reading.steps):
                if response := len(step.response_ids):
                    start, tokens = len(step.prompt_ids) - len(suffix), np.concatenate([opening, step.response_ids])
                    yield _Branch(row, start, tokens, response, answer.scores, answer.first + k)

    def _score_branches(self, model: PreTrainedModel, trunks: RowCache, branches: Sequence[_Branch]) -> None:
        starts = np.array([branch.start for branch in branches])
        counts = np.array([len(branch.tokens) for branch in branches])
        responses = np.array([branch.response for branch in branches])
        ends, rows, heads = np.cumsum(counts), np.arange(len(branches)), Heads.of(model)
        cache = trunks.taken([branch.row for branch in branches], int(starts.max()), int((starts + counts).max()))
        target = np.concatenate([np.arange(end - count, end) for end, count in zip(ends, responses, strict=True)])
        ids = torch.from_numpy(np.concatenate([branch.tokens for branch in branches])).to(model.device)
        target_K = torch.from_numpy(target).to(model.device)
        read = cached_blocks(cache, heads, rows, starts + counts - responses - 1, responses)
        batch = cached_batch(cache, heads, rows, starts, counts)
        logits_KV = packed_logits(model, batch, ids, Readers(target_K - 1, read))
        score_K = token_logprobs(logits_KV, ids[target_K], self._temperature).cpu()
        for branch, score_T in zip(branches, score_K.split(responses.tolist()), strict=True):
            branch.scores[branch.place] = score_T


def _answer(readings: Sequence[_Reading], score_K: Tensor) -> None:
    """Hand out the scores of the runs as they were."""
    wanted = [(reading.plain, k, step) for reading in readings if reading.plain for k, step in enumerate(reading.steps)]
    scores = score_K.split([len(step.response_ids) for _, _, step in wanted])
    for (plain, k, _), score_T in zip(wanted, scores, strict=True):
        for answer in plain:
            answer.scores[answer.first + k] = score_T
