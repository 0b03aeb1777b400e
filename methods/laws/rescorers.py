"""Rescorers that answer by rule, where a run has models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stepcredit.methods.contract import Rescorer, ScoreRequest, Trajectory, Weights


class HashRescorer:
    """Log-probabilities that depend on what a policy would see: weights, hint, the step's prompt, the tokens so far.

    Attributes:
        calls: the requests of each call so far.

    Args:
        scale: the log-probabilities lie between -scale and 0.
    """

    def __init__(self, scale: float = 3.0) -> None:
        self.scale = scale
        self.calls: list[list[ScoreRequest]] = []

    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        self.calls.append(list(requests))
        return [torch.tensor([self._logprob(*seen) for seen in _contexts(request)]) for request in requests]

    @property
    def requests(self) -> list[ScoreRequest]:
        """The requests of all calls."""
        return [request for call in self.calls for request in call]

    def _logprob(self, *seen: object) -> float:
        digest = hashlib.sha256(repr(seen).encode()).digest()
        return -self.scale * int.from_bytes(digest[:4], "big") / 2**32


class GapRescorer:
    """A student that finds every token equally likely, and a teacher that is `gap(trajectory, hint)` [T] above it."""

    def __init__(self, gap: Callable[[Trajectory, str | None], Tensor]) -> None:
        self.gap = gap

    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        return [self._score(request) for request in requests]

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


def _contexts(request: ScoreRequest) -> list[tuple[object, ...]]:
    return [
        (request.weights, request.hindsight, step.prompt_ids.tolist(), step.response_ids[: t + 1].tolist())
        for step in request.trajectory.steps
        for t in range(len(step.response_ids))
    ]
