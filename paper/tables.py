"""The tables, as data: what each cell is, not how it is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import nan

from stepcredit.paper.aggregates import (
    ALL,
    FOREIGN,
    TRAINED,
    column_name,
    difference_to_baseline,
    final_metric,
    final_success,
    initial_metric,
    initial_success,
    leaders,
    learning,
    rivals,
    subset_columns,
)
from stepcredit.paper.manifest import SpecRecord
from stepcredit.paper.results import Run, Study
from stepcredit.paper.statistics import Estimate, Interval, detectable, holm, seeds_for
from stepcredit.paper.words import counted, listed

BEFORE = "Before training"
INTERVAL_NOTES = {
    Interval.CROSSED: "Intervals of rates and changes are 95%, over seeds and tasks: where the mean of other runs on "
    "other such tasks would lie.",
    Interval.T_SEEDS: "Intervals of differences are 95%, Student's t over seeds on this panel, no narrower than "
    "that of the episodes' noise.",
    Interval.WILSON_TASKS: "Of one set of weights the interval is Wilson's 95%, over tasks.",
    Interval.CLUSTERED_TASKS: "Of one set of weights the interval is Wilson's 95%, over tasks, whose episodes count as "
    "many as their spread over tasks makes them worth.",
    Interval.T_TASKS: "Within one seed a difference or a mean has a 95% Student-t interval over tasks: no verdict.",
}


@dataclass(frozen=True, slots=True)
class Score:
    """A rate, or a signed difference of rates; `best` where it is its column's best or not separable from it."""

    estimate: Estimate
    signed: bool = False
    best: bool = False


@dataclass(frozen=True, slots=True)
class Quoted:
    """A rate as somebody printed it, in percent: nothing else is known of it."""

    percent: float


@dataclass(frozen=True, slots=True)
class Ranged:
    """A number as it is, not in points, with its 95% interval; NaN where there is none."""

    value: float
    low: float = nan
    high: float = nan
    signed: bool = True


@dataclass(frozen=True, slots=True)
class Digest:
    """A hash, printed short and stored whole."""

    hexdigest: str


Cell = str | int | float | Score | Quoted | Ranged | Digest | None


