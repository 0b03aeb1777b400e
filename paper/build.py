"""From a study's folder to everything that is printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stepcredit.paper.capability import capability_tables
from stepcredit.paper.collection import collection_report
from stepcredit.paper.document import pdf
from stepcredit.paper.files import write_atomic
from stepcredit.paper.render import comma_separated, latex, markdown
from stepcredit.paper.report import Report, markdown_report, report_of
from stepcredit.paper.results import load_study
from stepcredit.paper.styles import render
from stepcredit.paper.unchanged import built_before, fingerprint, remember
from stepcredit.paper.variants import is_collection


def build(study: Path, out: Path) -> list[Path]:
    """Write tables, figures, REPORT.md and paper.pdf under `out`, and return their paths.

    Equal results give equal bytes. Each file is written whole or not at all. Where nothing changed since the last
    time, nothing is done.

    Raises:
        PaperError: the study cannot be shown as it is, or `out` cannot be written.
    """
    made_of = fingerprint(study)
    if there := built_before(out, made_of):
        return there
    report = _report(study)
    written = []
    for table in report.tables:
        for suffix, form in (("md", markdown), ("tex", latex), ("csv", comma_separated)):
            written.append(write_atomic(out / "tables" / f"{table.name}.{suffix}", form(table)))
    for plot in report.plots:
        for kind, content in render(plot).items():
            written.append(write_atomic(out / "figures" / f"{plot.name}.{kind}", content))
    written.append(write_atomic(out / "REPORT.md", markdown_report(report)))
    written.append(write_atomic(out / "paper.pdf", pdf(report, out)))
    _remove_stale(out, written)
    remember(out, made_of, written)
    return written


def _remove_stale(out: Path, written: Sequence[Path]) -> None:
    """Tables and figures of an earlier build that this one has not."""
    kinds = {"tables": (".md", ".tex", ".csv"), "figures": (".png", ".svg")}
    for folder, suffixes in kinds.items():
        for path in (out / folder).glob("*"):
            if path.suffix in suffixes and path not in written:
                path.unlink()


def _report(study: Path) -> Report:
    if is_collection(study):
        return collection_report(study)
    loaded = load_study(study)
    return report_of(loaded, capability_tables(loaded, study))
