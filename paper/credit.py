"""Credit studies as `stepcredit credit-study` leaves them: whether credit says what actions caused, and what leaks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, nan
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import ValidationError

from stepcredit.paper.errors import PaperError
from stepcredit.paper.manifest import Section
from stepcredit.paper.render import range_text
from stepcredit.paper.styles import COLOURS, GREY, INK, WIDTH, Plot, style_of
from stepcredit.paper.tables import Ranged, Table, p_text
from stepcredit.paper.variants import CREDIT
from stepcredit.paper.words import counted, listed

_RECORD, _STEPS, _CREDITS = "study.json", "steps.parquet", "credits.parquet"
_CAUSELESS = "null_causal"
_SCATTERED = ("grpo", "opd:peer_traj", "stepopsd:peer_traj", "vineppo")
_DOTS = 1500
_TALLEST = 9.0
"""Inches: a figure with its caption fits a page."""
_OVER = "Intervals are 95%, over tasks: jackknife and Student's t."


class Number(Section):
    """A statistic with its interval; null where it is not known."""

    value: float | None
    low: float | None
    high: float | None
    count: int = 0

    def ranged(self, least: float = -1.0, most: float = 1.0) -> Ranged:
        """As far as the statistic can reach; without a sign where it cannot be below 0."""
        value, low, high = (nan if number is None else number for number in (self.value, self.low, self.high))
        return Ranged(value, max(low, least), min(high, most), signed=least < 0.0)


class CaseRecord(Section):
    """A method under an arm; see `stepcredit.harness.credit_study.measures.Measured`."""

    case: str
    trajectories: int
    rank: Number
    sign: Number
    top: Number
    idle: Number
    leak: Number
    explained: Number
    thought: Number
    refused: Number
    parting: Number
    ceiling: float | None
    corrected: float | None
    p_rank: float | None


class ChoiceRecord(Section):
    """An arm's teacher over actions of a state; see `stepcredit.harness.credit_study.choices.Choice`."""

    arm: str
    gap: Number
    teacher: Number
    student: Number


class AlignedRecord(Section):
    """A case's policy gradient; see `stepcredit.harness.credit_study.gradients.Aligned`."""

    case: str
    cosine: Number
    noise: Number


class FoundRecord(Section):
    """What a study says."""

    verdict: str
    reads: Number | None
    told: Number | None
    beyond: dict[str, Number]
    measured: tuple[CaseRecord, ...]
    choices: tuple[ChoiceRecord, ...] = ()
    gradients: tuple[AlignedRecord, ...] = ()
    refused: tuple[str, ...]
    steps: int
    stderr: float


class RunRecord(Section):
    """Whose episodes they are."""

    model: str
    benchmark: str
    suite: str


class StudyRecord(Section):
    """A study's record."""

    run: RunRecord
    tasks: int
    seed: int
    found: FoundRecord


@dataclass(frozen=True)
class CreditStudy:
    """A study with every case's credit for every step, beside the step's truth."""

    name: str
    record: StudyRecord
    known: pd.DataFrame

    @property
    def verdict(self) -> str:
        """Whether the policy can read, with true minus signs."""
        return re.sub(r"(?<!\w)-(?=\d)", "−", self.record.found.verdict)

    @property
    def causeless(self) -> bool:
        """Whether no step has an effect."""
        return self.record.run.suite == _CAUSELESS


def load_credit(folder: Path) -> list[CreditStudy]:
    """The complete credit studies beside the folder's variants.

    Raises:
        PaperError: one cannot be read.
    """
    root = folder / CREDIT
    return [_load(path.parent) for path in sorted(root.glob(f"*/{_RECORD}"))] if root.is_dir() else []


