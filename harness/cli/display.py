"""How listings look: rich tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from stepcredit.harness.study.doctor import Finding

Record = Mapping[str, Any]

_TABLE_WIDTH = 150


def print_table(records: Sequence[Record], as_json: bool) -> None:
    """A list of records with the same keys."""
    if as_json:
        print_json(records)
        return
    if not records:
        print("nothing to list")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in records[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for record in records:
        table.add_row(*(_cell(value) for value in record.values()))
    Console(width=max(Console().width, _TABLE_WIDTH)).print(table, highlight=False, markup=False)


def print_panel(panel: Record, as_json: bool) -> None:
    """A panel: its identity and counts, then its tasks."""
    if as_json:
        print_json(panel)
        return
    print(f"{panel['benchmark']}-{panel['suite']}, split {panel['split']}: {panel['size']} tasks")
    print(f"sha256 {panel['sha256']}")
    print(", ".join(f"{subset} {count}" for subset, count in panel["subsets"].items()))
    for task in panel["tasks"]:
        print(f"  {task['subset']:8} {task['id']}")


@contextmanager
def bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, with rate and time left, to be told how many of how many are done."""
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("episodes", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def print_evaluation(summary: Record, as_json: bool) -> None:
    """Success by subset of one evaluation."""
    if as_json:
        print_json(summary)
        return
    print(f"{summary['cell']} after {summary['update']} updates on {summary['suite']}/{summary['panel']['split']}")
    for subset, counts in summary["subsets"].items():
        print(f"  {subset:8} {_percent(counts['success'])}  ({counts['episodes']} tasks)")
    print(f"  {'all':8} {_percent(summary['success'])}  ({summary['panel']['size']} tasks)")
    if summary["metrics"]:
        print("  means an episode: " + ", ".join(f"{name} {value:.3f}" for name, value in summary["metrics"].items()))
    print(f"episodes: {summary['file']}")


def print_doctor(findings: Sequence[Finding], as_json: bool) -> None:
    """One line a finding."""
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    for finding in findings:
        print(f"{'ok ' if finding.ok else 'BAD'}  {finding.name:14} {finding.detail}")


def print_json(value: Any) -> None:
    """Indented JSON."""
    print(json.dumps(value, indent=2))


def _percent(fraction: float) -> str:
    return f"{100 * fraction:5.1f}%"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)
