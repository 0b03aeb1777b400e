"""Batches of padded responses as groups of trajectories, and credit back as one number per token."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stepcredit.methods.checks import require_valid
from stepcredit.methods.contract import (
    Credit,
    Distributions,
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
    """What a trainer knows of B responses of up to T tokens; tokens and texts themselves no method gets to see.

    Attributes:
        rewards_B: outcome of each; NaN leaves a response out of its group and without credit.
        mask_BT: which positions are the policy's own tokens; between them may stand what environments answered.
        prompts: [B] what a response answers; equal ones form a group.
        student_BT: log-probabilities of the policy; zeros do for methods without a teacher.
        teacher_BT: those of the teacher, for methods that have one.
        step_BT: which step each token belongs to, ascending; None where every response is one step.
        action_BT: which tokens are a step's action, one stretch per step; those before it are its reasoning. None makes
            all of them the action.
        states: [B] the state that each step was taken in, such as the observation before it; for methods that
            compare states.
        success_above: responses with a larger reward succeed; only a group where some do and some do not is taught.
    """

    rewards_B: Tensor
    mask_BT: Tensor
    prompts: Sequence[Hashable]
    student_BT: Tensor | None = None
    teacher_BT: Tensor | None = None
    step_BT: Tensor | None = None
    action_BT: Tensor | None = None
    states: Sequence[Sequence[str]] | None = None
    success_above: float = 0.0


def credit_of(method: Method, columns: Columns, update: int = 0) -> Tensor:
    """[B, T] the method's advantages, zero outside the mask.

    Raises:
        MethodError: the method needs what columns cannot give, columns do not fit together, or credit is unusable.
    """
    require_portable(method)
    _require_columns(method, columns)
    members: dict[Hashable, list[int]] = {}
    for row, prompt in enumerate(columns.prompts):
        if not bool(columns.rewards_B[row].isnan()):
            members.setdefault(prompt, []).append(row)
    advantage_BT, credits = torch.zeros_like(columns.mask_BT, dtype=torch.float32), []
    for prompt, rows in members.items():
        trajectories = tuple(_trajectory(columns, row, str(prompt), index) for index, row in enumerate(rows))
        group = Group(str(prompt), trajectories)
        credits.append(method.credit(group, _ColumnRescorer(columns, rows), update))
        require_valid(method, group, credits[-1])
        _require_no_distillation(method, credits[-1])
    for rows, own in zip(members.values(), method.settled(credits), strict=True):
        for row, credit in zip(rows, own, strict=True):
            advantage_BT[row, columns.mask_BT[row].bool()] = credit.advantage_T.to(advantage_BT)
    return advantage_BT


def require_portable(method: Method) -> None:
    """Refuse what no columns can serve, before anything is sampled.

    Raises:
        MethodError: the method, with these options, needs more than a batch of scored tokens.
    """
    needs, complaint = method.needs, None
    if needs.continuations or needs.golden:
        complaint = "needs environments, which a batch of tokens has not; use stepcredit"
    elif needs.skills is not None:
        complaint = "needs texts about types of tasks, which columns do not know; use stepcredit"
    elif needs.foreign or needs.untold:
        complaint = "needs other tasks' episodes or other prompts, which columns do not hold; use stepcredit"
    elif needs.distributions:
        complaint = "asks for whole distributions, and columns hold one number a token; use stepcredit"
    elif method.traits.distils:
        complaint = "has a loss of its own, which advantages cannot express; use stepcredit"
    elif method.traits.teachers > 1:
        complaint = f"compares {method.traits.teachers} teachers, and columns hold one; use stepcredit"
    elif needs.answers:
        complaint = "aims at answers, which columns do not know; choose target 'action_only' and mark them in action_BT"
    if complaint is not None:
        raise MethodError(f"method {method.name!r} {complaint}")


@dataclass(frozen=True, slots=True)
class _ColumnRescorer:
    """Answers from the trainer's columns: with hindsight or other weights the teacher's, else the student's."""

    columns: Columns
    rows: Sequence[int]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        """See `Rescorer.score`; two teachers for one trajectory are refused, since there is one column for them."""
        asked = {
            (request.trajectory.index, request.weights, request.hindsight)
            for request in requests
            if _has_teacher(request)
        }
        if len({index for index, _, _ in asked}) < len(asked):
            raise MethodError("the method asks two teachers about one trajectory, and columns hold one; use stepcredit")
        return [self._score(request) for request in requests]

    def distributions(self, requests: Sequence[ScoreRequest], top: int) -> list[Distributions]:
        """There are none.

        Raises:
            MethodError: always.
        """
        raise MethodError("the method asks for distributions, and columns hold one number a token; use stepcredit")

    def _score(self, request: ScoreRequest) -> Tensor:
        row = self.rows[request.trajectory.index]
        name = "teacher_BT" if _has_teacher(request) else "student_BT"
        scores_BT: Tensor | None = getattr(self.columns, name)
        if scores_BT is None:
            raise MethodError(f"the method asks for log-probabilities, and the columns lack {name}")
        return scores_BT[row, self.columns.mask_BT[row].bool()].detach().float().cpu()


