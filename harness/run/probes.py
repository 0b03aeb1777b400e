"""Turns of the untrained policy on held-out tasks, read again by the trained one: how far has it moved, and whither?"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stepcredit.harness.engine.rescore import Drawn, ModelRescorer
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.record import checkpoint, files
from stepcredit.harness.record.traces import ProbeRow
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.contract import Group, ScoreRequest, Step, StopReason, Trajectory, Weights

TASKS = 16
"""Of the held-out panel, its first ones: the same for all runs that are compared."""
_TURNS = "probes.parquet"


def keep_turns(cell: Path, groups: Sequence[Group], policy: Policy, spec: RunSpec) -> None:
    """Write the first held-out tasks' turns, with their log-probabilities under the policy as it is.

    Raises:
        UserError: disk full or no permission.
    """
    trajectories = [group.trajectories[0] for group in groups[:TASKS]]
    known = _read(policy, trajectories, spec)
    rows = [row for trajectory, before in zip(trajectories, known, strict=True) for row in _rows(trajectory, before)]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), buffer, compression="zstd")
    files.write_bytes(_path(cell), buffer.getvalue())


def probed(cell: Path, policy: Policy, spec: RunSpec) -> list[ProbeRow]:
    """What the policy makes of the turns that were kept; nothing for a run that an older version began.

    Raises:
        UserError: they cannot be read.
    """
    if not _path(cell).is_file():
        return []
    try:
        rows = pq.read_table(io.BytesIO(_path(cell).read_bytes())).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{_path(cell)} cannot be read ({error}); delete {cell} and run the same command again"
        ) from error
    own = [list(turns) for _, turns in groupby(rows, key=lambda row: row["task_id"])]
    known = _read(policy, [_trajectory(turns) for turns in own], spec)
    pairs = (
        (row, after)
        for turns, numbers in zip(own, known, strict=True)
        for row, after in zip(turns, numbers, strict=True)
    )
    return [
        ProbeRow(row["task_id"], row["turn"], row["action"], len(row["response"]), row["before"], after)
        for row, after in pairs
    ]


def let_go(cell: Path) -> None:
    """Remove the turns of a run that is complete."""
    files.discard(_path(cell))


_SCHEMA = pa.schema(
    [
        ("task_id", pa.string()),
        ("turn", pa.int64()),
        ("action", pa.string()),
        ("prompt", pa.list_(pa.int64())),
        ("response", pa.list_(pa.int64())),
        ("before", pa.float64()),
    ]
)


def _path(cell: Path) -> Path:
    return cell / checkpoint.FOLDER / _TURNS


def _read(policy: Policy, trajectories: Sequence[Trajectory], spec: RunSpec) -> list[list[float]]:
    """For each trajectory the log-probability of each turn's response, at the rollouts' temperature."""
    scorer = ModelRescorer(policy, {}, spec.optim.token_budget, spec.rollout.temperature, drawn=Drawn.ELSEWHERE)
    scores = scorer.score([ScoreRequest(trajectory, Weights.LIVE) for trajectory in trajectories])
    return [
        [float(part.sum()) for part in score_T.double().split([len(step.response_ids) for step in trajectory.steps])]
        for trajectory, score_T in zip(trajectories, scores, strict=True)
    ]


def _rows(trajectory: Trajectory, before: Sequence[float]) -> Iterator[dict[str, Any]]:
    for turn, (step, known) in enumerate(zip(trajectory.steps, before, strict=True)):
        yield {
            "task_id": trajectory.task_id,
            "turn": turn,
            "action": step.action_text,
            "prompt": step.prompt_ids.tolist(),
            "response": step.response_ids.tolist(),
            "before": known,
        }


def _trajectory(turns: Sequence[dict[str, Any]]) -> Trajectory:
    """What reading needs of it."""
    steps = tuple(
        Step(
            prompt_ids=np.array(row["prompt"], dtype=np.int64),
            response_ids=np.array(row["response"], dtype=np.int64),
            logprobs=np.zeros(len(row["response"]), dtype=np.float32),
            think=None,
            action=None,
            action_text=row["action"],
            valid=True,
            truncated=False,
            observation="",
            state_key="",
            seed=0,
        )
        for row in turns
    )
    return Trajectory(turns[0]["task_id"], "", 0, steps, 0.0, False, StopReason.FAILURE)
