"""The command that examines a run outside its environment."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from stepcredit.harness.cli import options

_CHANCE = {"acc": 0.25}  # of the metrics that guessing can win: one of four choices is right


def capability(
    run: options.RunFolder,
    checkpoint: Annotated[int | None, typer.Option("--checkpoint", help="Update; default: the last.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Closed-book questions of each dataset.")] = 50,
    threads: options.Threads = 1,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Closed-book exact match and a small regression suite, before training and after it, with lm-eval.

    The answers go to RUN/capability/, those of the starting weights to the study's folder, for all its runs.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    from stepcredit.harness.capability.runs import capability_of_run
    from stepcredit.harness.cli.display import print_json, print_table

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn())
    shown = Console(file=sys.stderr)
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as progress:
        bar = progress.add_task("", total=None)

        def show(task: str, done: int, total: int) -> None:
            progress.update(bar, description=task, completed=done, total=total)

        found = capability_of_run(run, limit=limit, update=checkpoint, threads=threads, device=device, report=show)
    if as_json:
        print_json(found)
    else:
        print_table(list(_records(found)), as_json)


def _records(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One record a task and metric."""
    before, after = found["before"]["tasks"], found["after"]["tasks"]
    for task, values in after.items():
        for metric in sorted(values.keys() - {"n"}):
            yield {
                "task": task,
                "metric": metric,
                "examples": values["n"],
                "chance": _CHANCE.get(metric),
                "before": before[task][metric],
                "after": values[metric],
            }