@dataclass(frozen=True, slots=True)
class Table:
    """A named table; None is a cell without data."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]


def all_tables(study: Study) -> list[Table]:
    """Every table that the study has data for, in the order of the report."""
    tables = [subset_table(study)]
    if "f1" in study.metrics:
        tables += [f1_table(study), search_table(study)]
    tables.append(learning_table(study))
    if rivals(study):
        tables.append(difference_table(study))
    return [*tables, provenance_table(study)]


def subset_table(study: Study) -> Table:
    """Success after training, by method and subset."""
    title = f"{study.score} on the held-out panel after training (%)"
    table = _rates_table(study, "success", title, partial(initial_success, study), partial(final_success, study))
    best = [leaders(study, subset) for subset in subset_columns(study)]
    if not any(best):
        return table
    first, *others = table.rows
    marked = tuple(_marked(row, [m in own for own in best]) for m, row in zip(study.methods, others, strict=True))
    note = "Bold: the best of its column, and all that are not separable from it (paired, Holm's p at least 0.05)."
    return replace(table, rows=(first, *marked), notes=(*table.notes, note))


def _marked(row: Sequence[Cell], best: Sequence[bool]) -> tuple[Cell, ...]:
    """The row with its last cells marked where they are the best."""
    named, cells = row[: -len(best)], row[-len(best) :]
    pairs = zip(cells, best, strict=True)
    return (*named, *(replace(cell, best=True) if mark and isinstance(cell, Score) else cell for cell, mark in pairs))


def f1_table(study: Study) -> Table:
    """Token F1 after training, by method and subset."""
    return _rates_table(
        study,
        "f1",
        "Token F1 on the held-out panel after training (%)",
        lambda subset: initial_metric(study, "f1", subset),
        lambda method, subset: final_metric(study, method, "f1", subset),
    )


def _rates_table(
    study: Study,
    name: str,
    title: str,
    initial: Callable[[str], Estimate | None],
    final: Callable[[str, str], Estimate | None],
) -> Table:
    """A row before training, one a method after it; `initial` takes a subset, `final` a method and a subset."""
    columns = subset_columns(study)
    before = [initial(subset) for subset in columns]
    after = {method: [final(method, subset) for subset in columns] for method in study.methods}
    rows: list[tuple[Cell, ...]] = [(BEFORE, None, *map(scored, before))]
    rows += [(study.label(m), len(study.of(m)), *map(scored, estimates)) for m, estimates in after.items()]
    estimates = [*before, *(estimate for row in after.values() for estimate in row)]
    notes = (setting_note(study), *column_notes(study), *interval_notes(estimates))
    return Table(name, title, _header(study), tuple(rows), notes)


def search_table(study: Study) -> Table:
    """What the searches found, by method."""
    rows: list[tuple[Cell, ...]] = [(BEFORE, None, *_searched(partial(initial_metric, study)))]
    rows += [
        (study.label(method), len(study.of(method)), *_searched(partial(final_metric, study, method)))
        for method in study.methods
    ]
    header = ("Method", "Seeds", "Answered (%)", "Title found (%)", "Gold found (%)", "Searches", "Invalid turns")
    notes = (
        setting_note(study),
        "Title found: a supporting title was among the passages; Gold found: a passage held a gold answer.",
        "Searches and invalid turns: means per episode.",
        *interval_notes(cell.estimate for row in rows for cell in row if isinstance(cell, Score)),
    )
    return Table("searches", "What the searches found", header, tuple(rows), notes)


def _searched(metric: Callable[[str], Estimate | None]) -> tuple[Cell, ...]:
    shares = [scored(metric(name)) for name in ("answered", "title_found", "gold_found")]
    means = [metric(name) for name in ("searches", "invalid_turns")]
    return (*shares, *(estimate.mean if estimate else None for estimate in means))


def _header(study: Study) -> tuple[str, ...]:
    return ("Method", "Seeds", *(column_name(study, subset) for subset in subset_columns(study)))


def column_notes(study: Study) -> tuple[str, ...]:
    """What the columns beside the subsets are, and which subsets are out of distribution."""
    notes = (f"{ALL}: over episodes, not a mean of subset means.",)
    if not study.foreign_subsets:
        return notes
    trained = ", ".join(name for name in study.subsets if name not in study.foreign_subsets)
    return (f"° out of distribution: no training task is from it. {TRAINED}: {trained}; {FOREIGN}: the others.", *notes)


def learning_table(study: Study) -> Table:
    """Success after training minus before, by method."""
    rows: list[tuple[Cell, ...]] = []
    estimates: list[Estimate | None] = []
    for method in study.methods:
        change = learning(study, method)
        estimates += [initial_success(study), final_success(study, method), change]
        rows.append(
            (
                study.label(method),
                len(study.of(method)),
                scored(initial_success(study)),
                scored(final_success(study, method)),
                scored(change, signed=True),
                _by_seed(change),
                _verdict(change),
            )
        )
    header = ("Method", "Seeds", "Before", "After", "Change", "Change by seed", "Interval excludes 0")
    notes = (
        setting_note(study),
        "Change: same seed and same task, after minus before, in points.",
        *interval_notes(estimates),
    )
    return Table("learning", "What training changed", header, tuple(rows), notes)


def difference_table(study: Study) -> Table:
    """Paired differences to GRPO, by method and subset; the last columns are of all episodes."""
    columns, methods = subset_columns(study), rivals(study)
    found = {m: [difference_to_baseline(study, m, subset) for subset in columns] for m in methods}
    p_values = [None if own[-1] is None else own[-1].p_value for own in found.values()]
    rows = tuple(
        (
            study.label(method),
            own[-1].seeds if own[-1] else 0,
            *(scored(cell, signed=True) for cell in own),
            p_text(p),
            p_text(corrected),
        )
        for (method, own), p, corrected in zip(found.items(), p_values, holm(p_values), strict=True)
    )
    notes = (
        setting_note(study),
        "Each episode is paired with GRPO's on the same seed and task; n counts pairs.",
        f"p: of no difference over {ALL}, with Holm's correction over the table's methods. Subsets are exploratory.",
        *power_notes([own[-1] for own in found.values()]),
        *(column_notes(study) if study.foreign_subsets else ()),
        *interval_notes(cell for own in found.values() for cell in own),
    )
    return Table("differences", "Difference to GRPO (points)", (*_header(study), "p", "p (Holm)"), rows, notes)


def p_text(value: float | None) -> str | None:
    """Three decimals."""
    return None if value is None else "<0.001" if value < 0.0005 else f"{value:.3f}"


def power_notes(differences: Iterable[Estimate | None]) -> tuple[str, ...]:
    """What differences such a study finds, by the method whose seeds differ most; nothing for one seed."""
    known = [own.errors for own in differences if own is not None and own.errors is not None]
    worst = max(known, key=detectable, default=None)
    if worst is None or not detectable(worst):
        return ()
    least, seeds = 100 * detectable(worst), seeds_for(0.05, worst)
    return (
        f"With {counted(worst.seeds, 'seed')} a true difference of {least:.1f} points is found in 80% of studies (at "
        f"5%, two-sided, for the method that varies most); 5 points need {counted(seeds, 'seed')}.",
    )


def provenance_table(study: Study) -> Table:
    """Where every number comes from, and which runs were reproduced."""
    runs = sorted([*study.runs, *study.replicates], key=lambda run: run.cell)
    header = ("Cell", "Spec", "Panel", "Update-0 rollouts", "Final weights", "Code", "Reproduced?")
    rows = tuple(
        (
            run.cell,
            Digest(run.manifest.spec_sha256),
            Digest(run.manifest.panels.eval.sha256),
            _digest(run.manifest.update0_rollouts_sha256),
            _digest(run.manifest.final_weights_sha256),
            _code(run),
            _reproduced(study, run),
        )
        for run in runs
    )
    notes = (
        "Hashes are sha256, first 10 digits here, whole in the CSV. A replicate is in no aggregate.",
        "Within each seed, all methods drew the same rollouts at update 0."
        if same_start(study)
        else "WARNING: the methods of a seed are not known to have drawn the same rollouts at update 0.",
    )
    return Table("provenance", "Provenance", header, rows, notes)


def setting_note(study: Study) -> str:
    """Panel, split, checkpoint rule, temperature and grammar: what a number means nothing without."""
    manifest, spec = study.manifest, study.manifest.spec
    panel = manifest.panels.eval
    return (
        f"Panel: {spec.tasks_name}, split {panel.split}, {counted(panel.size, 'task')}, each {_often(spec)}, "
        f"sha256 {panel.sha256[:10]}. Checkpoint: {manifest.selection}. "
        f"Evaluation temperature {spec.evaluation.temperature:g}. {world_note(study)}.{_stopped_note(study)}"
    )


def _stopped_note(study: Study) -> str:
    """Which runs are missing because they collapsed: without them means are of those that did not."""
    stopped = [own.cell for own in study.skipped if own.stopped]
    if not stopped:
        return ""
    return f" Stopped early, and in no number here: {listed(stopped)}; means are of the runs that were not stopped."


def _often(spec: SpecRecord) -> str:
    """How many episodes of a task an evaluation has, that tables are made of."""
    return "once" if spec.evaluation.samples == 1 else f"{spec.evaluation.samples} times"


def world_note(study: Study) -> str:
    """What the environment's answers depend on: the text grammar, or the retriever and its corpus."""
    manifest = study.manifest
    if "corpus_sha256" not in manifest.data:
        return f"Grammar {manifest.grammar or 'not recorded'}"
    engine, topk = manifest.data.get("engine", "unknown"), manifest.spec.env_options.get("topk")
    return f"Retriever {engine}, top {topk}, corpus sha256 {manifest.data['corpus_sha256'][:10]}"