def _has_teacher(request: ScoreRequest) -> bool:
    return request.hindsight is not None or request.weights is not Weights.LIVE


def _require_columns(method: Method, columns: Columns) -> None:
    missing = [name for name in ("student_BT", "teacher_BT") if getattr(columns, name) is None]
    if method.has_teacher and missing:
        raise MethodError(f"method {method.name!r} compares two policies and lacks {' and '.join(missing)}")
    if method.traits.compares_states and columns.states is None:
        raise MethodError(f"method {method.name!r} compares steps that share a state and lacks `states`")
    shape = tuple(columns.mask_BT.shape)
    for name in ("student_BT", "teacher_BT", "step_BT", "action_BT"):
        column = getattr(columns, name)
        if column is not None and tuple(column.shape) != shape:
            raise MethodError(f"{name} has shape {tuple(column.shape)} and mask_BT {shape}; both must be [B, T]")
    for name in ("rewards_B", "prompts", "states"):
        column = getattr(columns, name)
        if column is not None and len(column) != shape[0]:
            raise MethodError(f"{name} is for {len(column)} responses and mask_BT for {shape[0]}; give one each")


def _require_no_distillation(method: Method, credits: Sequence[Credit]) -> None:
    if any(credit.distill_T is not None for credit in credits):
        raise MethodError(f"method {method.name!r} has a loss beside its advantages, which would be lost")


def _trajectory(columns: Columns, row: int, prompt: str, index: int) -> Trajectory:
    own_T = columns.mask_BT[row].bool().cpu()
    count = int(own_T.sum())
    step_T = torch.zeros(count, dtype=torch.long) if columns.step_BT is None else columns.step_BT[row].cpu()[own_T]
    action_T = torch.ones(count) if columns.action_BT is None else columns.action_BT[row].cpu()[own_T]
    student_T = torch.zeros(count) if columns.student_BT is None else columns.student_BT[row].cpu()[own_T]
    lengths = torch.unique_consecutive(step_T, return_counts=True)[1].tolist()
    states = [""] * len(lengths) if columns.states is None else list(columns.states[row])
    if len(states) != len(lengths):
        raise MethodError(f"response {row} has {len(lengths)} steps and {len(states)} states; give one state per step")
    parts = zip(action_T.split(lengths), student_T.split(lengths), states, strict=True)
    steps = tuple(
        _step(f"{row}.{k}", action, scores, state, states[k + 1] if k + 1 < len(states) else "")
        for k, (action, scores, state) in enumerate(parts)
    )
    reward = float(columns.rewards_B[row])
    success = reward > columns.success_above
    stop = StopReason.SUCCESS if success else StopReason.FAILURE
    return Trajectory(prompt, "", index, steps, reward, success, stop)


def _step(name: str, action_T: Tensor, student_T: Tensor, state: str, observation: str) -> Step:
    places = torch.nonzero(action_T)[:, 0].tolist()
    start, end = (places[0], places[-1] + 1) if places else (0, 0)
    if end - start != len(places):
        raise MethodError(f"the action of step {name} (response.step) is not one stretch of tokens; mend action_BT")
    return Step(
        prompt_ids=np.empty(0, dtype=np.int64),
        response_ids=np.zeros(len(action_T), dtype=np.int64),
        logprobs=student_T.detach().float().numpy(),
        think=Span(0, start) if start else None,
        action=Span(start, end) if places else None,
        action_text=name,
        valid=True,
        truncated=False,
        observation=observation,
        state_key=state,
        seed=0,
    )
