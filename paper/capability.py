"""What the runs know and can do without their environment: the tables of `stepcredit capability`'s record."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from stepcredit.paper.aggregates import ALL, column_name
from stepcredit.paper.errors import PaperError
from stepcredit.paper.manifest import Section
from stepcredit.paper.results import Run, Study
from stepcredit.paper.statistics import Estimate, metric_mean, paired_difference, success_rate
from stepcredit.paper.tables import BEFORE, Cell, Table, interval_notes, scored
from stepcredit.paper.words import counted

FOLDER = "capability"
CHANGE = "Change"
_CLOSED_BOOK, _REGRESSION, _TEXT = "closed-book", "regression", "regression-text"
_COLUMNS = ("suite", "subset", "example_id", "metric", "value")


class Examination(Section):
    """What was asked; equal in all examinations of one table."""

    sha256: str
    lm_eval: str
    limit: int
    max_new_tokens: int


class _Record(Section):
    examination: Examination
    update: int
    file: str
    sha256: str
    spec_sha256: str | None = None
    weights_sha256: str | None = None


@dataclass(frozen=True)
class Capability:
    """The answers of a study's runs, and of the weights that they started from.

    Attributes:
        before: one row an example and metric.
        after: the same by method, with the run's `seed`.
        runs: how many runs were examined.
    """

    examination: Examination
    before: pd.DataFrame
    after: dict[str, pd.DataFrame]
    runs: int


def capability_tables(study: Study, folder: Path) -> tuple[Table, ...]:
    """Closed-book exact match and the regression suite; none where no run of the study was examined.

    Args:
        study: the runs.
        folder: where they are.

    Raises:
        PaperError: an examination is damaged, or they do not belong in one table.
    """
    capability = read_capability(study, folder)
    if capability is None:
        return ()
    tables = [_regression_table(study, capability)]
    if (capability.before["suite"] == _CLOSED_BOOK).any():
        tables.insert(0, _closed_book_table(study, capability))
    return tuple(tables)


def read_capability(study: Study, folder: Path) -> Capability | None:
    """Read and check the examinations of the study's runs; None where there is none.

    Raises:
        PaperError: as for `capability_tables`.
    """
    paths = {run.cell: folder / run.cell / FOLDER / f"after-u{study.updates}.json" for run in study.runs}
    examined = [run for run in study.runs if paths[run.cell].exists()]
    if not examined:
        return None
    records = {run.cell: _read_record(paths[run.cell]) for run in examined}
    first = records[examined[0].cell].examination
    for run in examined:
        _check(run, records[run.cell], first, examined[0])
    after: dict[str, list[pd.DataFrame]] = {}
    for run in examined:
        rows = _read_rows(paths[run.cell].parent, records[run.cell]).assign(seed=run.spec.seed)
        after.setdefault(run.spec.method, []).append(rows)
    before = _read_before(study, folder, first)
    return Capability(first, before, {name: pd.concat(rows) for name, rows in after.items()}, len(examined))


def _check(run: Run, record: _Record, first: Examination, first_run: Run) -> None:
    if record.examination != first:
        raise PaperError(
            f"{first_run.cell} and {run.cell} were examined with different questions or versions; "
            "run `stepcredit capability` on both with the same --limit"
        )
    if record.spec_sha256 != run.manifest.spec_sha256:
        raise PaperError(
            f"{run.cell} was examined as spec {str(record.spec_sha256)[:12]}, but it is "
            f"{run.manifest.spec_sha256[:12]}; run `stepcredit capability` on it again"
        )


def _read_before(study: Study, folder: Path, examination: Examination) -> pd.DataFrame:
    weights = str(study.manifest.policy.weights_sha256)
    path = folder / FOLDER / f"before-{weights[:12]}-{examination.sha256[:12]}.json"
    record = _read_record(path)
    if (record.weights_sha256, record.examination) != (weights, examination):
        raise PaperError(f"{path} is the examination of other weights or questions; run `stepcredit capability` again")
    return _read_rows(path.parent, record).assign(seed=0)


def _read_record(path: Path) -> _Record:
    try:
        return _Record.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise PaperError(f"cannot read {path}: {error.strerror}; run `stepcredit capability` again") from error
    except (ValueError, ValidationError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise PaperError(
            f"{path} is no record of an examination ({reason}); run `stepcredit capability` again"
        ) from error


def _read_rows(folder: Path, record: _Record) -> pd.DataFrame:
    path = folder / record.file
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise PaperError(f"{path} does not have the sha256 of its record; run `stepcredit capability` again")
        frame: pd.DataFrame = pq.read_table(io.BytesIO(data), columns=list(_COLUMNS)).to_pandas()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise PaperError(f"cannot read {path} ({reason}); run `stepcredit capability` again") from error
    return frame.rename(columns={"example_id": "task_id"})


def _closed_book_table(study: Study, capability: Capability) -> Table:
    header, rows, estimates = _rates(study, capability, _CLOSED_BOOK, "exact_match")
    examination = capability.examination
    notes = (
        "Closed book: the question alone, without search, by lm-eval; greedy, at most "
        f"{counted(examination.max_new_tokens, 'token')}, up to the end of the line. Exact match as in the reward; "
        f"at most {counted(examination.limit, 'question')} a dataset.",
        *(("° out of distribution: no training task is from it.",) if study.foreign_subsets else ()),
        *_common_notes(study, capability, estimates),
    )
    return Table("closed-book", "Closed-book exact match before and after training (%)", header, rows, notes)


def _regression_table(study: Study, capability: Capability) -> Table:
    header, rows, estimates = _rates(study, capability, _REGRESSION, "acc")
    texts = [_bits(capability.before), *(_bits(frame) for frame in _by_method(study, capability))]
    notes = (
        "A generated suite of the project's own: four choices of equal length, ranked by likelihood; chance is 25%. "
        "Bits per byte: mean over short English passages, lower is better.",
        *_common_notes(study, capability, [*estimates, *texts]),
    )
    return Table(
        "regression",
        "Capability regression: accuracy before and after training (%)",
        (*header, "Bits per byte"),
        tuple((*row, _plain(text)) for row, text in zip(rows, texts, strict=True)),
        notes,
    )


def _rates(
    study: Study, capability: Capability, suite: str, metric: str
) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...], list[Estimate | None]]:
    """Header, one row a method after that of the starting weights, and every estimate among the cells."""
    before = _of(capability.before, suite, metric)
    subsets = tuple(before["subset"].unique())
    first = [*(success_rate(part) for part in _parts(before, subsets)), None]
    estimates = [first]
    rows: list[tuple[Cell, ...]] = [(BEFORE, None, *map(scored, first))]
    for method, frame in zip(_methods(study, capability), _by_method(study, capability), strict=True):
        after = _of(frame, suite, metric)
        seeds = sorted(after["seed"].unique())
        change = paired_difference(after, pd.concat([before.assign(seed=seed) for seed in seeds]))
        cells = [success_rate(part) for part in _parts(after, subsets)]
        estimates.append([*cells, change])
        rows.append((study.label(method), len(seeds), *map(scored, cells), scored(change, signed=True)))
    header = ("Method", "Seeds", *(column_name(study, subset) for subset in subsets), ALL, CHANGE)
    return header, tuple(rows), [e for row in estimates for e in row]


def _of(frame: pd.DataFrame, suite: str, metric: str) -> pd.DataFrame:
    """The rows of one metric, in the shape that `stepcredit.paper.statistics` reads."""
    rows = frame[(frame["suite"] == suite) & (frame["metric"] == metric)]
    return rows.assign(success=rows["value"] == 1.0)


def _parts(frame: pd.DataFrame, subsets: Iterable[str]) -> list[pd.DataFrame]:
    return [*(frame[frame["subset"] == subset] for subset in subsets), frame]


def _bits(frame: pd.DataFrame) -> Estimate | None:
    rows = frame[(frame["suite"] == _TEXT) & (frame["metric"] == "bits_per_byte")]
    return metric_mean(rows, "value")


def _plain(estimate: Estimate | None) -> str | None:
    return f"{estimate.mean:.3f} ± {estimate.high - estimate.mean:.3f}" if estimate else None


def _methods(study: Study, capability: Capability) -> list[str]:
    return [method for method in study.methods if method in capability.after]


def _by_method(study: Study, capability: Capability) -> list[pd.DataFrame]:
    return [capability.after[method] for method in _methods(study, capability)]


def _common_notes(study: Study, capability: Capability, estimates: Iterable[Estimate | None]) -> tuple[str, ...]:
    examination = capability.examination
    left_out = len(study.runs) - capability.runs
    notes = [
        f"lm-eval {examination.lm_eval}, tasks sha256 {examination.sha256[:10]}; the last checkpoint of each run.",
        f"{CHANGE}: over all examples, same example before and after, in points.",
    ]
    if left_out:
        notes.append(f"Not examined and in no cell: {left_out} of {counted(len(study.runs), 'run')}.")
    return (*notes, *interval_notes(estimates))
