"""Tables as Markdown, LaTeX and CSV, and as the plain data that the Typst template lays out."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan

from stepcredit.paper.statistics import Estimate
from stepcredit.paper.tables import Cell, Digest, Quoted, Ranged, Score, Table

DASH = "—"
DIGITS = 10
RANGE_PARTS = ("low", "high")
SCORE_PARTS = ("low", "high", "interval", "seeds", "n")
_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "≤": r"$\leq$",
    "×": r"$\times$",
    "—": "---",
    "→": r"$\rightarrow$",
}


@dataclass(frozen=True, slots=True)
class Printed:
    """A score in points with one decimal, and both ends of its interval."""

    mean: str
    low: str
    high: str
    n: int


def printed(score: Score) -> Printed:
    """The digits of a score; an end is printed no further than a rate or a difference of rates can reach."""
    estimate, least = score.estimate, -1.0 if score.signed else 0.0
    low, high = (points(min(max(end, least), 1.0)) for end in (estimate.low, estimate.high))
    return Printed(points(estimate.mean, signed=score.signed), low, high, estimate.n)


def points(fraction: float, *, signed: bool = False) -> str:
    """A fraction in percent or points: one decimal, a true minus sign, never minus zero."""
    text = f"{abs(100 * fraction):.1f}"
    if float(text) == 0:
        return text
    sign = "−" if fraction < 0 else "+" if signed else ""
    return sign + text


def rate_text(estimate: Estimate, *, signed: bool = False, unit: str = "") -> str:
    """An estimate in a line of text: 58.1% [53.9, 62.3] (n=450)."""
    digits = printed(Score(estimate, signed))
    return f"{digits.mean}{unit} [{digits.low}, {digits.high}] (n={digits.n})"


def range_text(cell: Ranged) -> str:
    """Such as +0.18 [0.10, 0.26]; a dash where the number is not known."""
    if isnan(cell.value):
        return DASH
    value = _decimal(cell.value, signed=cell.signed)
    return value if isnan(cell.low) else f"{value} [{_decimal(cell.low)}, {_decimal(cell.high)}]"


def _decimal(number: float, *, signed: bool = False) -> str:
    """Two decimals, a true minus sign, never minus zero."""
    text = f"{abs(number):.2f}"
    if float(text) == 0:
        return text
    return ("−" if number < 0 else "+" if signed else "") + text


def markdown(table: Table) -> str:
    """The table with its title above."""
    return f"**{table.title}**\n\n{markdown_body(table)}"


def markdown_body(table: Table) -> str:
    """A GitHub table with its notes below."""
    rows = [[_markdown_cell(cell).replace("|", r"\|") for cell in row] for row in table.rows]
    marks = [":--" if index in _text_columns(table) else "--:" for index in range(len(table.header))]
    lines = [_markdown_row(table.header), _markdown_row(marks), *(_markdown_row(row) for row in rows)]
    notes = [f"<sub>{note}</sub>  " for note in table.notes]
    return "\n".join([*lines, "", *notes]) + "\n"


def latex(table: Table) -> str:
    """A booktabs table; needs the packages booktabs and threeparttable."""
    align = "".join("l" if index in _text_columns(table) else "r" for index in range(len(table.header)))
    body = [
        _latex_row(_escape(name) for name in table.header),
        r"\midrule",
        *(_latex_row(_latex_cell(cell) for cell in row) for row in table.rows),
    ]
    notes = [rf"\item {_escape(note)}" for note in table.notes]
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        r"\begin{threeparttable}",
        rf"\caption{{{_escape(table.title)}}}",
        rf"\label{{tab:{table.name}}}",
        r"\small",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\begin{tablenotes}\footnotesize",
        *notes,
        r"\end{tablenotes}",
        r"\end{threeparttable}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def comma_separated(table: Table) -> str:
    """Machine-readable: fractions at full precision, whole hashes, a score's and an interval's parts apart."""
    scores, ranges = _columns_of(table, Score), _columns_of(table, Ranged)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    header: list[str] = []
    for index, name in enumerate(table.header):
        parts = SCORE_PARTS if index in scores else RANGE_PARTS if index in ranges else ()
        header += [name, *(f"{name} {part}" for part in parts)]
    writer.writerow(header)
    for row in table.rows:
        values: list[str] = []
        for index, cell in enumerate(row):
            if index in scores:
                values += _score_values(cell)
            else:
                values += _range_values(cell) if index in ranges else [_raw(cell)]
        writer.writerow(values)
    return buffer.getvalue()


def typst_data(table: Table) -> dict[str, object]:
    """What `template.typ` needs to lay the table out."""
    return {
        "name": table.name,
        "title": table.title,
        "header": table.header,
        "notes": table.notes,
        "left": sorted(_text_columns(table)),
        "rows": [[_typst_cell(cell) for cell in row] for row in table.rows],
    }


def _typst_cell(cell: Cell) -> dict[str, object]:
    if isinstance(cell, Score):
        digits = printed(cell)
        return {
            "kind": "score",
            "mean": digits.mean,
            "low": digits.low,
            "high": digits.high,
            "n": str(digits.n),
            "best": cell.best,
        }
    if isinstance(cell, Digest):
        return {"kind": "digest", "text": cell.hexdigest[:DIGITS]}
    return {"kind": "text", "text": plain_text(cell)}


def plain_text(cell: Cell) -> str:
    """As Markdown has it."""
    if cell is None:
        return DASH
    if isinstance(cell, Score):
        return rate_text(cell.estimate, signed=cell.signed)
    if isinstance(cell, Ranged):
        return range_text(cell)
    if isinstance(cell, Quoted):
        return f"{cell.percent:.1f}"
    if isinstance(cell, Digest):
        return f"`{cell.hexdigest[:DIGITS]}`"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


def _markdown_cell(cell: Cell) -> str:
    text = plain_text(cell)
    if not (isinstance(cell, Score) and cell.best):
        return text
    mean, interval = text.split(" ", 1)
    return f"**{mean}** {interval}"


def _latex_cell(cell: Cell) -> str:
    if isinstance(cell, Digest):
        return rf"\texttt{{{cell.hexdigest[:DIGITS]}}}"
    if not isinstance(cell, Score):
        return _escape(plain_text(cell))
    digits = printed(cell)
    mean, low, high = (digit.replace("−", "-") for digit in (digits.mean, digits.low, digits.high))
    mean = rf"\mathbf{{{mean}}}" if cell.best else mean
    return rf"${mean}$ $[{low}, {high}]$ {{\scriptsize ($n={digits.n}$)}}"


def _raw(cell: Cell) -> str:
    if isinstance(cell, Digest):
        return cell.hexdigest
    if isinstance(cell, Quoted):
        return repr(cell.percent / 100)
    return "" if cell is None else str(cell)


def _score_values(cell: Cell) -> list[str]:
    if not isinstance(cell, Score):
        return [_raw(cell), *[""] * len(SCORE_PARTS)]
    estimate = cell.estimate
    return [
        repr(estimate.mean),
        repr(estimate.low),
        repr(estimate.high),
        estimate.interval.value,
        str(estimate.seeds),
        str(estimate.n),
    ]


def _range_values(cell: Cell) -> list[str]:
    if not isinstance(cell, Ranged):
        return [""] * 3
    return ["" if isnan(number) else repr(number) for number in (cell.value, cell.low, cell.high)]


def _columns_of(table: Table, kind: type[Score | Ranged]) -> set[int]:
    return {index for row in table.rows for index, cell in enumerate(row) if isinstance(cell, kind)}


def _text_columns(table: Table) -> set[int]:
    return {0} | {index for row in table.rows for index, cell in enumerate(row) if isinstance(cell, str | Digest)}


def _markdown_row(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape(text: str) -> str:
    return "".join(_LATEX_SPECIAL.get(character, character) for character in text)