def scored(estimate: Estimate | None, *, signed: bool = False) -> Score | None:
    """The cell of an estimate."""
    return Score(estimate, signed) if estimate is not None else None


def interval_notes(estimates: Iterable[Estimate | None]) -> tuple[str, ...]:
    """What the intervals among `estimates` are taken over."""
    seen = [estimate for estimate in estimates if estimate is not None]
    kinds = {estimate.interval for estimate in seen}
    notes = [note for kind, note in INTERVAL_NOTES.items() if kind in kinds]
    if any(estimate.degenerate for estimate in seen):
        notes.append("An interval without width: all values are equal, so there is no spread to estimate noise from.")
    return tuple(notes)


def same_start(study: Study) -> bool:
    """Whether, within each seed, all methods drew the same rollouts before the first update."""
    starts: dict[int, set[str | None]] = {}
    for run in study.runs:
        starts.setdefault(run.spec.seed, set()).add(run.manifest.update0_rollouts_sha256)
    return all(len(hashes) == 1 and None not in hashes for hashes in starts.values())


def _reproduced(study: Study, run: Run) -> str | None:
    """The verdict on a replicate, shown at the replicate and at its original."""
    if run.manifest.replicate_of is not None:
        original = next((other for other in study.runs if other.cell == run.manifest.replicate_of), None)
        return same_bits(original, run) if original else f"{run.manifest.replicate_of} is missing"
    verdicts = [same_bits(run, other) for other in study.replicates if other.manifest.replicate_of == run.cell]
    return "; ".join(dict.fromkeys(verdicts)) or None


def same_bits(run: Run, other: Run) -> str:
    """`yes, bit for bit`, or what differs."""
    checks: list[tuple[str, Callable[[Run], object]]] = [
        ("update-0 rollouts", lambda r: r.manifest.update0_rollouts_sha256),
        ("final weights", lambda r: r.manifest.final_weights_sha256),
        ("episodes", lambda r: r.manifest.files["episodes.parquet"]),
        ("updates", lambda r: r.manifest.files["updates.parquet"]),
    ]
    differing = [name for name, value in checks if value(run) != value(other)]
    return f"no: {', '.join(differing)} differ" if differing else "yes, bit for bit"


def _digest(value: str | None) -> Digest | None:
    return Digest(value) if value else None


def _code(run: Run) -> str:
    commit = (run.manifest.git_commit or "unknown")[:7]  # `unknown` too where it goes on with a reason
    return f"{commit}+changes" if run.manifest.git_dirty else commit


def _by_seed(estimate: Estimate | None) -> str | None:
    return ", ".join(f"{100 * value:+.1f}".replace("-", "−") for value in estimate.by_seed) if estimate else None


def _verdict(estimate: Estimate | None) -> str | None:
    """One seed says nothing of others."""
    if estimate is None or estimate.seeds < 2:
        return None
    return "yes" if estimate.excludes_zero else "no"
