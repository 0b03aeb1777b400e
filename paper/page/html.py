"""The page's fixed part: sentences, tables that can be sorted, and places that its script fills."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from stepcredit.paper.page.groups import Group
from stepcredit.paper.render import plain_text, points, printed
from stepcredit.paper.report import Report
from stepcredit.paper.tables import BEFORE, Cell, Digest, Quoted, Ranged, Score, Table

_OF_EPISODES = frozenset({"success", "f1", "searches", "learning", "differences", "published"})
"""Tables whose numbers are of the episodes that the page lists; and those of variants and arms."""


def summary_html(report: Report) -> str:
    """The report's sentences."""
    return "\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in report.summary)


def tables_html(report: Report, groups: Sequence[Group]) -> str:
    """Every table, a section each; where they come from last."""
    ordered = sorted(report.tables, key=lambda table: table.name in ("checklist", "provenance"))
    return "\n".join(_section(table, groups) for table in ordered)


def protocol_html(report: Report) -> str:
    """Settings, and what was left out."""
    rows = "".join(f"<tr><th scope='row'>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in report.protocol)
    left = "".join(f"<li>{escape(line)}</li>" for line in report.skipped)
    out = f"<h3>Left out</h3><ul>{left}</ul>" if left else ""
    again = "".join(
        f"<p>{escape(step.sentence)}</p>" + "".join(f"<pre>{escape(line)}</pre>" for line in step.commands)
        for step in report.again
    )
    return f"<div class='wide'><table class='plain'>{rows}</table></div>{out}<h3>Make it again</h3>{again}"


def runs_html(groups: Sequence[Group]) -> str:
    """Each run's name, hashes, versions and whole spec, folded."""
    return "\n".join(_run(group, place) for group in groups for place in range(len(group.runs)))


def _section(table: Table, groups: Sequence[Group]) -> str:
    head = "".join(
        f"<th scope='col' aria-sort='none'><button type='button'>{escape(name)}</button></th>" for name in table.header
    )
    rows = "".join(f"<tr>{_row(table, row, groups)}</tr>" for row in table.rows)
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return (
        f"<section id='table-{escape(table.name)}'><h2>{escape(table.title)}</h2><div class='wide' tabindex='0' "
        f"role='region' aria-label='{escape(table.title)}'><table class='sortable'><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div><ul class='notes'>{notes}</ul></section>"
    )


def _row(table: Table, row: Sequence[Cell], groups: Sequence[Group]) -> str:
    group = _meant(table, row, groups)
    first, *others = (_cell(cell, _link(cell, group, table.header[place], row)) for place, cell in enumerate(row))
    return first.replace("<td", "<th scope='row'", 1).removesuffix("</td>") + "</th>" + "".join(others)


def _meant(table: Table, row: Sequence[Cell], groups: Sequence[Group]) -> Group | None:
    """The group that a row is of: its name is the row's words, one after another; the policy before is anyone's."""
    own = [group for group in groups if group.tasks in table.name] or list(groups)
    if not own or not (table.name in _OF_EPISODES or table.name.startswith(("variants-", "arms-"))):
        return None
    if row[0] == BEFORE:
        return own[0]
    words = [cell for cell in row if isinstance(cell, str) and cell != "—"]
    names = {" ".join(words[:count]) for count in range(1, len(words) + 1)}
    return max((group for group in own if group.name in names), key=lambda group: len(group.name), default=None)


def _link(cell: Cell, group: Group | None, column: str, row: Sequence[Cell]) -> str | None:
    if group is None or not isinstance(cell, Score):
        return None
    subset, when = column.rstrip("°"), "before" if row[0] == BEFORE or column == "Before" else "after"
    parts = (group.tasks, group.name, subset if subset in group.subsets else "", when)
    return "#episodes/" + "/".join(quote(part, safe="", errors="replace") for part in parts)


def _cell(cell: Cell, link: str | None) -> str:
    if isinstance(cell, Score):
        return _score(cell, link)
    if isinstance(cell, Ranged) and cell.value == cell.value:
        return f"<td data-value='{cell.value!r}'>{escape(plain_text(cell))}</td>"
    if isinstance(cell, Quoted):
        return f"<td data-value='{cell.percent / 100!r}'>{escape(plain_text(cell))}</td>"
    if isinstance(cell, Digest):
        return f"<td><code title='{escape(cell.hexdigest)}'>{escape(cell.hexdigest[:10])}</code></td>"
    number = f" data-value='{cell!r}'" if isinstance(cell, int | float) else ""
    return f"<td{number}>{escape(plain_text(cell))}</td>"


def _score(cell: Score, link: str | None) -> str:
    digits, estimate = printed(cell), cell.estimate
    seeds = ", ".join(points(value, signed=cell.signed) for value in estimate.by_seed)
    told = f"95%: {digits.low} to {digits.high} ({estimate.interval.value}); n={digits.n}; by seed {seeds}"
    mean = f"<a href='{link}'>{digits.mean}</a>" if link else digits.mean
    strong = f"<strong>{mean}</strong>" if cell.best else mean
    interval = f"<small>[{digits.low}, {digits.high}]</small>"
    return f"<td data-value='{estimate.mean!r}' title='{escape(told)}'>{strong} {interval}</td>"


def _run(group: Group, place: int) -> str:
    run = group.runs[place]
    manifest = run.manifest
    facts = {
        "Cell": run.cell,
        "Spec sha256": manifest.spec_sha256,
        "Panel sha256": manifest.panels.eval.sha256,
        "Final weights sha256": manifest.final_weights_sha256 or "not recorded",
        "Code": (manifest.git_commit or "unknown") + (" with changes" if manifest.git_dirty else ""),
        "Versions": ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items())),
        "Spec": _flat(manifest.raw_spec),
    }
    name = f"{group.tasks}: {group.name}, seed {run.spec.seed}"
    rows = "".join(f"<tr><th scope='row'>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in facts.items())
    return f"<details><summary>{escape(name)}</summary><table class='plain'>{rows}</table></details>"


def _flat(tree: object, name: str = "") -> str:
    if isinstance(tree, dict):
        inner = (_flat(value, f"{name}.{key}" if name else str(key)) for key, value in sorted(tree.items()))
        return ", ".join(part for part in inner if part)
    return f"{name} {tree}"
