"""Scores a trajectory's tokens under other weights, or with hindsight in every step's context.

A running transcript is read once, whatever is asked about it. Each step of a hindsight request then branches off that
trunk: it reuses the keys and values before the step's own turn, and adds the hindsight block, the generation suffix and
its response. The cost is linear in transcript plus branches, where separate forward passes would read each prefix
again. Windowed prompts share no prefix and are read one by one. The last layer is computed only where it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from enum import Enum, auto

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stepcredit.harness.engine.attention import Readers, cached_batch, cached_tiles
from stepcredit.harness.engine.cache import Heads, RowCache
from stepcredit.harness.engine.contract import Engine
from stepcredit.harness.engine.sequences import micro_batches, packed_logprobs, response_logprobs
from stepcredit.harness.engine.stretches import TokenSequence, stretches_of
from stepcredit.harness.model.frozen import Frozen
from stepcredit.harness.model.policy import Policy
from stepcredit.methods.contract import MethodError, ScoreRequest, Step, Trajectory, Weights


class Drawn(Enum):
    """Which weights drew the trajectories that are scored.

    By the live ones, with an engine that is exact: then their log-probabilities as they were recorded are the live
    policy's in those contexts, but for rounding, and no pass is made to find them again.
    """

    BY_LIVE_WEIGHTS = auto()
    ELSEWHERE = auto()

    @classmethod
    def now_by(cls, engine: Engine) -> Drawn:
        """Of trajectories that the engine has drawn since the weights last changed."""
        return cls.BY_LIVE_WEIGHTS if engine.exact else cls.ELSEWHERE


_Key = tuple[int, int]
"""Whose score it is: the request's place and the step's."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """A stretch of steps that some weights read once: as it was, and from there on with hindsight in each context.

    Attributes:
        steps: the stretch.
        plain: keys of its first step, for those who want the scores as it was.
        hinted: the same for those who want them with hindsight, and the block's tokens.
    """

    steps: Sequence[Step]
    plain: tuple[_Key, ...] = ()
    hinted: tuple[tuple[_Key, NDArray[np.int64]], ...] = ()


@dataclass(frozen=True, slots=True)
class _Branch:
    """A step in its changed context: what follows the first `start` tokens of the transcript in a row.

    The last `response` of the tokens are the response itself, whose final token predicts nothing.
    """

    key: _Key
    row: int
    start: int
    tokens: NDArray[np.int64]
    response: int


class ModelRescorer:
    """Implements `stepcredit.methods.contract.Rescorer` with the live policy and an optional stale copy of it.

    Log-probabilities are taken at the temperature of the rollouts (at 1 where it is 0), for students and teachers
    alike, so that a gap without hindsight and staleness is zero. A hindsight block goes right before the generation
    suffix of every step's prompt. One that would push a step beyond the model's positions loses its end, by the same
    number of tokens in every step.

    Args:
        policy: the live policy.
        stale: the lagging teacher; None for methods without one. It is one more copy of the weights in memory.
        token_budget: padded tokens per forward pass.
        temperature: of the rollouts.
        checkpoint: the other policy that teaches; None for methods without one.
        drawn: which weights drew the trajectories that are to be scored.
        head_tokens: logits exist for so many tokens at a time; see `sequences.packed_logprobs`. None makes all at once.
    """

    def __init__(
        self,
        policy: Policy,
        stale: Frozen | None,
        token_budget: int,
        temperature: float = 1.0,
        checkpoint: Frozen | None = None,
        *,
        drawn: Drawn = Drawn.ELSEWHERE,
        head_tokens: int | None = None,
    ) -> None:
        self._policy = policy
        self._frozen = {Weights.STALE: stale, Weights.CHECKPOINT: checkpoint}
        self._budget, self._temperature, self._drawn = token_budget, temperature, drawn
        self._head_tokens = head_tokens
        self._cut_tokens = 0
        self._gap_signs, self._flipped = 0, 0

    @torch.no_grad()
    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        """One detached float32 tensor [T] per request, on the CPU, over all response tokens in order.

        Raises:
            MethodError: stale weights or a checkpoint's are asked for and there are none.
        """
        scores: dict[_Key, Tensor] = {}
        for weights in dict.fromkeys(request.weights for request in requests):
            readings = self._readings(weights, requests)
            lengths = [len(self._sequence(reading).ids) for reading in readings]
            with self._model(weights) as model:
                for batch in micro_batches(lengths, self._budget):
                    scores |= self._read(model, [readings[index] for index in batch])
        answers = [self._answer(place, request, scores) for place, request in enumerate(requests)]
        if self._drawn is Drawn.ELSEWHERE:
            self._compare_signs(requests, answers)
        return answers

    def take_cut_tokens(self) -> int:
        """Hindsight tokens that were cut off since this was last asked, counted once per request."""
        count, self._cut_tokens = self._cut_tokens, 0
        return count

    def take_signs_at_risk(self) -> float | None:
        """Share of the gaps between teacher and student, since this was last asked, whose sign would be another one if
        the engine's log-probabilities stood for the student's; None if no gap was seen or they do stand for them."""
        share = self._flipped / self._gap_signs if self._gap_signs else None
        self._gap_signs, self._flipped = 0, 0
        return share

    def _compare_signs(self, requests: Sequence[ScoreRequest], answers: Sequence[Tensor]) -> None:
        scored = list(zip(requests, answers, strict=True))
        students = {id(request.trajectory): score_T for request, score_T in scored if _is_student(request)}
        for request, teacher_T in scored:
            student_T = students.get(id(request.trajectory))
            if student_T is not None and len(student_T) and not _is_student(request):
                flipped_T = (teacher_T - student_T).sign() != (teacher_T - _recorded(request.trajectory)).sign()
                self._gap_signs += len(flipped_T)
                self._flipped += int(flipped_T.sum())

    def _is_recorded(self, request: ScoreRequest) -> bool:
        return _is_student(request) and self._drawn is Drawn.BY_LIVE_WEIGHTS

    def _answer(self, place: int, request: ScoreRequest, scores: Mapping[_Key, Tensor]) -> Tensor:
        """[T] a request's scores in one."""
        steps = [(k, step) for k, step in enumerate(request.trajectory.steps) if len(step.response_ids)]
        if not steps:
            return torch.zeros(0)
        if self._is_recorded(request):
            return _recorded(request.trajectory)
        return torch.cat([scores[place, k] for k, _ in steps])

    def _readings(self, weights: Weights, requests: Sequence[ScoreRequest]) -> list[_Reading]:
        """What those weights have to read; the requests for one trajectory share its reading."""
        alone: list[_Reading] = []
        shared: dict[_Key, _Reading] = {}
        for place, request in enumerate(requests):
            if request.weights is not weights or self._is_recorded(request):
                continue
            owner, stretches, first = _first_about(request.trajectory, requests), stretches_of(request.trajectory), 0
            block = None if request.hindsight is None else self._block(request, stretches)
            for steps in stretches:
                reading, key = shared.get((owner, first), _Reading(steps)), (place, first)
                if block is None:
                    shared[owner, first] = replace(reading, plain=(*reading.plain, key))
                elif len(steps) > 1:
                    shared[owner, first] = replace(reading, hinted=(*reading.hinted, (key, block)))
                else:
                    alone.append(_Reading([self._with_block(steps[0], block)], (key,)))
                first += len(steps)
        return [*alone, *shared.values()]

    def _model(self, weights: Weights) -> AbstractContextManager[PreTrainedModel]:
        if weights is Weights.LIVE:
            return nullcontext(self._policy.model)
        frozen = self._frozen[weights]
        if frozen is None:
            raise MethodError(
                f"{weights} weights are asked for, but the method keeps none; its `needs` must say "
                f"{'how often they are refreshed' if weights is Weights.STALE else 'where they lie'}"
            )
        return frozen.active()

    def _block(self, request: ScoreRequest, stretches: Sequence[Sequence[Step]]) -> NDArray[np.int64]:
        """The hindsight's tokens, without the end that would push a step beyond the model's positions."""
        tokens = self._policy.transcript.hindsight(request.hindsight or "")
        longest = max((len(steps[-1].prompt_ids) + len(steps[-1].response_ids) for steps in stretches), default=0)
        with self._model(request.weights) as model:
            room = max(model.config.max_position_embeddings - longest, 0)
        self._cut_tokens += max(len(tokens) - room, 0)
        return np.array(tokens[:room], dtype=np.int64)

    def _with_block(self, step: Step, block: NDArray[np.int64]) -> Step:
        suffix = len(self._policy.transcript.generation_suffix)
        return replace(step, prompt_ids=np.concatenate([step.prompt_ids[:-suffix], block, step.prompt_ids[-suffix:]]))

    def _sequence(self, reading: _Reading) -> TokenSequence:
        """The whole stretch; or, where only branches are asked for, no more than they start from, and no response."""
        if reading.plain:
            return TokenSequence.of(reading.steps)
        trunk = reading.steps[-1].prompt_ids[: -len(self._policy.transcript.generation_suffix)]
        return TokenSequence(trunk, np.empty(0, dtype=np.int64))

    def _read(self, model: PreTrainedModel, readings: Sequence[_Reading]) -> dict[_Key, Tensor]:
        """Every stretch in one pass, then their branches."""
        sequences = [self._sequence(reading) for reading in readings]
        branches = [branch for row, reading in enumerate(readings) for branch in self._branches(row, reading)]
        cache = None
        if branches:
            longest = max(len(sequence.ids) for sequence in sequences)
            cache = RowCache(Heads.of(model), len(readings), longest, dtype=model.dtype, device=model.device)
        score_K = response_logprobs(model, sequences, self._temperature, head_tokens=self._head_tokens, cache=cache)
        scores = _by_step(readings, score_K.cpu())
        for batch in micro_batches([branch.start + len(branch.tokens) for branch in branches], self._budget):
            assert cache is not None
            scores |= self._score_branches(model, cache, [branches[index] for index in batch])
        return scores

    def _branches(self, row: int, reading: _Reading) -> Iterator[_Branch]:
        suffix = self._policy.transcript.generation_suffix
        for (place, first), block in reading.hinted:
            opening = np.array([*block, *suffix], dtype=np.int64)
            for k, step in enumerate(reading.steps, start=first):
                if response := len(step.response_ids):
                    start, tokens = len(step.prompt_ids) - len(suffix), np.concatenate([opening, step.response_ids])
                    yield _Branch((place, k), row, start, tokens, response)

    def _score_branches(
        self, model: PreTrainedModel, trunks: RowCache, branches: Sequence[_Branch]
    ) -> dict[_Key, Tensor]:
        starts = np.array([branch.start for branch in branches])
        counts = np.array([len(branch.tokens) for branch in branches])
        responses = np.array([branch.response for branch in branches])
        ends, rows, heads = np.cumsum(counts), np.arange(len(branches)), Heads.of(model)
        cache = trunks.taken([branch.row for branch in branches], int(starts.max()), int((starts + counts).max()))
        target = np.concatenate([np.arange(end - count, end) for end, count in zip(ends, responses, strict=True)])
        ids = torch.from_numpy(np.concatenate([branch.tokens for branch in branches])).to(model.device)
        target_K = torch.from_numpy(target).to(model.device)
        # From the position that predicts a response's first token to the one that predicts its last.
        read = cached_tiles(cache, heads, rows, starts + counts - responses - 1, responses)
        batch = cached_batch(cache, heads, rows, starts, counts)
        readers = Readers(target_K - 1, read)
        score_K = packed_logprobs(model, batch, ids, readers, ids[target_K], self._temperature, self._head_tokens).cpu()
        return {
            branch.key: score_T for branch, score_T in zip(branches, score_K.split(responses.tolist()), strict=True)
        }


def _by_step(readings: Sequence[_Reading], score_K: Tensor) -> dict[_Key, Tensor]:
    """The scores of the stretches as they were, for all who want them."""
    wanted = [(reading.plain, k, step) for reading in readings if reading.plain for k, step in enumerate(reading.steps)]
    scores = score_K.split([len(step.response_ids) for _, _, step in wanted])
    return {
        (place, first + k): score_T
        for (keys, k, _), score_T in zip(wanted, scores, strict=True)
        for place, first in keys
    }


def _is_student(request: ScoreRequest) -> bool:
    """Whether it asks for the live policy's scores as it was."""
    return request.hindsight is None and request.weights is Weights.LIVE


def _recorded(trajectory: Trajectory) -> Tensor:
    """[T] what the engine said."""
    return torch.cat([torch.from_numpy(step.logprobs) for step in trajectory.steps])


def _first_about(trajectory: Trajectory, requests: Sequence[ScoreRequest]) -> int:
    """The place of the first request about the trajectory, which stands for all of them."""
    return next(place for place, request in enumerate(requests) if request.trajectory is trajectory)