def _load(folder: Path) -> CreditStudy:
    try:
        record = StudyRecord.model_validate(json.loads((folder / _RECORD).read_text(encoding="utf-8")))
        steps, credits = (pd.read_parquet(folder / name) for name in (_STEPS, _CREDITS))
        known = credits[credits["served"]].merge(steps[steps["mixed"]], on=["task_id", "trajectory", "step"])
    except (OSError, ValueError, KeyError, ValidationError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise PaperError(f"the credit study in {folder} cannot be read ({reason}); make it again") from error
    return CreditStudy(folder.name, record, known)


def credit_tables(studies: Sequence[CreditStudy]) -> list[Table]:
    """Fidelity, where steps have effects, choices where they were studied, and leakage."""
    tables = []
    for study in studies:
        if not study.causeless:
            tables.append(_fidelity(study))
            if study.record.found.gradients:
                tables.append(_gradients(study))
            if study.record.found.choices:
                tables.append(_choices(study))
        tables.append(_leakage(study))
    return tables


def _fidelity(study: CreditStudy) -> Table:
    rows = tuple(
        (
            row.case,
            row.trajectories,
            row.rank.ranged(),
            p_text(row.p_rank),
            None if row.corrected is None else Ranged(row.corrected),
            row.sign.ranged(0.0),
            row.top.ranged(),
            row.idle.ranged(0.0),
        )
        for row in study.record.found.measured
    )
    header = ("Case", "Episodes", "Rank", "p (Holm)", "Corrected", "Sign", "Top less chance", "Idle mass")
    notes = (
        study.verdict[0].upper() + study.verdict[1:] + ".",
        f"{study.record.found.steps} steps, standard error of their true advantage {study.record.found.stderr:.3f}.",
        "Rank: Spearman's correlation of credit with A*, within trajectories; corrected: divided by its ceiling, from "
        "split halves. Sign: steps with a measurable effect to which the credit gives its sign; none is half a yes. "
        "Top less chance: how often the step with the most credit is the best one. Idle mass: share of the credit on "
        "steps without a measurable effect.",
        _OVER,
    )
    return Table(f"fidelity-{study.name}", f"{study.name}: does credit say what steps caused?", header, rows, notes)


def _gradients(study: CreditStudy) -> Table:
    rows = tuple((row.case, row.cosine.ranged(), row.noise.ranged(0.0, inf)) for row in study.record.found.gradients)
    notes = (
        "Policy gradients of each step's action, weighted by its mean credit. Cosine: with the gradient that the true "
        "step advantages make of the same steps. Noise: variance of the mean over tasks, relative to its squared "
        "length.",
        _OVER,
    )
    title = f"{study.name}: does credit move the policy where the truth would?"
    return Table(f"gradients-{study.name}", title, ("Case", "Cosine", "Noise"), rows, notes)


def _choices(study: CreditStudy) -> Table:
    rows = tuple(
        (row.arm, row.gap.count, row.gap.ranged(0.0), row.teacher.ranged(0.0), row.student.ranged(0.0))
        for row in study.record.found.choices
    )
    notes = (
        study.verdict[0].upper() + study.verdict[1:] + ".",
        "Of a state's likeliest actions, the share of pairs, apart beyond their noise, of which the better one has the "
        "larger score; a half by chance. Gap: teacher's less student's log-probability. The teacher's is the student's "
        "and the gap together.",
        _OVER,
    )
    header = ("Hindsight", "Pairs", "By the gap", "By the teacher", "By the student")
    title = f"{study.name}: does a teacher rank the actions of a state as they are worth?"
    return Table(f"choices-{study.name}", title, header, rows, notes)


def _leakage(study: CreditStudy) -> Table:
    rows = tuple(
        (
            row.case,
            row.leak.ranged(),
            row.explained.ranged(0.0),
            row.thought.ranged(0.0),
            row.refused.ranged(),
            row.parting.ranged(),
        )
        for row in study.record.found.measured
    )
    header = ("Case", "Leak", "Explained by outcome", "On reasoning", "On refused steps", "On the parting step")
    notes = (
        study.verdict[0].upper() + study.verdict[1:] + ".",
        "Leak: partial rank correlation of credit with the outcome, given A* and the step's place. Explained by "
        "outcome: share of the steps' variance in credit within a task. On reasoning: share of the credit's mass. On "
        "refused steps, and on the first step that a successful peer did otherwise: share of the actions' credit, less "
        "the share of steps.",
        _OVER,
    )
    return Table(f"leakage-{study.name}", f"{study.name}: what is in credit beside causes", header, rows, notes)


def credit_sentences(studies: Sequence[CreditStudy]) -> Iterator[str]:
    """What each study found, its first line first."""
    for study in studies:
        found = study.record.found
        yield f"{study.name}: {study.verdict}."
        if study.causeless:
            yield from _without_causes(study)
            continue
        if found.told is not None:
            told = found.told.ranged(-1e9, 1e9)
            more = f"{range_text(told)} nats more than a placebo"
            yield f"{study.name}: of a successful episode's actions a peer's block says {more}."
        yield _separable(study)
        if found.beyond:
            yield f"{study.name}: the credit of {_compared(found.beyond)}."


def _separable(study: CreditStudy) -> str:
    sure = [row for row in study.record.found.measured if row.p_rank is not None and row.p_rank < 0.05]
    right = [f"{row.case} ({range_text(row.rank.ranged())})" for row in sure if (row.rank.value or 0.0) > 0.0]
    wrong = [f"{row.case} ({range_text(row.rank.ranged())})" for row in sure if (row.rank.value or 0.0) < 0.0]
    said = (
        f"{study.name}: of {counted(len(study.record.found.measured), 'case')}, credit ranks steps as they were worth"
    )
    said += f" under {', '.join(right)}" if right else " under none"
    return said + (f", and the other way round under {', '.join(wrong)}" if wrong else "") + " (Holm, 5%)."


def _compared(beyond: dict[str, Number]) -> str:
    said: dict[str, list[str]] = {"better": [], "worse": [], "neither better nor worse, as far as can be shown,": []}
    better, worse, neither = said.values()
    for method, number in beyond.items():
        kind = better if (number.low or 0.0) > 0.0 else worse if (number.high or 0.0) < 0.0 else neither
        kind.append(f"{method} ({range_text(number.ranged())})")
    parts = (
        f"{listed(methods)} ranks steps {how} under a peer than under a placebo"
        for how, methods in said.items()
        if methods
    )
    return "; that of ".join(parts)


def _without_causes(study: CreditStudy) -> Iterator[str]:
    shares: dict[str, list[float]] = {}
    for row in study.record.found.measured:
        if row.explained.value is not None:
            shares.setdefault(row.case.partition(":")[0], []).append(row.explained.value)
    if shares:
        said = ", ".join(f"{method} {_extent(found)}" for method, found in shares.items())
        yield f"{study.name}: no step has an effect; of the steps' variance in credit the outcome explains: {said}."


def _extent(values: list[float]) -> str:
    """Over arms."""
    low, high = (f"{end:.2f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def credit_plots(studies: Sequence[CreditStudy]) -> list[Plot]:
    """Ranks with the ceiling, and credit against the truth."""
    plots = []
    for study in studies:
        if study.causeless or not any(row.rank.value is not None for row in study.record.found.measured):
            continue
        ranks = (
            f"{study.name}: rank correlation of credit with A*, within trajectories, 95% over tasks. Dashed: the "
            "ceiling that A*'s own noise sets."
        )
        against = (
            f"{study.name}: credit, in standard deviations, against what the step was truly worth; a dot a step, those "
            "of failed episodes crossed."
        )
        plots += [
            Plot(f"ranks-{study.name}", ranks, partial(_draw_ranks, study)),
            Plot(f"scatter-{study.name}", against, partial(_draw_scatter, study)),
        ]
    return plots


def _draw_ranks(study: CreditStudy) -> Figure:
    rows = [row for row in study.record.found.measured if row.rank.value is not None]
    figure = Figure(figsize=(WIDTH, min(0.7 + 0.15 * len(rows), _TALLEST)), layout="constrained")
    axes = figure.subplots()
    methods = list(dict.fromkeys(row.case.partition(":")[0] for row in rows))
    for place, row in enumerate(rows):
        found, style = row.rank.ranged(), style_of(methods.index(row.case.partition(":")[0]))
        axes.plot([found.low, found.high], [place, place], color=style.colour, linewidth=1.4)
        axes.plot([found.value], [place], style.marker, color=style.colour, markersize=4.2)
    ceilings = [row.ceiling for row in rows if row.ceiling is not None]
    if ceilings:
        axes.axvline(max(ceilings), color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.case for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.set_xlabel("Rank correlation with A*")
    return figure


def _draw_scatter(study: CreditStudy) -> Figure:
    cases = [case for case in _SCATTERED if (study.known["case"] == case).any()]
    figure = Figure(figsize=(WIDTH, 2.1), layout="constrained")
    for axes, case in zip(figure.subplots(1, len(cases), squeeze=False, sharex=True)[0], cases, strict=True):
        _scatter(axes, study.known[study.known["case"] == case], case)
    return figure


def _scatter(axes: Axes, own: pd.DataFrame, case: str) -> None:
    shown = own.iloc[:: max(1, len(own) // _DOTS)]
    spread = float(np.std(own["credit"])) or 1.0
    for won, marker in ((True, "o"), (False, "x")):
        part = shown[shown["success"] == won]
        colour = COLOURS[0] if won else COLOURS[1]
        axes.scatter(
            part["advantage"], part["credit"] / spread, s=5, marker=marker, color=colour, alpha=0.35, linewidth=0.5
        )
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.axvline(0, color=GREY, linewidth=0.6)
    axes.set_title(case)
    axes.set_xlabel("A*")
