"""Rescorers that answer by rule, where a run has models."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stepcredit.methods.contract import Distributions, Rescorer, ScoreRequest, Trajectory, Weights


class HashRescorer:
    """Log-probabilities that depend on what a policy would see: weights, hint, the step's prompt, the tokens so far.

    Attributes:
        calls: the requests of each call so far.
        spread: whether distributions were among what was asked for.

    Args:
        scale: the log-probabilities lie between -scale and 0.
    """

    def __init__(self, scale: float = 3.0) -> None:
        self.scale = scale
        self.calls: list[list[ScoreRequest]] = []
        self.spread = False

    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        self.calls.append(list(requests))
        return [torch.tensor([self._logprob(*seen) for seen in _contexts(request)]) for request in requests]

    def distributions(self, requests: Sequence[ScoreRequest], top: int) -> list[Distributions]:
        """Over token ids from 0 on: a random order of sizes for each context."""
        self.calls.append(list(requests))
        self.spread = True
        return [self._spread(request, top) for request in requests]

    @property
    def requests(self) -> list[ScoreRequest]:
        """The requests of all calls."""
        return [request for call in self.calls for request in call]

    def _spread(self, request: ScoreRequest, top: int) -> Distributions:
        score_Tk = torch.tensor([[self._logprob(*seen, entry) for entry in range(top)] for seen in _contexts(request)])
        score_Tk = score_Tk.reshape(-1, top)
        ids_Tk = score_Tk.argsort(-1, descending=True)
        logprob_Tk = torch.cat([score_Tk, torch.zeros(len(score_Tk), 1)], dim=-1).log_softmax(-1)[:, :top]
        return Distributions(ids_Tk.int(), logprob_Tk.gather(-1, ids_Tk))

    def _logprob(self, *seen: object) -> float:
        digest = hashlib.sha256(repr(seen).encode()).digest()
        return -self.scale * int.from_bytes(digest[:4], "big") / 2**32


class GapRescorer:
    """A student that finds every token equally likely, and a teacher that is `gap(trajectory, hint)` [T] above it."""

    def __init__(self, gap: Callable[[Trajectory, str | None], Tensor]) -> None:
        self.gap = gap

    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        return [self._score(request) for request in requests]

    def distributions(self, requests: Sequence[ScoreRequest], top: int) -> list[Distributions]:
        """Everybody finds all of `top` tokens equally likely."""
        return [even(request.trajectory, top) for request in requests]

    def _score(self, request: ScoreRequest) -> Tensor:
        student_T = torch.full((request.trajectory.response_tokens,), -1.0)
        if request.hindsight is None and request.weights is Weights.LIVE:
            return student_T
        return student_T + self.gap(request.trajectory, request.hindsight)


class DifferentiableRescorer:
    """Another rescorer's answers with a gradient, which no credit may carry on."""

    def __init__(self, inner: Rescorer) -> None:
        self._inner, self._parameter = inner, torch.ones((), requires_grad=True)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        return [self._parameter * answer_T for answer_T in self._inner.score(requests)]

    def distributions(self, requests: Sequence[ScoreRequest], top: int) -> list[Distributions]:
        found = self._inner.distributions(requests, top)
        return [Distributions(own.ids_Tk, self._parameter * own.logprob_Tk) for own in found]


def even(trajectory: Trajectory, top: int) -> Distributions:
    """`top` equally likely tokens at each response token."""
    shape = (trajectory.response_tokens, top)
    return Distributions(torch.arange(top, dtype=torch.int32).expand(shape), torch.full(shape, -math.log(top)))


def _contexts(request: ScoreRequest) -> list[tuple[object, ...]]:
    starts = request.starts or (0,) * len(request.trajectory.steps)
    where = () if request.starts is None else ("in the response",)
    return [
        (request.weights, hint, *(where if hint else ()), step.prompt_ids.tolist(), step.response_ids[: t + 1].tolist())
        for step, start in zip(request.trajectory.steps, starts, strict=True)
        for t in range(len(step.response_ids))
        for hint in [request.hindsight if start is not None and t >= start else None]
    ]
