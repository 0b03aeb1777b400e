"""Where a printed cell comes from: its runs, its panel, and its arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stepcredit.paper.capability import capability_tables
from stepcredit.paper.errors import PaperError
from stepcredit.paper.render import plain_text
from stepcredit.paper.report import report_of
from stepcredit.paper.results import BASELINE, Run, Study, load_study
from stepcredit.paper.statistics import Estimate, Interval
from stepcredit.paper.tables import BEFORE, Cell, Score, Table
from stepcredit.paper.words import counted

_HOW = {
    Interval.CROSSED: "of seeds and tasks, both a sample: V = max(MS_seeds + MS_tasks - MS_rest, MS_tasks) / n; "
    "Student's quantile, and for a rate Wilson's formula with p (1 - p) / V trials (stepcredit/paper/crossed.py)",
    Interval.T_SEEDS: "Student's t over the seeds' differences, no narrower than Student's t of the episodes' "
    "noise, of variance MS_rest / n (stepcredit/paper/crossed.py, paired_means)",
    Interval.WILSON_TASKS: "Wilson's score interval over the tasks of one evaluation",
    Interval.CLUSTERED_TASKS: "Wilson's score interval with p (1 - p) / V trials, V the variance over the tasks of one "
    "evaluation (stepcredit/paper/crossed.py, clustered_rate)",
    Interval.T_TASKS: "Student's t over the tasks of one seed, which says nothing of other seeds",
}


def explain(folder: Path, table: str, row: str, column: str) -> Iterator[str]:
    """Lines about one cell of a study's tables.

    Raises:
        PaperError: there is no such table, row or column, or the study cannot be shown.
    """
    study = load_study(folder)
    tables = {one.name: one for one in report_of(study, capability_tables(study, folder)).tables}
    found = _of(f"table of {folder}", table, list(tables))
    own = tables[found]
    rows = {str(line[0]): line for line in own.rows}
    line, place = rows[_of(f"row of table {found}", row, list(rows))], _column(own, column)
    yield f"{found}, {line[0]}, {own.header[place]}: {plain_text(line[place])}"
    yield from _arithmetic(line[place])
    yield from (f"note: {note}" for note in own.notes)
    yield from _runs(study, folder, str(line[0]))
    if found == "differences":
        yield from (f"against {said}" for said in _runs(study, folder, study.label(BASELINE)))


def _arithmetic(cell: Cell) -> Iterator[str]:
    if isinstance(cell, Score):
        estimate = cell.estimate
        yield f"mean: {_mean(estimate)}"
        yield f"interval: 95%, {estimate.low!r} to {estimate.high!r}: {_HOW[estimate.interval]}"


def _mean(estimate: Estimate) -> str:
    """Each seed's successes of its episodes, or wins less losses of its pairs."""
    each = estimate.n // estimate.seeds
    parts = " + ".join(f"{round(share * each)}/{each}" for share in estimate.by_seed)
    whole = all(abs(share * each - round(share * each)) < 1e-9 for share in estimate.by_seed)
    if not whole:
        parts = " + ".join(f"{share:.6f}" for share in estimate.by_seed)
    return f"({parts}) / {estimate.seeds} = {estimate.mean:.6f}, a term for each of {counted(estimate.seeds, 'seed')}"


def _runs(study: Study, folder: Path, label: str) -> Iterator[str]:
    known = {study.label(method): study.of(method) for method in study.methods}
    runs = study.runs if label == BEFORE else known.get(label, ())
    for run in runs:
        yield f"run: {folder / run.cell}, {_hashes(run)}"


def _hashes(run: Run) -> str:
    names = {"episodes": run.manifest.files.get("episodes.parquet"), "weights": run.manifest.final_weights_sha256}
    hashes = ", ".join(f"{name} sha256 {value[:12]}" for name, value in names.items() if value)
    return f"{hashes}, code {(run.manifest.git_commit or 'unknown')[:12]}"


def _column(table: Table, column: str) -> int:
    header = [name.rstrip("°") for name in table.header]
    return header.index(_of(f"column of table {table.name}", column.rstrip("°"), header))


def _of(what: str, wanted: str, known: list[str]) -> str:
    """The known name that is meant, whatever its case."""
    found = [name for name in known if name.casefold() == wanted.casefold()]
    if not found:
        raise PaperError(f"{wanted!r} is no {what}; known are {', '.join(known)}")
    return found[0]
