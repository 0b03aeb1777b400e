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
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A limit or an option of the benchmark, such as rollout.max_turns=50 or "
            "env_options.retriever.engine=lucene; repeat for several.",
        ),
    ] = None,
    threads: options.Threads = 1,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Evaluate a run's checkpoint on any panel; episodes and a summary go to RUN/evals/.

    The run's limits hold on its own suite. Another suite brings its own: turns, and room for as many.
    """
    from stepcredit.harness.cli.display import bar, print_evaluation
    from stepcredit.harness.study.evals import Request, evaluate_run

    request = Request(suite, split, size, per_subset, panel_seed, temperature, seed, checkpoint, tuple(settings or ()))
    with bar("episodes") as show:
        found = evaluate_run(run, request, threads, device, show)
    print_evaluation(found, as_json)


def bench(
    out: Annotated[Path | None, typer.Option("--out", help="Also write the numbers there as JSON.")] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Of SmolLM2: engines, merged transcripts, an update beside TRL's.")
    ] = False,
) -> None:
    """Rollout speed and log-probabilities against plain generate() with the full history, side by side."""
    from stepcredit.harness.bench import pretrained as of_smollm2
    from stepcredit.harness.bench import rollout
    from stepcredit.harness.cli.display import print_table
    from stepcredit.harness.record import files

    numbers = of_smollm2.measure() if pretrained else rollout.measure()
    print_table([{"measure": name, "value": f"{value:.4g}"} for name, value in numbers.items()], as_json=False)
    if out is not None:
        files.write_json(out, numbers)


def warmstart(
    out: Annotated[Path, typer.Option("--out", help="Folder for the policy.")],
    benchmark: options.Benchmark = "alfworld",
    blind: Annotated[
        bool, typer.Option("--blind", help="tiny-blind, which does not learn to read what teachers are shown.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="A pretrained model to warm-start; default: the embedded policy.")
    ] = None,
    suite: options.Suite = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of demonstrations and adapters.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Such as updates=200, optim.lr=1e-4, optim.rank=16 (LoRA)."),
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="torch threads; default: 1.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda or auto; default: auto.")] = None,
) -> None:
    """Clone an expert on generated tasks: the embedded policy again in an hour, or a pretrained model.

    A pretrained model's is resumed by the same command. Its folder is a --model of train and reproduce.
    """
    from stepcredit.harness.cli.imitation import warm_start_of
    from stepcredit.harness.errors import UserError
    from stepcredit.harness.setup.settings import benchmark_called
    from stepcredit.harness.warmstart import build

    benchmark = benchmark_called(benchmark)
    if model is not None and blind:
        raise UserError("--blind is for the embedded policy; leave it out, or leave --model out")
    if model is not None:
        warm_start_of(model, benchmark, suite, seed or 0, settings or (), out, threads or 1, device or "auto")
        return
    if any(option is not None for option in (suite, seed, settings, threads, device)):
        raise UserError("the embedded policy's warm start takes --benchmark, --blind and --out alone; name a --model")
    build.main(benchmark, out, reads=not blind)
