"""What can be looked into afterwards: tokens with their credit, and what training made of fixed turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stepcredit.harness.engine.stretches import continues
from stepcredit.methods.contract import Credit, Group, Step, Trajectory


@dataclass(frozen=True, slots=True)
class Heard:
    """What a method's first teacher said of a trajectory.

    Attributes:
        hint: the text it was shown, empty for none.
        teacher_T: [T] its log-probabilities; None where it was asked for whole distributions.
        student_T: [T] the policy's own, as the method read them; None where it read none.
    """

    hint: str = ""
    teacher_T: Tensor | None = None
    student_T: Tensor | None = None


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A response token of a training episode with its credit. A float is NaN where the method has none.

    Attributes:
        turn: from 0, and `position` of the token in its response.
        read: what the policy read before the turn and had not read or written earlier; in the turn's first row alone.
        span: think, action, tag (around an action) or other.
        credit: weight in the policy gradient.
        distill: weight of the teacher's log-ratio in the auxiliary loss.
        target: weight of the divergence from the teacher's distributions.
        student: log-probability under the policy that is trained; `teacher` under the method's first teacher.
        gap: teacher - student, in nats.
        hint: what that teacher was shown; in the episode's first row alone.
    """

    update: int
    task_id: str
    trajectory: int
    success: bool
    reward: float
    turn: int
    position: int
    valid: bool
    action: str
    span: str
    token_id: int
    text: str
    credit: float
    distill: float
    target: float
    student: float
    teacher: float
    gap: float
    read: str
    hint: str


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """A turn of a held-out episode as the untrained policy played it, and what training made of it.

    Attributes:
        tokens: of the response, the log-probability of which, in nats, is `before` and `after` training.
    """

    task_id: str
    turn: int
    action: str
    tokens: int
    before: float
    after: float


def traced_updates(updates: int) -> list[int]:
    """Updates whose tokens are kept: the first, the middle one and the last."""
    return sorted({0, updates // 2, updates - 1}) if updates else []


def traced_group(groups: Sequence[Group]) -> int:
    """The place of the group whose tokens are kept: the first with successes and failures, or the first."""
    return next((place for place, group in enumerate(groups) if group.mixed), 0)


def token_rows(
    group: Group,
    credits: Sequence[Credit],
    heard: Mapping[int, Heard],
    update: int,
    spell: Callable[[int], bytes],
) -> list[TokenRow]:
    """Every response token of the group, trajectory by trajectory.

    Args:
        heard: by the trajectory's place in its group.
        spell: a token's bytes.
    """
    return [
        row
        for trajectory, credit in zip(group.trajectories, credits, strict=True)
        for row in _of_trajectory(trajectory, credit, heard.get(trajectory.index, Heard()), update, spell)
    ]


def _of_trajectory(
    trajectory: Trajectory, credit: Credit, heard: Heard, update: int, spell: Callable[[int], bytes]
) -> Iterator[TokenRow]:
    student = heard.student_T.numpy() if heard.student_T is not None else _drawn(trajectory)
    teacher = _numbers(heard.teacher_T, len(student))
    target = None if credit.target is None else credit.target.weight_T
    streams = [_numbers(stream, len(student)) for stream in (credit.advantage_T, credit.distill_T, target)]
    offset, before = 0, None
    for turn, step in enumerate(trajectory.steps):
        read = _text(_news(before, step), spell)
        for position, token in enumerate(map(int, step.response_ids)):
            own, distill, aim, known, taught = (
                float(stream[offset + position]) for stream in (*streams, student, teacher)
            )
            yield TokenRow(
                update=update,
                task_id=trajectory.task_id,
                trajectory=trajectory.index,
                success=trajectory.success,
                reward=float(trajectory.reward),
                turn=turn,
                position=position,
                valid=step.valid,
                action=step.action_text,
                span=_span(step, position),
                token_id=token,
                text=_text([token], spell),
                credit=own,
                distill=distill,
                target=aim,
                student=known,
                teacher=taught,
                gap=taught - known,
                read=read if position == 0 else "",
                hint=heard.hint if offset + position == 0 else "",
            )
        offset, before = offset + len(step.response_ids), step


def _drawn(trajectory: Trajectory) -> NDArray[np.float32]:
    parts = [step.logprobs for step in trajectory.steps]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def _numbers(stream_T: Tensor | None, length: int) -> NDArray[np.float64]:
    return np.full(length, nan) if stream_T is None else stream_T.double().numpy()


def _news(before: Step | None, step: Step) -> NDArray[np.int64]:
    if before is None or not continues(before, step):
        return step.prompt_ids
    return step.prompt_ids[len(before.prompt_ids) + len(before.response_ids) :]


def _text(tokens: Sequence[int] | NDArray[np.int64], spell: Callable[[int], bytes]) -> str:
    return b"".join(spell(int(token)) for token in tokens).decode("utf-8", "replace")


def _span(step: Step, position: int) -> str:
    for name, span in (("think", step.think), ("action", step.action), ("tag", step.tagged)):
        if span is not None and span.start <= position < span.end:
            return name
    return "other"
