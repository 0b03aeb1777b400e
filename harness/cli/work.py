"""Commands that work on single things: evaluate a run, bench, warm start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stepcredit.harness.cli import options


def evaluate(
    run: options.RunFolder,
    suite: Annotated[str | None, typer.Option("--suite", help="Default: the run's own.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Default: the run's own.")] = None,
    size: options.Size = None,
    per_subset: options.PerSubset = None,
    panel_seed: Annotated[int, typer.Option("--panel-seed", help="Which sub-panel of that size.")] = 0,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0.0, help="Default: the run's.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draws.")] = 0,
    checkpoint: Annotated[int | None, typer.Option("--checkpoint", help="Update; default: the last.")] = None,
    threads: options.Threads = 1,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Evaluate a run's checkpoint on any panel; episodes and a summary go to RUN/evals/."""
    from stepcredit.harness.cli.display import bar, print_evaluation
    from stepcredit.harness.study.evals import Request, evaluate_run

    request = Request(suite, split, size, per_subset, panel_seed, temperature, seed, checkpoint)
    with bar() as show:
        found = evaluate_run(run, request, threads, device, show)
    print_evaluation(found, as_json)


def bench(
    out: Annotated[Path | None, typer.Option("--out", help="Also write the numbers there as JSON.")] = None,
) -> None:
    """Rollout speed and log-probabilities against plain generate() with the full history, side by side."""
    from stepcredit.harness.bench.rollout import measure
    from stepcredit.harness.cli.display import print_table
    from stepcredit.harness.record import files

    numbers = measure()
    print_table([{"measure": name, "value": f"{value:.4g}"} for name, value in numbers.items()], as_json=False)
    if out is not None:
        files.write_json(out, numbers)


def warmstart(
    benchmark: options.Benchmark = "alfworld",
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the policy. Default: the shipped one.")] = None,
) -> None:
    """Make a benchmark's embedded policy again: clone an expert on generated tasks. Half an hour."""
    from stepcredit.harness.model.presets import preset_named
    from stepcredit.harness.warmstart import build

    folder = out or Path("harness/policies") / preset_named("tiny").recipe(benchmark).folder
    build.main(benchmark, folder)
