"""Rows of the result files and their parquet form: equal rows give equal bytes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from stepcredit.harness.engine.stretches import stretches_of
from stepcredit.harness.errors import UserError
from stepcredit.harness.record import files
from stepcredit.harness.words import counted
from stepcredit.methods.contract import Credit, Group, StopReason, Trajectory

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Phase = Literal["train", "eval"]


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """One episode.

    `update` counts the policy updates done before it; `seed` is the run's; `prompt_tokens` are the tokens of
    the transcript that the policy read but did not write. `metrics` are the environment's own numbers; each is a
    column of the file.
    """

    phase: str
    update: int
    split: str
    task_id: str
    subset: str
    seed: int
    trajectory: int
    success: bool
    reward: float
    turns: int
    invalid_actions: int
    prompt_tokens: int
    response_tokens: int
    stop: str
    rollout_sha256: str
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpdateStats:
    """What one update did. Means are over the response tokens of the trajectories that were trained on.

    Attributes:
        loss: the sum that was minimised, a mean over the batch like its two parts below; see `Aggregation`.
        policy_loss: the clipped policy gradient's part.
        distill_loss: minus the distillation weights times the student's log-probabilities; the teacher's constant
            part is left out.
        kl: k3 estimate of KL(policy before the update || policy after), over an even sample of the tokens.
        entropy: of the policy before the update, in nats per token at the sampling temperature.
        ratio_clipped: share of tokens whose importance ratio was clipped.
        grad_norm: global norm before clipping, a mean over the update's optimiser steps.
        response_tokens: tokens that were trained on.
        skipped_groups: groups without any trajectory to train on.
        gradient_tokens: prompts and responses of the rows whose gradient was computed, in all epochs.
        engine_gap_mean: distance of the recorded log-probabilities from the policy's before the update, in nats; 0
            where they stand for these.
        engine_gap_max: the same of the token where it is largest.
    """

    loss: float = 0.0
    policy_loss: float = 0.0
    distill_loss: float = 0.0
    kl: float = 0.0
    entropy: float = 0.0
    ratio_clipped: float = 0.0
    grad_norm: float = 0.0
    response_tokens: int = 0
    skipped_groups: int = 0
    gradient_tokens: int = 0
    engine_gap_mean: float = 0.0
    engine_gap_max: float = 0.0


@dataclass(frozen=True, slots=True)
class UpdateRow:
    """One update of the policy. `diagnostics` is the JSON text of the method's own numbers."""

    update: int
    seed: int
    trajectories: int
    groups: int
    mixed_groups: int
    skipped_groups: int
    success: float
    reward: float
    invalid_rate: float
    turns: float
    loss: float
    policy_loss: float
    distill_loss: float
    kl: float
    entropy: float
    ratio_clipped: float
    grad_norm: float
    response_tokens: int
    rollouts_sha256: str
    credit_abs_mean: float
    diagnostics: str


@dataclass(frozen=True, slots=True)
class TimingRow:
    """Wall seconds and tokens of one update by part, kept apart so that the other files are the same bits every time.

    Attributes:
        rollout_tokens: read and drawn in the update's episodes.
        rescored_tokens: read again to score responses, under all weights and hindsight; a shared beginning counts once.
        gradient_tokens: of the rows whose gradient was computed, in all epochs.
        eval_tokens: read and drawn in the evaluation after the update.
        update_tflops: model operations of the gradient a second of `update_s`, see `utilisation`.
        update_mfu: their share of the machine's peak; null where that is not known.
        energy_j: of all parts, as the machine's counters tell; null where it has none that can be read.
    """

    update: int
    rollout_s: float
    credit_s: float
    update_s: float
    eval_s: float
    rollout_tokens: int = 0
    rescored_tokens: int = 0
    gradient_tokens: int = 0
    eval_tokens: int = 0
    update_tflops: float = 0.0
    update_mfu: float | None = None
    energy_j: float | None = None


Row = TypeVar("Row", bound="DataclassInstance")

_METRICS = "metrics"
_ARROW = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}


def schema_of(row_type: type[Row]) -> pa.Schema:
    """The parquet schema: the dataclass's fields in order, nullable if they may be None; metrics come after them."""
    hints = get_type_hints(row_type)
    names = [f.name for f in fields(row_type) if f.name != _METRICS]
    kinds = {name: (set(get_args(hints[name])) or {hints[name]}) for name in names}
    return pa.schema(
        [pa.field(name, _ARROW[(own - {NoneType}).pop()], nullable=NoneType in own) for name, own in kinds.items()]
    )


def write_rows(path: Path, rows: Sequence[Row], row_type: type[Row]) -> None:
    """Write the rows atomically, with fixed compression and no timestamp.

    Raises:
        UserError: disk full or no permission.
    """
    records = [asdict(row) for row in rows]
    schema = schema_of(row_type)
    metrics = list(records[0].get(_METRICS, ())) if records else []
    for name in metrics:
        schema = schema.append(pa.field(name, pa.float64(), nullable=False))
    table = pa.Table.from_pylist([record | record.get(_METRICS, {}) for record in records], schema=schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=9, version="2.6", store_schema=False)
    files.write_bytes(path, buffer.getvalue())


