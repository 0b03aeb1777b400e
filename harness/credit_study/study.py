"""The study: one set of episodes of a frozen policy, its truth task by task, and every case's credit on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stepcredit.envs.replayed import Replaying
from stepcredit.harness.credit_study.asked import StudySpec, Tell
from stepcredit.harness.credit_study.cases import Case, cases_of
from stepcredit.harness.credit_study.choices import Choice, choices
from stepcredit.harness.credit_study.gradients import Aligned, aligned, as_record, directions
from stepcredit.harness.credit_study.measures import Measured, described, measured
from stepcredit.harness.credit_study.steps import step_credits
from stepcredit.harness.credit_study.truths import Device, Played, true_tables
from stepcredit.harness.errors import UserError
from stepcredit.harness.fidelity.ranks import Estimate, clustered_mean, rank_correlation
from stepcredit.harness.record import files, manifest
from stepcredit.harness.setup.parts import Parts
from stepcredit.harness.words import counted

STEPS, CREDITS, CHOICES, STUDY = "steps.parquet", "credits.parquet", "choices.parquet", "study.json"

_READER, _PEER, _PLACEBO = "opd", "peer_traj", "foreign"
"""Whose credit is the gap itself, and under which arms the gaps of a policy that can read differ."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the study says.

    Attributes:
        measured: a row for each case.
        reads: a teacher's gap under a peer less that under a placebo, as rank correlations with A* on the same
            trajectories; None where these were not studied.
        told: what a peer's block says of a successful episode's actions beyond the placebo's, in nats: the difference
            of summed gaps, an estimate of the pointwise mutual information with the hint.
        beyond: method -> its credit under a peer less that under a placebo, as rank correlations with A*, likewise.
        refused: methods under arms that they do not take.
        steps: how many have a truth, and their mean standard error.
        choices: whether an arm's teacher ranks the actions of a state; where that was asked.
        retaken: actions that were taken again to bring states back, where a benchmark's episodes cannot be cloned.
        gradients: how cases' policy gradients lie to that of the truth; likewise.
    """

    measured: list[Measured]
    reads: Estimate | None
    told: Estimate | None
    beyond: dict[str, Estimate]
    refused: list[str]
    steps: int
    stderr: float
    choices: tuple[Choice, ...] = ()
    gradients: tuple[Aligned, ...] = ()
    retaken: int | None = None

    @property
    def verdict(self) -> str:
        """Whether the policy can read, in a sentence: everything below means nothing otherwise."""
        if self.reads is None:
            return "whether this policy can read was not asked: study opd under peer_traj and foreign to know"
        low, high, tasks = self.reads.low, self.reads.high, counted(self.reads.tasks, "task")
        difference = f"{self.reads.value:+.2f} [{low:+.2f}, {high:+.2f}] over {tasks}"
        if low > 0:
            return f"this policy can read: a peer's gap ranks steps better than a placebo's, by {difference}"
        return (
            f"this policy cannot be shown to read: a peer's gap ranks steps better than a placebo's by {difference}; "
            "so what hindsight does below cannot be put down to what it tells"
        )


def is_complete(spec: StudySpec, folder: Path) -> bool:
    """Whether the folder holds this study, whole."""
    if not (folder / STUDY).is_file():
        return False
    record = files.read_json(folder / STUDY)
    return all(record.get(name) == value for name, value in spec.described().items())


def run_study(spec: StudySpec, parts: Parts, folder: Path, device: Device, tell: Tell) -> Found:
    """Everything, into the folder; a study that was stopped goes on at the first task without its truth.

    Raises:
        UserError: no group is mixed, no case is left, or the folder holds another study.
        EnvError: the benchmark has no reference trajectory for an arm that needs one.
    """
    cases, refused = cases_of(spec.methods, spec.arms)
    _claim(spec, parts, folder)
    played = Played.of(spec, parts)
    if not played.mixed:
        won = sum(trajectory.success for group in played.groups for trajectory in group.trajectories)
        raise UserError(
            f"of {counted(len(played.groups), 'group')} none has both successes and failures ({won} episodes "
            "succeeded): no method has anything to say; study another policy, or more --tasks, with another --out"
        )
    credits = pd.DataFrame(_credits(cases, played, spec, parts))
    files.write_table(folder / CREDITS, credits)
    steps, options = true_tables(spec, played, folder, device, tell)
    files.write_table(folder / STEPS, steps)
    found = replace(_found(steps, credits, refused), retaken=_retaken(steps, parts))
    if spec.alternatives:
        files.write_table(folder / CHOICES, options)
        found = replace(found, choices=tuple(choices(options)))
    if spec.gradients:
        pointing = directions(parts.policy, played.groups, spec.run)
        found = replace(found, gradients=tuple(aligned(pointing, steps, credits)))
    files.write_json(folder / STUDY, _record(spec, parts) | {"found": _as_json(found)})
    return found


def _credits(cases: Sequence[Case], played: Played, spec: StudySpec, parts: Parts) -> Iterator[dict[str, Any]]:
    for case in cases:
        for row in step_credits(case, played.groups, played.tasks, played.player, spec.run, parts):
            yield asdict(row)


def _found(steps: pd.DataFrame, credits: pd.DataFrame, refused: list[str]) -> Found:
    known = credits[credits["served"]].merge(steps, on=["task_id", "trajectory", "step"])
    pairs = {str(method): _compared(own) for method, own in known.groupby("method", sort=False)}
    beyond = {method: _by_task(both, _ranks_better) for method, both in pairs.items() if not both.empty}
    told = _by_task(pairs[_READER], _tells_more) if _READER in beyond else None
    stderr = float(steps["stderr"].mean())
    return Found(measured(steps, credits), beyond.get(_READER), told, beyond, refused, len(steps), stderr)


def _retaken(steps: pd.DataFrame, parts: Parts) -> int | None:
    """Each continuation of a state begins with the actions that led there."""
    if not isinstance(parts.benchmark, Replaying):
        return None
    return int((steps["step"] * steps["continuations"]).sum())


def _compared(own: pd.DataFrame) -> pd.DataFrame:
    """A method's credit under a peer and under a placebo, on the trajectories that both arms can serve."""
    peer, placebo = (own[own["arm"] == arm] for arm in (_PEER, _PLACEBO))
    return peer.merge(placebo, on=["task_id", "trajectory", "step"], suffixes=("", "_placebo"))


