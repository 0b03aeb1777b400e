"""Was a study reproduced? Cell by cell: the same bits, and if not, the same success within noise."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from stepcredit.paper.render import rate_text
from stepcredit.paper.results import EPISODES, UPDATES, Run, Study, load_study
from stepcredit.paper.statistics import Estimate, paired_difference


class Verdict(StrEnum):
    """How a cell relates to its reference."""

    IDENTICAL = "reproduced bit for bit"
    CONSISTENT = "other bits, same success within noise"
    DIFFERENT = "other success"
    OTHER_SPEC = "not comparable: another spec or panel"
    MISSING = "missing in this study"
    NEW = "not in the reference"


@dataclass(frozen=True, slots=True)
class CellComparison:
    """One cell in both studies. The equalities and the difference are None where there is nothing to compare.

    `episodes_equal` and `updates_equal` compare rows, not bytes: another parquet writer stores equal rows in
    other bytes. `difference` is this study's final success minus the reference's on the same tasks.
    """

    cell: str
    verdict: Verdict
    update0_equal: bool | None = None
    final_weights_equal: bool | None = None
    episodes_equal: bool | None = None
    updates_equal: bool | None = None
    difference: Estimate | None = None

    def __str__(self) -> str:
        if self.verdict not in (Verdict.CONSISTENT, Verdict.DIFFERENT):
            return f"{self.cell}: {self.verdict}"
        parts = {
            "update-0 rollouts": self.update0_equal,
            "final weights": self.final_weights_equal,
            "episodes": self.episodes_equal,
            "updates": self.updates_equal,
        }
        differing = ", ".join(name for name, equal in parts.items() if not equal)
        gap = f"; success {rate_text(self.difference, signed=True, unit=' points')}" if self.difference else ""
        return f"{self.cell}: {self.verdict} ({differing} differ{gap})"


def compare(study: Path, reference: Path) -> list[CellComparison]:
    """Compare every cell of two studies, sorted by cell.

    This study's replicates are compared too; the reference's are not asked for, nobody has to repeat a repetition.

    Raises:
        PaperError: either study is damaged or holds no complete run.
    """
    asked = load_study(reference)
    ours, theirs = _by_cell(load_study(study)), _by_cell(asked)
    cells = sorted(ours.keys() | {run.cell for run in asked.runs})
    return [_compared(cell, ours.get(cell), theirs.get(cell)) for cell in cells]


def _by_cell(study: Study) -> dict[str, Run]:
    return {run.cell: run for run in (*study.runs, *study.replicates)}


def _compared(cell: str, run: Run | None, reference: Run | None) -> CellComparison:
    if run is None or reference is None:
        return CellComparison(cell, Verdict.MISSING if run is None else Verdict.NEW)
    if _identity(run) != _identity(reference):
        return CellComparison(cell, Verdict.OTHER_SPEC)
    ours, theirs = run.manifest, reference.manifest
    equal = {
        "update0_equal": ours.update0_rollouts_sha256 == theirs.update0_rollouts_sha256,
        "final_weights_equal": ours.final_weights_sha256 == theirs.final_weights_sha256,
        "episodes_equal": _same(run, reference, EPISODES),
        "updates_equal": _same(run, reference, UPDATES),
    }
    difference = paired_difference(run.evaluation(run.spec.updates), reference.evaluation(run.spec.updates))
    return CellComparison(cell, _verdict(all(equal.values()), difference), **equal, difference=difference)


def _same(run: Run, other: Run, name: str) -> bool:
    """Of two files of results: equal bits, or equal rows in the columns that papers are made of."""
    if run.manifest.files.get(name) == other.manifest.files.get(name):
        return True
    if name == UPDATES:
        return run.updates.equals(other.updates)
    return run.evaluations.equals(other.evaluations) and run.training.equals(other.training)


def _identity(run: Run) -> tuple[str, str, str | None]:
    manifest = run.manifest
    return manifest.spec_sha256, manifest.panels.eval.sha256, manifest.grammar


def _verdict(identical: bool, difference: Estimate | None) -> Verdict:
    if identical:
        return Verdict.IDENTICAL
    return Verdict.DIFFERENT if difference is not None and difference.excludes_zero else Verdict.CONSISTENT
