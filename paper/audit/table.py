"""Tables to be audited, from CSV: wide, a row a method and a column a subset, or long, a row a value."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path

from stepcredit.paper.audit.fractions import Percent
from stepcredit.paper.errors import PaperError

AGGREGATES = frozenset({"all", "avg", "average", "overall", "mean", "total"})
_BESIDE = frozenset({"metric", "source_url", "source", "arxiv", "note"})


@dataclass(frozen=True)
class PrintedTable:
    """What was printed.

    Attributes:
        name: what all rows have in common; empty for a wide table.
        rows: row -> column -> percentage.
        odd: cells that are no percentage, in a sentence each.
    """

    name: str
    rows: dict[str, dict[str, Percent]] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)

    @property
    def columns(self) -> tuple[str, ...]:
        """In the order in which they first occur."""
        return tuple(dict.fromkeys(column for row in self.rows.values() for column in row))

    @property
    def subsets(self) -> tuple[str, ...]:
        """Columns that are no aggregate."""
        return tuple(column for column in self.columns if column.lower() not in AGGREGATES)

    @property
    def aggregate(self) -> str | None:
        """The column over all subsets, if there is one."""
        return next((column for column in self.columns if column.lower() in AGGREGATES), None)

    def put(self, row: str, column: str, text: str) -> None:
        """A cell; an empty one is none."""
        if not text.strip():
            return
        value = Percent.parse(text)
        if value is None:
            where = f"{self.name + ', ' if self.name else ''}row {row!r}, column {column!r}"
            self.odd.append(f"{where}: {text!r} is no percentage; left out")
        else:
            self.rows.setdefault(row, {})[column] = value


def read_tables(path: Path) -> list[PrintedTable]:
    """The file's tables: one if it is wide; one for each paper, model and benchmark if it is long.

    Raises:
        PaperError: it cannot be read, or has no percentages.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            records = list(csv.DictReader(file))
    except OSError as error:
        raise PaperError(f"{path} cannot be read ({error.strerror}); give a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise PaperError(f"{path} cannot be read as CSV ({error}); give a table with a header") from error
    header = [name for name in (records[0] if records else {}) if name]
    tables = list(_long(records) if {"subset", "value"} <= set(header) else _wide(records, header))
    if not any(table.rows for table in tables):
        raise PaperError(
            f"{path} holds no percentages; give a column of names and a column for each subset, or the columns method, "
            "subset and value"
        )
    return tables


def published() -> AbstractContextManager[Path]:
    """The published tables that come with the package, each value with its source."""
    return as_file(files("stepcredit.paper").joinpath("published.csv"))


def _wide(records: list[dict[str, str]], header: list[str]) -> Iterator[PrintedTable]:
    table = PrintedTable("")
    for record in records:
        for column in header[1:]:
            table.put(record[header[0]], column, record[column] or "")
    yield table


def _long(records: list[dict[str, str]]) -> Iterator[PrintedTable]:
    tables: dict[str, PrintedTable] = {}
    for record in records:
        name = ", ".join(_labels(record))
        table = tables.setdefault(name, PrintedTable(name))
        table.put(record.get("method") or "", record["subset"], record["value"] or "")
    yield from tables.values()


def _labels(record: Mapping[str, str]) -> Iterator[str]:
    for name, value in record.items():
        if name and name not in {"method", "subset", "value", *_BESIDE} and value:
            yield value
