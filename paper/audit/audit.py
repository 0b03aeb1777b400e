"""Everything that whole numbers say about a printed table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import combinations

from stepcredit.paper.audit.fractions import Percent, batched_power, power
from stepcredit.paper.audit.panels import Sizes, feasible
from stepcredit.paper.audit.table import PrintedTable
from stepcredit.paper.words import counted, listed

KNOWN: Mapping[str, int] = {
    "NQ": 3610,
    "TriviaQA": 11313,
    "PopQA": 14267,
    "HotpotQA": 7405,
    "2Wiki": 12576,
    "MuSiQue": 2417,
    "Bamboogle": 125,
}
"""Questions of the test sets that Search-R1 and all after it use."""
_MOST_REST = 5
_CHANCE = 0.01
"""How likely values may fit another formula by chance, for it to be named."""


class Kind(StrEnum):
    """What a finding is about."""

    IMPOSSIBLE = "impossible value"
    BATCHES = "mean of batches"
    AGGREGATE = "aggregate"
    PANEL = "no common panel"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that cannot be as it is printed."""

    kind: Kind
    table: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What is claimed of a table.

    Attributes:
        sizes: tasks of a subset; those of well-known test sets where nothing is said.
        total: tasks of all subsets together, for tables whose subsets' sizes are not known.
        seeds: runs that a printed value is the mean of, on the same tasks.
    """

    sizes: Mapping[str, Sizes]
    total: int | None = None
    seeds: int = 1

    def of(self, column: str) -> Sizes | None:
        """The column's size, if anything is known of it."""
        if column in self.sizes:
            return self.sizes[column]
        return Sizes(KNOWN[column], KNOWN[column]) if column in KNOWN else None


def audited(table: PrintedTable, asked: Asked) -> list[Finding]:
    """What is wrong with the table, column by column, then over its rows."""
    return [
        *(finding for column in table.subsets for finding in _column(table, column, asked)),
        *_aggregates(table, asked),
        *_panels(table, asked),
    ]


def powers(table: PrintedTable, asked: Asked) -> Iterator[str]:
    """How much the audit can see: of each column whose size is known, the share of values that would pass unseen."""
    for column in table.subsets:
        size = asked.of(column)
        if size is not None and size.known:
            digits = max(row[column].digits for row in table.rows.values() if column in row)
            seen = power(size.low * asked.seeds, digits)
            yield f"{column}: {100 * seen:.1f}% of all values can be printed with n = {size.low}, others would be found"


def _column(table: PrintedTable, column: str, asked: Asked) -> Iterator[Finding]:
    size = asked.of(column)
    if size is None:
        return
    values = {name: row[column] for name, row in table.rows.items() if column in row}
    wrong = {name: value for name, value in values.items() if not _possible(value, size, asked.seeds)}
    if not wrong:
        return
    said = listed(f"{name} {_shown(value)}" for name, value in wrong.items())
    n = f"{size.low}" if size.known else f"{size.low} to {size.high}"
    rest = _rest(list(wrong.values()), size)
    if rest is not None:
        yield Finding(
            Kind.BATCHES,
            table.name,
            f"column {column}: {counted(len(wrong), 'value')} of {len(values)} ({said}) fit no k/{n}, but all fit the "
            f"mean of two batches of {size.low - rest} and {rest}, each counted the same",
        )
        return
    seeds = f" over {counted(asked.seeds, 'seed')}" if asked.seeds > 1 else ""
    yield Finding(Kind.IMPOSSIBLE, table.name, f"column {column}: {said} cannot be a share of n = {n}{seeds}")


def _possible(value: Percent, size: Sizes, seeds: int) -> bool:
    return any(len(value.successes(n * seeds)) > 0 for n in range(size.low, size.high + 1))


def _rest(values: Sequence[Percent], size: Sizes) -> int | None:
    """The smallest rest of a batch that explains all of the values, if they would hardly fit it by chance."""
    if not size.known:
        return None
    rests = range(1, min(_MOST_REST, size.low - 1) + 1)
    rest = next((rest for rest in rests if all(value.batched(size.low, rest) for value in values)), None)
    if rest is None or batched_power(size.low, rest, values[0].digits) ** len(values) > _CHANCE:
        return None
    return rest


def _aggregates(table: PrintedTable, asked: Asked) -> Iterator[Finding]:
    """The aggregate is a mean of its row's subsets: over tasks, or plain."""
    column = table.aggregate
    if column is None or len(table.subsets) < 2:
        return
    weights = {subset: asked.of(subset) for subset in table.subsets}
    whole = {subset: size.low for subset, size in weights.items() if size is not None and size.known}
    kinds: dict[str, list[str]] = {"over tasks": [], "plain": []}
    for name, row in table.rows.items():
        if column not in row or any(subset not in row for subset in table.subsets):
            continue
        plain = _mean_fits(row, column, dict.fromkeys(table.subsets, 1))
        weighted = len(whole) == len(table.subsets) and _mean_fits(row, column, whole)
        if len(whole) == len(table.subsets) and not plain and not weighted:
            sentence = (
                f"row {name}: {column} {_shown(row[column])} is no mean of its subsets, neither over tasks nor plain"
            )
            yield Finding(Kind.AGGREGATE, table.name, sentence)
        elif plain != weighted:
            kinds["plain" if plain else "over tasks"].append(name)
    if len(whole) == len(table.subsets) and all(kinds.values()):
        sentence = (
            f"column {column} is a plain mean of subsets in {listed(kinds['plain'])}, and one over tasks in "
            f"{listed(kinds['over tasks'])}: its rows cannot be compared"
        )
        yield Finding(Kind.AGGREGATE, table.name, sentence)


def _mean_fits(row: Mapping[str, Percent], column: str, weights: Mapping[str, int]) -> bool:
    """Whether the aggregate lies where the mean of the rounded values may lie."""
    whole = sum(weights.values())
    mean = sum((row[subset].value * weight for subset, weight in weights.items()), Fraction(0)) / whole
    slack = sum((row[subset].half * weight for subset, weight in weights.items()), Fraction(0)) / whole
    return abs(row[column].value - mean) <= slack + row[column].half


def _panels(table: PrintedTable, asked: Asked) -> Iterator[Finding]:
    """Rows whose subsets add up to the total in some way, and pairs of them that cannot share one."""
    column, total = table.aggregate, asked.total
    if column is None or total is None or asked.seeds > 1:
        return
    sizes = {subset: size for subset in table.subsets if (size := asked.sizes.get(subset)) is not None}
    whole = {
        name: {subset: row[subset] for subset in (*table.subsets, column)}
        for name, row in table.rows.items()
        if all(subset in row for subset in (*table.subsets, column))
    }
    alone = {name: feasible([row], column, total, sizes) for name, row in whole.items()}
    for name in (name for name, fits in alone.items() if not fits):
        sentence = f"row {name}: no subset sizes that add up to {total} tasks print its values"
        yield Finding(Kind.PANEL, table.name, sentence)
    rows = [name for name, fits in alone.items() if fits]
    apart = [
        f"{one} and {other}"
        for one, other in combinations(rows, 2)
        if not feasible([whole[one], whole[other]], column, total, sizes)
    ]
    if apart:
        pairs = len(rows) * (len(rows) - 1) // 2
        sentence = (
            f"{len(apart)} of {counted(pairs, 'pair')} of rows cannot have been measured on the same {total} tasks: no "
            f"subset sizes print both ({'; '.join(apart)})"
        )
        yield Finding(Kind.PANEL, table.name, sentence)


def _shown(value: Percent) -> str:
    return f"{float(value.value):.{value.digits}f}"
