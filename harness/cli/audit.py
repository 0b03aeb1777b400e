"""Commands that look into printed tables: others', and our own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepcredit.harness.cli import options

if TYPE_CHECKING:
    from stepcredit.paper.audit.panels import Sizes


def audit(
    table: Annotated[
        Path | None,
        typer.Argument(
            metavar="[TABLE.csv]",
            help="A row a method and a column a subset, in percent; or the columns method, subset and value, and what "
            "else tells tables apart. Default: the published tables that come with stepcredit.",
        ),
    ] = None,
    n: Annotated[
        list[str] | None,
        typer.Option("--n", metavar="SUBSET=N", help="Tasks of a subset, N or LOW:HIGH; repeat. Known for Search-QA."),
    ] = None,
    total: Annotated[
        int | None, typer.Option("--total", min=1, help="Tasks of all subsets together: asks for common panels.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs that each value is the mean of.")] = 1,
    as_json: options.Json = False,
) -> None:
    """Ask whether printed percentages can be what they claim: shares of so many tasks, means of subsets, one panel.

    It works on whole numbers alone: what it finds is certain, and what it cannot see it says.
    """
    from dataclasses import asdict

    from stepcredit.harness.cli.display import print_json
    from stepcredit.harness.words import counted
    from stepcredit.paper.audit.audit import Asked, audited, powers
    from stepcredit.paper.audit.table import published, read_tables

    with published() as known:
        tables = read_tables(table or known)
    asked = Asked(_sizes(n or (), [column for one in tables for column in one.columns]), total, seeds)
    findings = [finding for one in tables for finding in audited(one, asked)]
    odd = [sentence for one in tables for sentence in one.odd]
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings], "left_out": odd})
        return
    for sentence in odd:
        print(f"note: {sentence}")
    for finding in findings:
        print(f"{finding.kind}: {finding.table + ': ' if finding.table else ''}{finding.sentence}")
    print(f"{counted(len(tables), 'table')}, {counted(len(findings), 'finding')}")
    for sentence in dict.fromkeys(line for one in tables for line in powers(one, asked)):
        print(f"power: {sentence}")


def explain(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study.")],
    table: Annotated[str, typer.Argument(help="Table, such as success or differences.")],
    row: Annotated[str, typer.Argument(help="Row, such as StepOPSD.")],
    column: Annotated[str, typer.Argument(help="Column, such as All or Heat.")] = "All",
) -> None:
    """Where a cell of a study's paper comes from: its arithmetic, its estimator, its panel and its runs."""
    from stepcredit.paper.explain import explain as lines_of

    for line in lines_of(study, table, row, column):
        print(line)


def export_leaderboard(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study.")],
) -> None:
    """A study's methods as JSON, a row each: numbers with intervals, and hashes of panel, specs, episodes, weights."""
    from stepcredit.harness.cli.display import print_json
    from stepcredit.paper.leaderboard import leaderboard
    from stepcredit.paper.results import load_study

    print_json(list(leaderboard(load_study(study))))


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a complete run.")],
    inspect: Annotated[bool, typer.Option("--inspect", help="As logs that inspect_ai's viewer opens.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write; default RUN.")] = None,
) -> None:
    """A run in the format of another tool: its last evaluation, and its kept training episodes with their credit."""
    from stepcredit.harness.errors import UserError
    from stepcredit.paper.inspect_log import export_inspect

    if not inspect:
        raise UserError("export needs a format, and knows one: --inspect")
    for path in export_inspect(run, out or run):
        print(path)


def _sizes(words: Sequence[str], columns: Sequence[str]) -> dict[str, Sizes]:
    """Of all that --n says, by the table's own spelling of its columns.

    Raises:
        UserError: one is not understood, names no column, or names one that another names already.
    """
    from stepcredit.harness.errors import UserError
    from stepcredit.harness.words import one_of

    sizes: dict[str, Sizes] = {}
    for name, size in map(_size, words):
        column = one_of("subset", name, dict.fromkeys(columns))
        if column in sizes:
            raise UserError(f"--n {column} is given twice; leave one of them out")
        sizes[column] = size
    return sizes


def _size(word: str) -> tuple[str, Sizes]:
    """Of SUBSET=N or SUBSET=LOW:HIGH.

    Raises:
        UserError: it is neither.
    """
    from stepcredit.harness.errors import UserError
    from stepcredit.paper.audit.panels import Sizes

    name, _, numbers = word.rpartition("=")
    low, _, high = numbers.partition(":")
    if not name or not low.isdecimal() or not (high or low).isdecimal() or not 0 < int(low) <= int(high or low):
        raise UserError(f"--n {word} is not understood; say SUBSET=N or SUBSET=LOW:HIGH, such as --n Bamboogle=125")
    return name, Sizes(int(low), int(high or low))
