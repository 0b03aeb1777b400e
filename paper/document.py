"""The PDF, laid out by Typst from `template.typ`; equal reports give equal bytes."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import cast

import typst

from stepcredit.paper.errors import PaperError
from stepcredit.paper.render import typst_data
from stepcredit.paper.report import Report

SHARES = (1.0, 0.96, 0.92, 0.88, 0.84)
"""Of the text's width that figures may have; the first with which the last page is full enough is taken."""
FULL_ENOUGH = 0.25


def pdf(report: Report, folder: Path) -> bytes:
    """The report as PDF; the figures are read from `folder`/figures.

    Only the fonts inside the typst package are used, so that every machine sets the same pages. The last page is not
    nearly empty where slightly smaller figures can prevent it.

    Raises:
        PaperError: Typst cannot compile the template with these figures.
    """
    text = json.dumps(_data(report, folder.resolve()))
    try:
        with resources.as_file(resources.files("stepcredit.paper").joinpath("template.typ")) as template:
            compilers = (_compiler(template.resolve(), text, share) for share in SHARES)
            best = next((compiler for compiler in compilers if _fill(compiler) >= FULL_ENOUGH), None)
            chosen = best or _compiler(template.resolve(), text, SHARES[0])
            return cast(bytes, chosen.compile(format="pdf"))
    except typst.TypstError as error:
        raise PaperError(f"Typst cannot set the report from {folder}: {error.message}; build it again") from error


def _compiler(template: Path, report: str, share: float) -> typst.Compiler:
    inputs = {"report": report, "share": str(share)}
    return typst.Compiler(template, root=Path(template.anchor), ignore_system_fonts=True, sys_inputs=inputs)


def _fill(compiler: typst.Compiler) -> float:
    """How far down its last page the text ends, as a share of the page."""
    return float(json.loads(compiler.query("<end>", field="value", one=True)))


def _data(report: Report, folder: Path) -> dict[str, object]:
    return {
        "title": report.title,
        "subtitle": report.subtitle,
        "summary": report.summary,
        "protocol": report.protocol,
        "tables": {table.name: typst_data(table) for table in report.tables},
        "figures": [
            {"path": (folder / "figures" / f"{plot.name}.svg").as_posix(), "name": plot.name, "caption": plot.caption}
            for plot in report.plots
        ],
        "order": report.order,
        "skipped": report.skipped,
        "again": [asdict(step) for step in report.again],
    }
