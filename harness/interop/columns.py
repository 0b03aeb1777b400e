"""Batches of padded responses as groups of trajectories, and credit back as one number a token."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from methods.checks import require_valid
from methods.contract import (
    Group,
    Method,
    MethodError,
    ScoreRequest,
    Span,
    Step,
    StopReason,
    Trajectory,
    Weights,
)


@dataclass(frozen=True, slots=True)
class Columns:
    """What a trainer knows of B responses of up to T tokens.

    Attributes:
        rewards_B: outcome of each.
        mask_BT: which positions are the policy's own tokens; between them may stand what environments answered.
        prompts: [B] what a response answers; equal ones form a group.
        student_BT: log-probabilities of the policy; zeros do for methods without a teacher.
        teacher_BT: those of the teacher, for methods that have one.
        step_BT: which step each token belongs to, ascending; None where every response is one step.
        action_BT: which tokens are a step's action; None makes all of them the action.
        states: [B] the state that each step was taken in, such as the observation before it; needed by gigpo.
    """

    rewards_B: Tensor
    mask_BT: Tensor
    prompts: Sequence[Hashable]
    student_BT: Tensor | None = None
    teacher_BT: Tensor | None = None
    step_BT: Tensor | None = None
    action_BT: Tensor | None = None
    states: Sequence[Sequence[str]] | None = None


def credit_of(method: Method, columns: Columns, update: int = 0) -> Tensor:
    """[B, T] the method's advantages, zero outside the mask. A response succeeds if its reward is positive.

    Raises:
        MethodError: the method needs what columns cannot give, or returns unusable credit.
    """
    _require_possible(method, columns)
    members: dict[Hashable, list[int]] = {}
    for row, prompt in enumerate(columns.prompts):
        members.setdefault(prompt, []).append(row)
    advantage_BT = torch.zeros_like(columns.mask_BT, dtype=torch.float32)
    for prompt, rows in members.items():
        trajectories = tuple(_trajectory(columns, row, str(prompt), index) for index, row in enumerate(rows))
        group = Group(str(prompt), trajectories)
        credits = method.credit(group, _ColumnRescorer(columns, rows), update)
        require_valid(method, group, credits)
        for row, credit in zip(rows, credits, strict=True):
            advantage_BT[row, columns.mask_BT[row].bool()] = credit.advantage_T.to(advantage_BT)
    return advantage_BT


@dataclass(frozen=True, slots=True)
class _ColumnRescorer:
    """Answers from the trainer's columns: with hindsight or other weights the teacher's, else the student's."""

    columns: Columns
    rows: Sequence[int]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        """See `Rescorer.score`."""
        return [self._score(request) for request in requests]

    def _score(self, request: ScoreRequest) -> Tensor:
        row = self.rows[request.trajectory.index]
        taught = request.hindsight is not None or request.weights is not Weights.LIVE
        scores_BT = self.columns.teacher_BT if taught else self.columns.student_BT
        assert scores_BT is not None
        return scores_BT[row, self.columns.mask_BT[row].bool()].detach().float().cpu()


def _require_possible(method: Method, columns: Columns) -> None:
    needs, taught = method.needs, method.traits.uses_hindsight
    missing = [name for name in ("student_BT", "teacher_BT") if taught and getattr(columns, name) is None]
    if missing:
        raise MethodError(f"method {method.name!r} compares two policies and lacks {' and '.join(missing)}")
    if needs.continuations or needs.golden:
        raise MethodError(f"method {method.name!r} needs environments, which a batch of tokens has not; use stepcredit")
    if method.name == "gigpo" and columns.states is None:
        raise MethodError("method 'gigpo' compares steps that share a state and lacks `states`")
    if method.name == "sdar":
        raise MethodError("method 'sdar' has a loss of its own, which advantages cannot express; use stepcredit")


def _trajectory(columns: Columns, row: int, prompt: str, index: int) -> Trajectory:
    own_T = columns.mask_BT[row].bool().cpu()
    count = int(own_T.sum())
    step_T = torch.zeros(count, dtype=torch.long) if columns.step_BT is None else columns.step_BT[row].cpu()[own_T]
    action_T = torch.ones(count) if columns.action_BT is None else columns.action_BT[row].cpu()[own_T]
    student_T = torch.zeros(count) if columns.student_BT is None else columns.student_BT[row].cpu()[own_T]
    lengths = torch.unique_consecutive(step_T, return_counts=True)[1].tolist()
    states = [""] * len(lengths) if columns.states is None else list(columns.states[row])
    parts = zip(action_T.split(lengths), student_T.split(lengths), states, strict=True)
    steps = tuple(
        _step(f"{index}.{k}", action, scores, state, states[k + 1] if k + 1 < len(states) else "")
        for k, (action, scores, state) in enumerate(parts)
    )
    reward = float(columns.rewards_B[row])
    success = reward > 0
    stop = StopReason.SUCCESS if success else StopReason.FAILURE
    return Trajectory(prompt, "", index, steps, reward, success, stop)


def _step(name: str, action_T: Tensor, student_T: Tensor, state: str, observation: str) -> Step:
    places = torch.nonzero(action_T)[:, 0].tolist()
    return Step(
        prompt_ids=np.empty(0, dtype=np.int64),
        response_ids=np.zeros(len(action_T), dtype=np.int64),
        logprobs=student_T.detach().float().numpy(),
        think=None,
        action=Span(places[0], places[-1] + 1) if places else None,
        action_text=name,
        valid=True,
        truncated=False,
        observation=observation,
        state_key=state,
        seed=0,
    )
