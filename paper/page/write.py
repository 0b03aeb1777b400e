"""A folder's page: one file, and beside it the tokens of runs where they would make it too large."""

from __future__ import annotations

import hashlib
import json
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from stepcredit.paper.files import write_atomic
from stepcredit.paper.page.groups import Shown, shown
from stepcredit.paper.page.html import protocol_html, runs_html, summary_html, tables_html
from stepcredit.paper.page.payload import episodes, overview, packed, tokens
from stepcredit.paper.page.plots import plots
from stepcredit.paper.traces import CREDITS

LARGEST = 10_000_000
"""Bytes of the page; tokens that do not fit lie in files of their own, which it loads when they are asked for."""


def write_page(folder: Path, out: Path) -> list[Path]:
    """Write the page to `out`, and return the paths of what was written; equal results give equal bytes.

    Raises:
        PaperError: the folder cannot be shown as it is, or `out` cannot be written.
    """
    content = shown(folder)
    page, apart, side = _page(content), dict[str, str](), f"{out.stem}-tokens"
    for name, blob in _kept_tokens(content).items():
        if len(page) + len(blob) < LARGEST:
            page += _blob(name, blob)
        else:
            apart[name] = blob
    places = {name: f"{side}/{hashlib.sha256(name.encode()).hexdigest()[:16]}.js" for name in apart}
    page += f'<script type="application/json" id="apart">{_json(places)}</script>\n'
    written = [write_atomic(out, page)]
    for name, blob in apart.items():
        call = f"stepcreditTokens({json.dumps(name)}, {json.dumps(blob)});\n"
        written.append(write_atomic(out.parent / places[name], call))
    return written


def _page(content: Shown) -> str:
    report, groups = content.report, content.groups
    asset = resources.files("stepcredit.paper.page").joinpath("assets")
    template = Template(asset.joinpath("page.html").read_text(encoding="utf-8"))
    script = "\n".join(asset.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS)
    filled = template.substitute(
        title=escape(report.title),
        subtitle=escape(report.subtitle),
        style=asset.joinpath("page.css").read_text(encoding="utf-8"),
        summary=summary_html(report),
        tables=tables_html(report, groups),
        protocol=protocol_html(report),
        runs=runs_html(groups),
        overview=_json(overview(groups) | {"plots": plots(groups)}),
        script=script,
        plotly=get_plotlyjs().replace("</", "<\\/"),
    )
    return filled + _blob("episodes", packed(episodes(groups)))


_SCRIPTS = ("start.js", "tables.js", "episodes.js", "tokens.js", "plots.js")


def _kept_tokens(content: Shown) -> dict[str, str]:
    """By group and run, of those that kept them."""
    found = {}
    for group in content.groups:
        for run in group.runs:
            if CREDITS in run.manifest.files:
                found[group.key(run)] = packed(tokens(run))
    return found


def _blob(name: str, content: str) -> str:
    return f'<script type="text/plain" data-blob="{escape(name)}">{content}</script>\n'


def _json(content: object) -> str:
    """Such as a script element may hold."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
