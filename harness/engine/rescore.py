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
from stepcredit.harness.engine.sequences import (
    Read,
    likeliest_at,
    logprobs_at,
    micro_batches,
    packed_read,
    response_read,
)
from stepcredit.harness.engine.stretches import TokenSequence, stretches_of
from stepcredit.harness.model.frozen import Frozen
from stepcredit.harness.model.policy import Policy
from stepcredit.methods.contract import Distributions, MethodError, ScoreRequest, Step, Trajectory, Weights

_SAID = {
    Weights.STALE: "how often they are refreshed",
    Weights.INITIAL: "that it wants them",
    Weights.EMA: "how fast they move",
    Weights.CHECKPOINT: "where they lie",
}


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


_Key = tuple[int, int, bool]
"""Whose score it is: the request's place, the step's, and whether hindsight stands before it."""


@dataclass(frozen=True, slots=True)
class _Hint:
    """A request's hindsight for the steps of a stretch.

    Attributes:
        place: the request's.
        first: the stretch's first step in the trajectory.
        block: the hindsight's tokens.
        starts: the response token of each step that they stand before; None before the words that open a response.
    """

    place: int
    first: int
    block: NDArray[np.int64]
    starts: Sequence[int | None] | None


@dataclass(frozen=True, slots=True)
class _Reading:
    """A stretch of steps that some weights read once: as it was, and from there on with hindsight in each context.

    Attributes:
        steps: the stretch.
        plain: keys of its first step, for those who want the scores as it was.
        hints: of those who want them with hindsight.
    """

    steps: Sequence[Step]
    plain: tuple[_Key, ...] = ()
    hints: tuple[_Hint, ...] = ()


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


_Scores = dict[_Key, tuple[Tensor, ...]]