def read_rows(path: Path, row_type: type[Row]) -> list[Row]:
    """The rows of a file that `write_rows` wrote.

    Raises:
        UserError: missing, truncated, or of other columns.
    """
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
        table.validate(full=True)  # text that is no UTF-8 too
    except OSError as error:
        raise _unreadable(path, error) if error.errno is None else files.explain(error, path) from error
    except pa.ArrowException as error:
        raise _unreadable(path, error) from error
    wanted = schema_of(row_type).names
    known, further = table.column_names[: len(wanted)], table.column_names[len(wanted) :]
    if known != wanted or (further and row_type is not EpisodeRow):
        raise UserError(f"{path} has columns {table.column_names}, not {wanted}; it was written by another version")
    plain, metrics = table.select(known).to_pylist(), table.select(further).to_pylist()
    extra: list[dict[str, Any]] = [{_METRICS: own} for own in metrics] if further else [{}] * len(plain)
    return [row_type(**record, **more) for record, more in zip(plain, extra, strict=True)]


def dump_rows(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Plain values, as a checkpoint keeps them."""
    return [asdict(row) for row in rows]


def load_rows(records: Iterable[Mapping[str, Any]], row_type: type[Row]) -> list[Row]:
    """The inverse of `dump_rows`."""
    return [row_type(**record) for record in records]


def trajectory_sha256(trajectory: Trajectory) -> str:
    """Identity of what was said and done. Log-probabilities stay out: their last bits vary between machines."""
    outcome = (trajectory.task_id, trajectory.index, str(trajectory.stop), trajectory.reward)
    digest = hashlib.sha256(json.dumps(outcome).encode())
    for step in trajectory.steps:
        digest.update(step.prompt_ids.astype("<i8").tobytes())
        digest.update(b"\x00response")
        digest.update(step.response_ids.astype("<i8").tobytes())
        digest.update(json.dumps([step.action_text, step.valid, step.observation]).encode())
    return digest.hexdigest()


def rollouts_sha256(groups: Iterable[Group]) -> str:
    """Identity of an update's rollouts: equal for two methods that start from equal weights."""
    digest = hashlib.sha256()
    for group in groups:
        for trajectory in group.trajectories:
            digest.update(bytes.fromhex(trajectory_sha256(trajectory)))
    return digest.hexdigest()


def episode_rows(groups: Iterable[Group], *, phase: Phase, update: int, split: str, seed: int) -> list[EpisodeRow]:
    """One row per trajectory, in the order of the groups."""
    return [
        EpisodeRow(
            phase=phase,
            update=update,
            split=split,
            task_id=trajectory.task_id,
            subset=trajectory.subset,
            seed=seed,
            trajectory=trajectory.index,
            success=trajectory.success,
            reward=float(trajectory.reward),
            turns=len(trajectory.steps),
            invalid_actions=sum(not step.valid for step in trajectory.steps),
            prompt_tokens=_tokens_read(trajectory),
            response_tokens=trajectory.response_tokens,
            stop=str(trajectory.stop),
            rollout_sha256=trajectory_sha256(trajectory),
            metrics=trajectory.metrics,
        )
        for group in groups
        for trajectory in group.trajectories
    ]


def broken(groups: Sequence[Group], when: str) -> list[str]:
    """A sentence if environments broke: in how many episodes, and what was said of the first; else nothing."""
    own = [trajectory for group in groups for trajectory in group.trajectories]
    failed = [trajectory for trajectory in own if trajectory.stop is StopReason.ENV_FAILURE]
    if not failed:
        return []
    return [f"{when}, the environment broke in {len(failed)} of {counted(len(own), 'episode')}: {failed[0].failure}"]


def update_row(
    groups: Sequence[Group],
    credits: Sequence[Sequence[Credit]],
    stats: UpdateStats,
    notes: Mapping[str, float],
    *,
    update: int,
    seed: int,
) -> UpdateRow:
    """The row of one update: means over its trajectories, what the objective reported, and the trainer's own notes."""
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    steps = [step for trajectory in trajectories for step in trajectory.steps]
    flat = [credit for of_group in credits for credit in of_group]
    return UpdateRow(
        update=update,
        seed=seed,
        trajectories=len(trajectories),
        groups=len(groups),
        mixed_groups=sum(group.mixed for group in groups),
        skipped_groups=stats.skipped_groups,
        success=_mean([trajectory.success for trajectory in trajectories]),
        reward=_mean([trajectory.reward for trajectory in trajectories]),
        invalid_rate=_mean([not step.valid for step in steps]),
        turns=len(steps) / len(trajectories),
        loss=stats.loss,
        policy_loss=stats.policy_loss,
        distill_loss=stats.distill_loss,
        kl=stats.kl,
        entropy=stats.entropy,
        ratio_clipped=stats.ratio_clipped,
        grad_norm=stats.grad_norm,
        response_tokens=sum(trajectory.response_tokens for trajectory in trajectories),
        rollouts_sha256=rollouts_sha256(groups),
        credit_abs_mean=_mean([float(credit.advantage_T.abs().mean()) for credit in flat if len(credit.advantage_T)]),
        diagnostics=json.dumps(_mean_diagnostics(flat) | dict(notes), sort_keys=True),
    )


def _mean_diagnostics(credits: Sequence[Credit]) -> dict[str, float]:
    """Each of the method's numbers, averaged over the trajectories that report it."""
    names = {name for credit in credits for name in credit.diagnostics}
    return {name: _mean([c.diagnostics[name] for c in credits if name in c.diagnostics]) for name in names}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _tokens_read(trajectory: Trajectory) -> int:
    """Tokens that the policy read and did not write: of one running transcript, or of every windowed prompt."""
    read = sum(len(steps[-1].prompt_ids) + len(steps[-1].response_ids) for steps in stretches_of(trajectory))
    return read - trajectory.response_tokens


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = str(error).splitlines()[0]
    return UserError(f"{path} is truncated or not parquet ({reason}); restore it, or delete its folder and run again")