def _tells_more(rows: pd.DataFrame) -> float | None:
    return float((rows["summed"] - rows["summed_placebo"]).sum()) if rows["success"].all() else None


def _ranks_better(rows: pd.DataFrame) -> float | None:
    truth_K = rows["advantage"].to_numpy(np.float64)
    shown, alike = (rank_correlation(rows[name].to_numpy(np.float64), truth_K) for name in ("credit", "credit_placebo"))
    return None if shown is None or alike is None else shown - alike


def _by_task(both: pd.DataFrame, of: Callable[[pd.DataFrame], float | None]) -> Estimate:
    """The mean over trajectories."""
    values: dict[str, list[float]] = {}
    for (task, _), rows in both.groupby(["task_id", "trajectory"], sort=True):
        if (value := of(rows)) is not None:
            values.setdefault(str(task), []).append(value)
    return clustered_mean(values)


def _claim(spec: StudySpec, parts: Parts, folder: Path) -> None:
    """Refuse the folder of another study; equal episodes and truth are taken over, whatever cases are asked for."""
    if spec.tasks > (there := len(parts.eval_panel.tasks)):
        raise UserError(f"--tasks {spec.tasks} is out of range: the held-out panel has {counted(there, 'task')}")
    files.make_folder(folder)
    begun = folder / "truth.json"
    inputs = parts.inputs
    own = {
        "episodes": spec.sha256,
        "weights": inputs.policy.weights_sha256,
        "panel": inputs.panels["eval"].sha256,
        "data": inputs.data,
    }
    if begun.is_file() and files.read_json(begun) != own:
        raise UserError(f"{folder} holds the credit study of other episodes, tasks or weights; choose another --out")
    if not begun.is_file() and (taken := [name for name in (STUDY, manifest.NAME) if (folder / name).exists()]):
        raise UserError(f"{folder} holds other results (it has a {taken[0]} of theirs); choose another --out")
    files.write_json(begun, own)


def _record(spec: StudySpec, parts: Parts) -> dict[str, Any]:
    return {**spec.described(), "inputs": parts.inputs.model_dump(mode="json")}


def _as_json(found: Found) -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        "reads": None if found.reads is None else found.reads.described(),
        "beyond": {method: estimate.described() for method, estimate in found.beyond.items()},
        "told": None if found.told is None else found.told.described(),
        "measured": [described(row) for row in found.measured],
        "choices": [
            {"arm": row.arm, **{name: getattr(row, name).described() for name in ("gap", "teacher", "student")}}
            for row in found.choices
        ],
        "gradients": [as_record(row) for row in found.gradients],
        "refused": found.refused,
        **({} if found.retaken is None else {"retaken": found.retaken}),
        "steps": found.steps,
        "stderr": round(found.stderr, 6),
    }