class ModelRescorer:
    """Implements `stepcredit.methods.contract.Rescorer` with the live policy and weights that are kept beside it.

    Log-probabilities are taken at the temperature of the rollouts (at 1 where it is 0), for students and teachers
    alike, so that a gap without hindsight and staleness is zero. A hindsight block goes right before the generation
    suffix of every step's prompt, or before a token of its response. One that would push a step beyond the model's
    positions loses its end, by the same number of tokens in every step.

    Args:
        policy: the live policy.
        frozen: the other weights that the method needs.
        token_budget: padded tokens per forward pass.
        temperature: of the rollouts.
        drawn: which weights drew the trajectories that are to be scored.
        head_tokens: logits exist for so many tokens at a time; see `sequences.packed_logprobs`. None makes all at once.
    """

    def __init__(
        self,
        policy: Policy,
        frozen: Mapping[Weights, Frozen],
        token_budget: int,
        temperature: float = 1.0,
        *,
        drawn: Drawn = Drawn.ELSEWHERE,
        head_tokens: int | None = None,
    ) -> None:
        self._policy = policy
        self._frozen = frozen
        self._budget, self._temperature, self._drawn = token_budget, temperature, drawn
        self._head_tokens = head_tokens
        self._cut_tokens, self._read_tokens = 0, 0
        self._gap_signs, self._flipped = 0, 0

    @torch.no_grad()
    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        """One detached float32 tensor [T] per request, on the CPU, over all response tokens in order.

        Raises:
            MethodError: weights are asked for that are not there.
        """
        scores = self._scores(requests, logprobs_at(self._temperature), as_recorded=True)
        answers = [self._score(place, request, scores) for place, request in enumerate(requests)]
        if self._drawn is Drawn.ELSEWHERE:
            self._compare_signs(requests, answers)
        return answers

    @torch.no_grad()
    def distributions(self, requests: Sequence[ScoreRequest], top: int) -> list[Distributions]:
        """The `top` likeliest tokens per request at all response tokens, on the CPU, at the rollouts' temperature.

        Raises:
            MethodError: weights are asked for that are not there.
        """
        scores = self._scores(requests, likeliest_at(self._temperature, top), as_recorded=False)
        return [self._distributions(place, request, scores, top) for place, request in enumerate(requests)]

    def _scores(self, requests: Sequence[ScoreRequest], read: Read, *, as_recorded: bool) -> _Scores:
        """What is read for each step of each request, but for those that the recorded ones answer."""
        scores: _Scores = {}
        for weights in dict.fromkeys(request.weights for request in requests):
            own = [p for p, r in enumerate(requests) if r.weights is weights and not (as_recorded and self._stands(r))]
            readings = self._readings(own, requests)
            lengths = [len(self._sequence(reading).ids) for reading in readings]
            self._read_tokens += sum(lengths)
            with self._model(weights) as model:
                for batch in micro_batches(lengths, self._budget):
                    scores |= self._read(model, [readings[index] for index in batch], read)
        return scores

    def take_cut_tokens(self) -> int:
        """Hindsight tokens that were cut off since this was last asked, counted once per request."""
        count, self._cut_tokens = self._cut_tokens, 0
        return count

    def take_read_tokens(self) -> int:
        """Tokens that were read since this was last asked, a trunk once for all its branches."""
        count, self._read_tokens = self._read_tokens, 0
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

    def _stands(self, request: ScoreRequest) -> bool:
        """Whether what was recorded answers it."""
        return _is_student(request) and self._drawn is Drawn.BY_LIVE_WEIGHTS

    def _score(self, place: int, request: ScoreRequest, scores: _Scores) -> Tensor:
        """[T] a request's scores in one."""
        if not request.trajectory.response_tokens:
            return torch.zeros(0)
        if self._stands(request):
            return _recorded(request.trajectory)
        return torch.cat([logprob_T for (logprob_T,) in _by_step_of(place, request, scores)])

    def _distributions(self, place: int, request: ScoreRequest, scores: _Scores, top: int) -> Distributions:
        if not request.trajectory.response_tokens:
            return Distributions(torch.zeros((0, top), dtype=torch.int32), torch.zeros((0, top)))
        ids, logprobs = zip(*_by_step_of(place, request, scores), strict=True)
        return Distributions(torch.cat(ids), torch.cat(logprobs))

    def _readings(self, own: Sequence[int], requests: Sequence[ScoreRequest]) -> list[_Reading]:
        """What some weights have to read for their own requests; those for one trajectory share its reading."""
        alone: list[_Reading] = []
        shared: dict[tuple[int, int], _Reading] = {}
        for place in own:
            request = requests[place]
            owner, stretches, first = _first_about(request.trajectory, requests), stretches_of(request.trajectory), 0
            block = self._block(request, stretches)
            for steps in stretches:
                starts = None if request.starts is None else request.starts[first : first + len(steps)]
                reading = shared.get((owner, first), _Reading(steps))
                if block is None or (starts is not None and any(start != 0 for start in starts)):
                    shared[owner, first] = reading = replace(reading, plain=(*reading.plain, (place, first, False)))
                if block is not None and len(steps) > 1:
                    hint = _Hint(place, first, block, starts)
                    shared[owner, first] = replace(reading, hints=(*reading.hints, hint))
                elif block is not None and (starts is None or starts[0] is not None):
                    start = None if starts is None else starts[0]
                    alone.append(_Reading([self._with_block(steps[0], block, start)], ((place, first, True),)))
                first += len(steps)
        return [*alone, *shared.values()]

    def _model(self, weights: Weights) -> AbstractContextManager[PreTrainedModel]:
        if weights is Weights.LIVE:
            return nullcontext(self._policy.model)
        if weights not in self._frozen:
            raise MethodError(
                f"{weights} weights are asked for, but the method keeps none; its `needs` must say {_SAID[weights]}"
            )
        return self._frozen[weights].active()

    def _block(self, request: ScoreRequest, stretches: Sequence[Sequence[Step]]) -> NDArray[np.int64] | None:
        """The hindsight's tokens, without the end that would push a step beyond the model's positions; None for none.

        Where nothing is left of them, those who want them in mid-response get their scores without.
        """
        if request.hindsight is None:
            return None
        tokens = self._policy.transcript.hindsight(request.hindsight)
        longest = max((len(steps[-1].prompt_ids) + len(steps[-1].response_ids) for steps in stretches), default=0)
        with self._model(request.weights) as model:
            room = max(model.config.max_position_embeddings - longest, 0)
        self._cut_tokens += max(len(tokens) - room, 0)
        if request.starts is not None and not tokens[:room]:
            return None
        return np.array(tokens[:room], dtype=np.int64)

    def _with_block(self, step: Step, block: NDArray[np.int64], start: int | None) -> Step:
        place = self._place(step, start)
        text = np.concatenate([step.prompt_ids, step.response_ids])
        changed = np.concatenate([text[:place], block, text[place:]])
        end = len(changed) - len(step.response_ids) + (start or 0)
        return replace(step, prompt_ids=changed[:end], response_ids=changed[end:])

    def _place(self, step: Step, start: int | None) -> int:
        """Where the block stands in the step's prompt and response."""
        if start is None:
            return len(step.prompt_ids) - len(self._policy.transcript.generation_suffix)
        return len(step.prompt_ids) + start

    def _sequence(self, reading: _Reading) -> TokenSequence:
        """The whole stretch; or, where only branches are asked for, no more than they start from, and no response."""
        if reading.plain:
            return TokenSequence.of(reading.steps)
        last = reading.steps[-1]
        end = max(self._place(last, None if hint.starts is None else 0) for hint in reading.hints)
        return TokenSequence(last.prompt_ids[:end], np.empty(0, dtype=np.int64))

    def _read(self, model: PreTrainedModel, readings: Sequence[_Reading], read: Read) -> _Scores:
        """Every stretch in one pass, then their branches."""
        sequences = [self._sequence(reading) for reading in readings]
        branches = [branch for row, reading in enumerate(readings) for branch in self._branches(row, reading)]
        cache = None
        self._read_tokens += sum(len(branch.tokens) for branch in branches)
        if branches:
            longest = max(len(sequence.ids) for sequence in sequences)
            cache = RowCache(Heads.of(model), len(readings), longest, dtype=model.dtype, device=model.device)
        found = response_read(model, sequences, read, self._head_tokens, cache)
        scores = _by_step(readings, [part.cpu() for part in found])
        for batch in micro_batches([branch.start + len(branch.tokens) for branch in branches], self._budget):
            assert cache is not None
            scores |= self._score_branches(model, cache, [branches[index] for index in batch], read)
        return scores

    def _branches(self, row: int, reading: _Reading) -> Iterator[_Branch]:
        for hint in reading.hints:
            starts = hint.starts or [None] * len(reading.steps)
            for k, (step, start) in enumerate(zip(reading.steps, starts, strict=True)):
                response = len(step.response_ids) - (start or 0)
                if response and (hint.starts is None or start is not None):
                    place = self._place(step, start)
                    text = np.concatenate([step.prompt_ids, step.response_ids])[place:]
                    tokens = np.concatenate([hint.block, text])
                    yield _Branch((hint.place, hint.first + k, True), row, place, tokens, response)

    def _score_branches(
        self, model: PreTrainedModel, trunks: RowCache, branches: Sequence[_Branch], read: Read
    ) -> _Scores:
        starts = np.array([branch.start for branch in branches])
        counts = np.array([len(branch.tokens) for branch in branches])
        responses = np.array([branch.response for branch in branches])
        ends, rows, heads = np.cumsum(counts), np.arange(len(branches)), Heads.of(model)
        cache = trunks.taken([branch.row for branch in branches], int(starts.max()), int((starts + counts).max()))
        target = np.concatenate([np.arange(end - count, end) for end, count in zip(ends, responses, strict=True)])
        ids = torch.from_numpy(np.concatenate([branch.tokens for branch in branches])).to(model.device)
        target_K = torch.from_numpy(target).to(model.device)
        # From the position that predicts a response's first token to the one that predicts its last.
        tiles = cached_tiles(cache, heads, rows, starts + counts - responses - 1, responses)
        batch = cached_batch(cache, heads, rows, starts, counts)
        readers = Readers(target_K - 1, tiles)
        found = packed_read(model, batch, ids, readers, ids[target_K], read, self._head_tokens)
        parts = [part.cpu().split(responses.tolist()) for part in found]
        return {branch.key: own for branch, own in zip(branches, zip(*parts, strict=True), strict=True)}


