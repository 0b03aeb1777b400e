"""Progress of a matrix: bars on a terminal, plain lines elsewhere.

Workers report JSON lines on their standard output; the parent turns them into a display.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from stepcredit.envs import plain_json
from stepcredit.harness.words import counted


@dataclass(frozen=True, slots=True)
class Report:
    """How far one cell is. Progress is counted in episodes, training and evaluation alike.

    Attributes:
        cell: the cell's name.
        done: episodes finished.
        total: episodes of the whole cell.
        note: what it did last, in a few words.
        warning: what somebody should read, once; empty for nearly all.
    """

    cell: str
    done: int
    total: int
    note: str
    warning: str = ""


Reporter = Callable[[Report], None]
_FIELDS = {field.name for field in fields(Report)}


class Display(Protocol):
    """Shows reports while a matrix runs."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *details: object) -> None: ...

    def show(self, report: Report) -> None:
        """Take in one report."""
        ...

    def finish(self, cell: str, line: str) -> None:
        """A cell is complete; `line` sums it up."""
        ...


def encode(report: Report) -> str:
    """One JSON line."""
    return json.dumps(asdict(report))


def decode(line: str) -> Report | None:
    """The report in a line; None for a line that is something else, such as a library's own print."""
    try:
        content = plain_json.parse(line)
    except plain_json.JsonError:
        return None
    if not isinstance(content, dict) or content.keys() != _FIELDS:
        return None
    return Report(**content)


def display_for(totals: dict[str, int], finished: int, stream: TextIO | None = None) -> Display:
    """Bars where the stream is a terminal, lines where it is not.

    Args:
        totals: episodes of each cell that is going to run.
        finished: cells that were complete before.
        stream: where to draw; None takes standard error.
    """
    stream = stream or sys.stderr
    return Bars(totals, finished, stream) if stream.isatty() else Lines(totals, finished, stream)


class Bars:
    """One bar for all cells, one for each running cell, with rate and time left."""

    def __init__(self, totals: dict[str, int], finished: int, stream: TextIO) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(file=stream),
            refresh_per_second=4,
            speed_estimate_period=120,
        )
        self._note = f"{finished} of {counted(finished + len(totals), 'cell')}"
        self._finished, self._cells = finished, finished + len(totals)
        self._overall = self._progress.add_task("all cells", total=sum(totals.values()), note=self._note)
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._progress.stop()

    def show(self, report: Report) -> None:
        if report.cell not in self._tasks:
            self._tasks[report.cell] = self._progress.add_task(report.cell, total=report.total, note="")
        self._progress.update(self._tasks[report.cell], completed=report.done, note=report.note)
        self._done[report.cell] = report.done
        self._progress.update(self._overall, completed=sum(self._done.values()))
        if report.warning:
            self._progress.console.print(f"note: {report.cell}: {report.warning}", highlight=False, markup=False)

    def finish(self, cell: str, line: str) -> None:
        if cell in self._tasks:
            self._progress.remove_task(self._tasks.pop(cell))
        self._finished += 1
        self._progress.console.print(line, highlight=False)
        self._progress.update(self._overall, note=f"{self._finished} of {counted(self._cells, 'cell')}")


class Lines:
    """A line for each cell at most every `every_s` seconds."""

    def __init__(self, totals: dict[str, int], finished: int, stream: TextIO, every_s: float = 15.0) -> None:
        self._total, self._stream, self._every_s = sum(totals.values()), stream, every_s
        self._finished, self._cells = finished, finished + len(totals)
        self._start = time.monotonic()
        self._first: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._shown: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._stream.flush()

    def show(self, report: Report) -> None:
        now = time.monotonic()
        self._first.setdefault(report.cell, report.done)
        self._done[report.cell] = report.done
        if report.warning:
            self._print(f"note: {report.cell}: {report.warning}")
        if now - self._shown.get(report.cell, -self._every_s) < self._every_s:
            return
        self._shown[report.cell] = now
        self._print(f"{report.cell}  {report.done}/{report.total} episodes  {report.note}  {self._time_left(now)}")

    def finish(self, cell: str, line: str) -> None:
        self._finished += 1
        self._print(f"{line}  [{self._finished} of {counted(self._cells, 'cell')}]")

    def _time_left(self, now: float) -> str:
        new = sum(self._done.values()) - sum(self._first.values())
        if not new:
            return "time left unknown"
        rate = new / (now - self._start)
        return f"{rate:.1f} episodes/s, {_clock((self._total - sum(self._done.values())) / rate)} left"

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "-/s")


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
