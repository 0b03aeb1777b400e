"""Rollouts of made-up tokens, and rescorers that answer by rule."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from methods.contract import Group, ScoreRequest, Span, Step, StopReason, Trajectory, Weights

TASK = "mini/train/Pick/0001"


class HashRescorer:
    """Log-probabilities that depend on what a policy would see: weights, hint, the step's prompt, the tokens so far."""

    def __init__(self, scale: float = 3.0) -> None:
        self.scale = scale
        self.calls: list[list[ScoreRequest]] = []

    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        self.calls.append(list(requests))
        return [torch.tensor([self._logprob(*seen) for seen in _contexts(request)]) for request in requests]

    @property
    def requests(self) -> list[ScoreRequest]:
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


def _contexts(request: ScoreRequest) -> list[tuple[object, ...]]:
    return [
        (request.weights, request.hindsight, step.prompt_ids.tolist(), step.response_ids[: t + 1].tolist())
        for step in request.trajectory.steps
        for t in range(len(step.response_ids))
    ]


def make_step(
    length: int, *, think: Span | None = None, action: Span | None = None, text: str = "look", valid: bool = True
) -> Step:
    """`length` response tokens, numbered from 0."""
    return Step(
        prompt_ids=np.arange(3, dtype=np.int64),
        response_ids=np.arange(length, dtype=np.int64),
        logprobs=np.full(length, -1.5, dtype=np.float32),
        think=think,
        action=action,
        action_text=text,
        valid=valid,
        truncated=False,
        observation=f"you see {text}",
        state_key=text,
        seed=0,
    )


def make_trajectory(*steps: Step, success: bool, reward: float | None = None) -> Trajectory:
    stop = StopReason.SUCCESS if success else StopReason.TURN_LIMIT
    return Trajectory(TASK, "Pick", 0, steps, float(success) if reward is None else reward, success, stop)


def make_group(*trajectories: Trajectory) -> Group:
    """The trajectories, numbered by their places."""
    return Group(TASK, tuple(replace(trajectory, index=index) for index, trajectory in enumerate(trajectories)))


def one_word_group(*successes: bool) -> Group:
    """Trajectories of two steps of four tokens; thought, then action. The actions name the trajectory and the step."""
    return make_group(
        *(
            make_trajectory(
                *(make_step(4, think=Span(0, 1), action=Span(2, 4), text=f"go {index}.{k}") for k in range(2)),
                success=success,
            )
            for index, success in enumerate(successes)
        )
    )


def random_step(rng: np.random.Generator) -> Step:
    """Up to six tokens, or none; spans anywhere, or none."""
    length = int(rng.integers(0, 7))
    cuts = sorted(rng.integers(0, length + 1, 4).tolist())
    step = make_step(
        length,
        think=Span(cuts[0], cuts[1]) if rng.random() < 0.6 else None,
        action=Span(cuts[2], cuts[3]) if rng.random() < 0.8 else None,
        text=f"go to shelf {rng.integers(3)}",
        valid=bool(rng.random() < 0.7),
    )
    return replace(step, response_ids=rng.integers(0, 9, length))


def random_group(outcomes: Sequence[tuple[bool, float]], seed: int) -> Group:
    """One trajectory of up to four steps, or none, for each (success, reward)."""
    rng = np.random.default_rng(seed)
    return make_group(
        *(
            make_trajectory(*(random_step(rng) for _ in range(rng.integers(0, 5))), success=success, reward=reward)
            for success, reward in outcomes
        )
    )


_outcomes = st.one_of(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.7, 1.0])), st.sampled_from([(True, 1.0), (False, 0.0)])
)
_seeds = st.integers(0, 2**16)

groups = st.builds(random_group, st.lists(_outcomes, min_size=1, max_size=5), _seeds)

equal_groups = st.builds(
    lambda outcome, count, seed: random_group([outcome] * count, seed), _outcomes, st.integers(1, 5), _seeds
)
