"""The study: one set of episodes of a frozen policy, its truth task by task, and every case's credit on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stepcredit.envs.panel import Task
from stepcredit.harness.credit_study.cases import Case, cases_of
from stepcredit.harness.credit_study.choices import Choice, choice_rows, choices
from stepcredit.harness.credit_study.gradients import Aligned, aligned, as_record, directions
from stepcredit.harness.credit_study.measures import Measured, described, measured
from stepcredit.harness.credit_study.steps import step_credits, step_rows
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.errors import UserError
from stepcredit.harness.fidelity.alternatives import crossroads
from stepcredit.harness.fidelity.ranks import Estimate, clustered_mean, rank_correlation
from stepcredit.harness.fidelity.truth import Precision, true_steps
from stepcredit.harness.record import files
from stepcredit.harness.run.given import complete
from stepcredit.harness.seeds import Draws, seed_for
from stepcredit.harness.setup.parts import Parts
from stepcredit.harness.spec import RunSpec
from stepcredit.harness.words import counted
from stepcredit.methods.contract import Group, Needs

STEPS, CREDITS, CHOICES, STUDY, _PARTS = "steps.parquet", "credits.parquet", "choices.parquet", "study.json", "truth"

_READER, _PEER, _PLACEBO = "opd", "peer_traj", "foreign"
"""Whose credit is the gap itself, and under which arms the gaps of a policy that can read differ."""

Tell = Callable[[int, int], None]
"""Told how many of how many tasks have their truth."""


@dataclass(frozen=True, slots=True)
class StudySpec:
    """What is studied.

    Attributes:
        run: model, benchmark, episodes; its method has no part.
        tasks: of the held-out panel, in the seeded order of the spec; groups without a winner and a loser teach nobody.
        seed: of the episodes and continuations.
        alternatives: fresh episodes from a state of each trajectory, whose first actions are compared; 0 for none.
        gradients: whether cases' policy gradients are compared with that of the truth; for small policies.
    """

    run: RunSpec
    methods: tuple[str, ...]
    arms: tuple[str, ...]
    tasks: int = 8
    seed: int = 0
    precision: Precision = field(default_factory=Precision)
    alternatives: int = 0
    gradients: bool = False

    @property
    def sha256(self) -> str:
        """Identity of the study without its cases: that of its episodes and their truth."""
        content = {"run": self.run.model_dump(mode="json"), "tasks": self.tasks, "seed": self.seed}
        return f"{seed_for(json.dumps({**content, **asdict(self.precision)}, sort_keys=True)):016x}"


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
    return all(record.get(name) == value for name, value in _asked(spec).items())


def run_study(spec: StudySpec, parts: Parts, folder: Path, tell: Tell) -> Found:
    """Everything, into the folder; a study that was stopped goes on at the first task without its truth.

    Raises:
        UserError: no group is mixed, no case is left, or the folder holds another study.
        EnvError: the benchmark has no reference trajectory for an arm that needs one.
    """
    cases, refused = cases_of(spec.methods, spec.arms)
    _claim(spec, parts, folder)
    player = Player.of(parts.policy, parts.benchmark, spec.run.engine)
    tasks = parts.eval_panel.permuted(spec.seed)[: spec.tasks]
    groups = rollout(player, tasks, spec.run.rollout, Draws(seed_for("credit-study", spec.seed), 0))
    if not any(group.mixed for group in groups):
        won = sum(trajectory.success for group in groups for trajectory in group.trajectories)
        raise UserError(
            f"of {counted(len(groups), 'group')} none has both successes and failures ({won} episodes succeeded): no "
            "method has anything to say; study another policy, or more --tasks"
        )
    credits = pd.DataFrame(_credits(cases, groups, tasks, player, spec, parts))
    _write(credits, folder / CREDITS)
    steps = pd.concat(list(_truths(spec, groups, tasks, player, folder, tell)), ignore_index=True)
    _write(steps, folder / STEPS)
    found = _found(steps, credits, refused)
    if spec.alternatives:
        rows = pd.concat(list(_choices(spec, groups, tasks, player, folder, tell)), ignore_index=True)
        _write(rows, folder / CHOICES)
        found = replace(found, choices=tuple(choices(rows)))
    if spec.gradients:
        found = replace(found, gradients=tuple(aligned(directions(parts.policy, groups, spec.run), steps, credits)))
    files.write_json(folder / STUDY, _record(spec, parts) | {"found": _as_json(found)})
    return found


def _credits(
    cases: Sequence[Case],
    groups: Sequence[Group],
    tasks: Sequence[Task],
    player: Player,
    spec: StudySpec,
    parts: Parts,
) -> Iterator[dict[str, Any]]:
    for case in cases:
        for row in step_credits(case, groups, tasks, player, spec.run, parts):
            yield asdict(row)


def _truths(
    spec: StudySpec, groups: Sequence[Group], tasks: Sequence[Task], player: Player, folder: Path, tell: Tell
) -> Iterator[pd.DataFrame]:
    """A table for each mixed group, kept as soon as it is known."""
    mixed = [(task, group) for task, group in zip(tasks, groups, strict=True) if group.mixed]
    files.make_folder(folder / _PARTS)
    for number, (task, group) in enumerate(mixed):
        tell(number, len(mixed))
        path = folder / _PARTS / f"{number:04}.parquet"
        if not path.is_file():
            draws = Draws(seed_for("credit-truth", spec.seed), 0)
            truths = true_steps(player, task, group, spec.run.rollout, draws, spec.precision)
            _write(pd.DataFrame(step_rows(task, group, truths)), path)
        yield pd.read_parquet(path)
    tell(len(mixed), len(mixed))


def _choices(
    spec: StudySpec, groups: Sequence[Group], tasks: Sequence[Task], player: Player, folder: Path, tell: Tell
) -> Iterator[pd.DataFrame]:
    """A table for each mixed group, kept as soon as it is known; one that was made for other arms is made again."""
    needs = Needs(foreign=True, golden="golden_rollout" in spec.arms)
    given = complete(groups, tasks, needs, player, spec.run, 0, {})
    mixed = [(task, group) for task, group in zip(tasks, given, strict=True) if group.mixed]
    for number, (task, group) in enumerate(mixed):
        tell(number, len(mixed))
        path = folder / _PARTS / f"choices-{number:04}-{seed_for(*spec.arms, spec.alternatives):016x}.parquet"
        if not path.is_file():
            draws = Draws(seed_for("credit-alternatives", spec.seed), 0)
            roads = crossroads(player, task, group, spec.run.rollout, draws, spec.alternatives)
            _write(pd.DataFrame(choice_rows(spec.arms, roads, group, player, spec.run)), path)
        yield pd.read_parquet(path)
    tell(len(mixed), len(mixed))


def _found(steps: pd.DataFrame, credits: pd.DataFrame, refused: list[str]) -> Found:
    known = credits[credits["served"]].merge(steps, on=["task_id", "trajectory", "step"])
    pairs = {str(method): _compared(own) for method, own in known.groupby("method", sort=False)}
    beyond = {method: _by_task(both, _ranks_better) for method, both in pairs.items() if not both.empty}
    told = _by_task(pairs[_READER], _tells_more) if _READER in beyond else None
    stderr = float(steps["stderr"].mean())
    return Found(measured(steps, credits), beyond.get(_READER), told, beyond, refused, len(steps), stderr)


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
    files.make_folder(folder)
    begun = folder / f"{_PARTS}.json"
    inputs = parts.inputs
    own = {
        "episodes": spec.sha256,
        "weights": inputs.policy.weights_sha256,
        "panel": inputs.panels["eval"].sha256,
        "data": inputs.data,
    }
    if begun.is_file() and files.read_json(begun) != own:
        raise UserError(f"{folder} holds the credit study of other episodes, tasks or weights; choose another --out")
    files.write_json(begun, own)


def _record(spec: StudySpec, parts: Parts) -> dict[str, Any]:
    return {**_asked(spec), "inputs": parts.inputs.model_dump(mode="json")}


def _asked(spec: StudySpec) -> dict[str, Any]:
    return {
        "run": spec.run.model_dump(mode="json"),
        "methods": list(spec.methods),
        "arms": list(spec.arms),
        "tasks": spec.tasks,
        "seed": spec.seed,
        "precision": asdict(spec.precision),
        "alternatives": spec.alternatives,
        "gradients": spec.gradients,
    }


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
        "steps": found.steps,
        "stderr": round(found.stderr, 6),
    }


def _write(table: pd.DataFrame, path: Path) -> None:
    with files.atomic(path) as file:
        table.to_parquet(file, index=False)
