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


def pdf(report: Report, folder: Path) -> bytes:
    """The report as PDF; the figures are read from `folder`/figures.

    Only the fonts inside the typst package are used, so that every machine sets the same pages.

    Raises:
        PaperError: Typst cannot compile the template with these figures.
    """
    template = resources.files("stepcredit.paper").joinpath("template.typ").read_bytes()
    inputs = {"report": json.dumps(_data(report))}
    try:
        compiler = typst.Compiler(template, root=folder, ignore_system_fonts=True, sys_inputs=inputs)
        return cast(bytes, compiler.compile(format="pdf"))
    except typst.TypstError as error:
        raise PaperError(f"Typst cannot set the report from {folder}: {error.message}; build it again") from error


def _data(report: Report) -> dict[str, object]:
    return {
        "title": report.title,
        "subtitle": report.subtitle,
        "summary": report.summary,
        "protocol": report.protocol,
        "tables": {table.name: typst_data(table) for table in report.tables},
        "figures": [
            {"path": f"/figures/{plot.name}.svg", "name": plot.name, "caption": plot.caption} for plot in report.plots
        ],
        "order": report.order,
        "skipped": report.skipped,
        "again": [asdict(step) for step in report.again],
    }
