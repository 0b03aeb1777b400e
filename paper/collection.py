"""The report of a folder of studies: arms of hindsight, StepOPSD's knobs, credit held against the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote

from stepcredit.paper.ailments import health_tables
from stepcredit.paper.arms import arm_sentences, arm_tables
from stepcredit.paper.credit import CreditStudy, credit_plots, credit_sentences, credit_tables, load_credit
from stepcredit.paper.crossings import arm_plots, crossing_plot, crossing_sentences, crossing_table, crossings
from stepcredit.paper.errors import PaperError
from stepcredit.paper.knobs import knob_plots, knob_sentences, knob_tables
from stepcredit.paper.origin import read_origin
from stepcredit.paper.report import Report, Step
from stepcredit.paper.tables import Digest, Table
from stepcredit.paper.variants import Collection, Variant, load_collection
from stepcredit.paper.words import counted, listed

TITLE = "What is in the credit: causes, or hindsight talking?"
PLAIN_TITLE = "Variants of methods under identical seeds"


def collection_report(folder: Path) -> Report:
    """Everything that the folder's report says.

    Raises:
        PaperError: nothing is complete, or results that do not belong together.
    """
    found, credit = load_collection(folder), load_credit(folder)
    if not found.variants and not credit:
        raise PaperError(f"{folder} holds no complete run and no complete credit study; finish its study first")
    crossed = crossings(found)
    variants = [*map(crossing_table, crossed)]
    about_runs = [*_health(found), *_provenance(found)]
    tables = [*credit_tables(credit), *arm_tables(found), *knob_tables(found), *variants, *about_runs]
    plots = [*credit_plots(credit), *arm_plots(found), *knob_plots(found), *map(crossing_plot, crossed)]
    told = [sentence for crossing in crossed for sentence in crossing_sentences(crossing)]
    leaks = (*credit_sentences(credit), *arm_sentences(found))
    return Report(
        title=TITLE if leaks else PLAIN_TITLE,
        subtitle=f"{found.name} · {_extent(found, credit)}",
        summary=(*leaks, *knob_sentences(found), *told),
        protocol=tuple(_protocol(found, credit)),
        tables=tuple(tables),
        plots=tuple(plots),
        skipped=tuple(f"{skipped.cell}: {skipped.reason}" for skipped in found.skipped),
        again=tuple(_again(folder)),
        order=_order(tables, [plot.name for plot in plots]),
    )


def _extent(found: Collection, credit: Sequence[CreditStudy]) -> str:
    runs = sum(len(variant.study.runs) for variant in found.variants)
    parts = [counted(runs, "run")] if runs else []
    if credit:
        parts.append(counted(len(credit), "credit study", "credit studies"))
    return listed(parts)


def _order(tables: Sequence[Table], plots: Sequence[str]) -> tuple[str, ...]:
    """Figures follow the table of their study; what has none comes last."""
    order = []
    for table in tables:
        if table.name != "provenance":
            kind, _, study = table.name.partition("-")
            order.append(table.name)
            if kind == "fidelity":
                order += [plot for plot in plots if plot.endswith(f"-{study}")]
    return (*order, *(plot for plot in plots if plot not in order))


def _protocol(found: Collection, credit: Sequence[CreditStudy]) -> Iterator[tuple[str, str]]:
    for study in credit:
        record = study.record
        yield (
            study.name,
            f"policy {record.run.model}, {counted(record.tasks, 'held-out task')}, seed {record.seed}; "
            f"{record.found.steps} steps of groups with successes and failures",
        )
    for tasks in found.tasks:
        first = next(variant for variant in found.variants if variant.tasks == tasks).study
        spec, held_out = first.manifest.spec, first.manifest.panels.eval
        drawn = counted(first.trajectories, "trajectory", "trajectories")
        yield (
            tasks,
            f"policy {spec.model}, {counted(spec.updates, 'update')} of {drawn}; held out: split {held_out.split}, "
            f"{counted(held_out.size, 'task')}, sha256 {held_out.sha256[:10]}",
        )


def _health(found: Collection) -> list[Table]:
    runs = [(variant, run) for variant in found.variants for run in variant.study.runs]
    return health_tables([(", ".join((run.cell, *_named(variant))), run) for variant, run in runs])


def _named(variant: Variant) -> list[str]:
    return [f"{name} {value}" for name, value in variant.axes.items()]


def _provenance(found: Collection) -> Iterator[Table]:
    rows = tuple(
        (
            run.cell,
            ", ".join(_named(variant)) or "—",
            Digest(run.manifest.spec_sha256),
            Digest(run.manifest.final_weights_sha256) if run.manifest.final_weights_sha256 else None,
            (run.manifest.git_commit or "unknown")[:7],
        )
        for variant in found.variants
        for run in variant.study.runs
    )
    if rows:
        header = ("Cell", "Variant", "Spec", "Final weights", "Code")
        yield Table("provenance", "Provenance", header, rows, ("Hashes are sha256, whole in the CSV.",))


def _again(folder: Path) -> Iterator[Step]:
    origin = read_origin(folder)
    if origin is not None:
        yield Step("These commands make all of it; run again, they do only what is missing:", origin.commands)
    named = origin.folder if origin else str(folder)
    yield Step("The report alone, from the recorded results:", (f"stepcredit paper {quote(named)}",))
