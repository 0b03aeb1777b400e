"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stepcredit.envs import BENCHMARKS
from stepcredit.harness.model.presets import PRESETS

MODELS = f"Policy preset: {', '.join(PRESETS)}; or a model's folder, or ORG/NAME[@REVISION] of the hub."
BENCHMARKS_HELP = f"Benchmark: {', '.join(BENCHMARKS)}, or one that an installed package registers."
_SUITES = "; ".join(f"{', '.join(family.suites)} ({name})" for name, family in BENCHMARKS.items())

Model = Annotated[str, typer.Option("--model", help=MODELS)]
Benchmark = Annotated[str, typer.Option("--benchmark", help=BENCHMARKS_HELP)]
Suite = Annotated[
    str | None,
    typer.Option(
        "--suite",
        help=f"Variant of the benchmark: {_SUITES}. Default: the model's.",
    ),
]
Size = Annotated[int | None, typer.Option("--size", min=1, help="Tasks; default: the whole split.")]
PerSubset = Annotated[int | None, typer.Option("--per-subset", min=1, help="Tasks of each subset, at most.")]
Methods = Annotated[list[str] | None, typer.Option("--method", help="Method; repeat for several.")]
Seeds = Annotated[list[int] | None, typer.Option("--seed", min=0, help="Run seed; repeat for several.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A setting of the run, such as updates=50, rollout.tasks=8, optim.lr=1e-3 or "
        "method_options.alpha_clip=0.1; repeat for several. An unknown name lists them all.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", min=1, help="Runs at a time, each in its own process. Default: 2 on the CPU, 1 on a GPU."),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="torch threads per run; part of a run's identity.")]
Device = Annotated[
    str, typer.Option("--device", help="cpu, cuda, or auto: cuda for models from the hub where there is a GPU.")
]
Track = Annotated[
    list[str] | None,
    typer.Option("--track", help="Also tell tensorboard, wandb or trackio, where it is installed; repeat for several."),
]
Ray = Annotated[
    bool, typer.Option("--ray", help="On the Ray cluster at $RAY_ADDRESS, or one started here; --jobs bounds the runs.")
]
Processes = Annotated[
    int,
    typer.Option(
        "--processes",
        min=1,
        help="Processes that share each run's updates, on a GPU each; results are those of one but for rounding.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, such as results/reproduce/<cell>.")]