def _by_step(readings: Sequence[_Reading], found: Sequence[Tensor]) -> _Scores:
    """The scores of the stretches as they were, for all who want them."""
    wanted = [(reading.plain, k, step) for reading in readings if reading.plain for k, step in enumerate(reading.steps)]
    parts = [part.split([len(step.response_ids) for _, _, step in wanted]) for part in found]
    return {
        (place, first + k, hinted): own
        for (keys, k, _), own in zip(wanted, zip(*parts, strict=True), strict=True)
        for place, first, hinted in keys
    }


def _by_step_of(place: int, request: ScoreRequest, scores: _Scores) -> Iterator[tuple[Tensor, ...]]:
    """A request's scores by step: with hindsight from where it stands on, as they were before it."""
    for k, step in enumerate(request.trajectory.steps):
        if not len(step.response_ids):
            continue
        plain, hinted = scores.get((place, k, False)), scores.get((place, k, True))
        if plain is None or hinted is None:
            yield plain or hinted or ()
        else:
            before = len(step.response_ids) - len(hinted[0])
            yield tuple(torch.cat([own[:before], after]) for own, after in zip(plain, hinted, strict=True))


def _is_student(request: ScoreRequest) -> bool:
    """Whether it asks for the live policy's scores as it was."""
    return request.hindsight is None and request.weights is Weights.LIVE


def _recorded(trajectory: Trajectory) -> Tensor:
    """[T] what the engine said."""
    return torch.cat([torch.from_numpy(step.logprobs) for step in trajectory.steps])


def _first_about(trajectory: Trajectory, requests: Sequence[ScoreRequest]) -> int:
    """The place of the first request about the trajectory, which stands for all of them."""
    return next(place for place, request in enumerate(requests) if request.trajectory is trajectory)
