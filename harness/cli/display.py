"""How listings look: rich tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from stepcredit.harness.words import counted

if TYPE_CHECKING:
    from stepcredit.harness.study.doctor import Finding

Record = Mapping[str, Any]

_FIRM = "\N{NO-BREAK SPACE}"  # within a name, where no line may end
_PIPED_WIDTH = 1000  # whoever reads a pipe line by line wants whole lines


def print_table(records: Sequence[Record], as_json: bool) -> None:
    """Records with the same keys: a table where the terminal has room for it, else one record below another."""
    if as_json:
        print_json(records)
        return
    if not records:
        print("nothing to list")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in records[0]:
        table.add_column(name.replace("_", " "), no_wrap=True)
    for record in records:
        table.add_row(*(_cell(value) for value in record.values()))
    console = console_for_output()
    unbounded = console.options.update(max_width=_PIPED_WIDTH)  # within the console's width every table fits
    if Measurement.get(console, unbounded, table).maximum <= console.width:
        console.print(table, highlight=False, markup=False)
    else:
        _print_records(records, console.width)


def console_for_output() -> Console:
    """As wide as the terminal, or as $COLUMNS says; a pipe takes whole lines."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_PIPED_WIDTH)


def _print_records(records: Sequence[Record], width: int) -> None:
    """Each record's first value, then the others by name, folded between words."""
    for record in records:
        (_, title), *others = record.items()
        print(_cell(title))
        words = ", ".join(f"{name.replace('_', ' ').replace(' ', _FIRM)} {_cell(value)}" for name, value in others)
        print(folded_text(words, width, "  ").replace(_FIRM, " "))


def folded_text(text: str, width: int, indent: str) -> str:
    """Lines no wider than that, but for a word that is; no word is split."""
    return textwrap.fill(
        text,
        max(width, len(indent) + 20),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def print_panel(panel: Record, as_json: bool) -> None:
    """A panel: its identity and counts, then its tasks."""
    if as_json:
        print_json(panel)
        return
    print(f"{panel['benchmark']}-{panel['suite']}, split {panel['split']}: {counted(panel['size'], 'task')}")
    print(f"sha256 {panel['sha256']}")
    print(", ".join(f"{subset} {count}" for subset, count in panel["subsets"].items()))
    for task in panel["tasks"]:
        print(f"  {task['subset']:8} {task['id']}")


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, with rate and time left, to be told how many of how many are done."""
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def print_evaluation(summary: Record, as_json: bool) -> None:
    """Success by subset of one evaluation."""
    if as_json:
        print_json(summary)
        return
    where = f"{summary['suite']}/{summary['panel']['split']}"
    print(f"{summary['cell']} after {counted(summary['update'], 'update')} on {where}")
    for subset, counts in summary["subsets"].items():
        print(f"  {subset:8} {_percent(counts['success'])}  ({counted(counts['episodes'], 'episode')})")
    episodes = sum(counts["episodes"] for counts in summary["subsets"].values())
    played = f"{counted(episodes, 'episode')} of {counted(summary['panel']['size'], 'task')}"
    print(f"  {'all':8} {_percent(summary['success'])}  ({played})")
    limits = summary["limits"]
    print(
        f"  limits: {counted(limits['max_turns'], 'turn')}, {limits['max_context_tokens']} tokens of transcript, "
        f"{limits['max_response_tokens']} per turn"
    )
    print("  ended by: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in summary["stops"].items()))
    for sentence in summary.get("broken", ()):
        print(f"  {sentence}")
    if summary["metrics"]:
        print("  means per episode: " + ", ".join(f"{name} {value:.3f}" for name, value in summary["metrics"].items()))
    print(f"episodes: {summary['file']}")


def print_doctor(findings: Sequence[Finding], as_json: bool) -> None:
    """One line a finding."""
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    width, widest = console_for_output().width, max(len(finding.name) for finding in findings)
    for finding in findings:
        start = f"{'ok ' if finding.ok else 'BAD'}  {finding.name:{widest}}  "
        print(start + folded_text(finding.detail, width, " " * len(start)).lstrip())


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
