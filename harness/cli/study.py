"""Commands that make studies: train, reproduce, demo, paper."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options

if TYPE_CHECKING:
    from harness.matrix import Resources
    from harness.spec import RunSpec

_METHODS = ("grpo", "opd", "stepopsd")
_SEEDS = (0, 1, 2)
_REFERENCE = Path("results/reference")
_DEMO = ("updates=2", "rollout.tasks=4", "rollout.group=4", "evaluation.size=12", "evaluation.every=2")
_DEMO_SEEDS = (0, 1)
_JOBS = {"cpu": 2, "cuda": 1}


@dataclass(frozen=True, slots=True)
class Choice:
    """What a study is made of, as the command line says it."""

    model: str
    benchmark: str
    suite: str | None
    methods: Sequence[str]
    seeds: Sequence[int]
    settings: Sequence[str]

    def specs(self) -> list[RunSpec]:
        """One spec a method and seed."""
        from harness.settings import build_spec

        return [
            build_spec(
                model=self.model,
                benchmark=self.benchmark,
                suite=self.suite,
                method=method,
                seed=seed,
                overrides=self.settings,
            )
            for seed in self.seeds
            for method in self.methods
        ]


def train(
    model: options.Model = "tiny",
    benchmark: options.Benchmark = "alfworld",
    suite: options.Suite = None,
    method: options.Methods = None,
    seed: options.Seeds = None,
    settings: options.Settings = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the study; each run is a folder in it.")] = Path(
        "results/runs"
    ),
    again: Annotated[bool, typer.Option("--again", help="Repeat finished runs beside them, to compare bits.")] = False,
    jobs: options.Jobs = None,
    threads: options.Threads = 1,
    device: options.Device = "auto",
) -> None:
    """Train one or more runs: each --method with each --seed (default grpo, seed 0).

    A run that exists is left as it is, an interrupted one is resumed to the same bits.
    """
    choice = Choice(model, benchmark, suite, method or _METHODS[:1], seed or _SEEDS[:1], settings or ())
    run_study(out, choice.specs(), resources(jobs, threads, device, model), copy=again)
    print(f"results: {out}")


def reproduce(
    model: options.Model = "tiny",
    benchmark: options.Benchmark = "alfworld",
    suite: options.Suite = None,
    method: options.Methods = None,
    seed: options.Seeds = None,
    settings: options.Settings = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the study.")] = Path("results/reproduce"),
    jobs: options.Jobs = None,
    threads: options.Threads = 1,
    device: options.Device = "auto",
) -> None:
    """Train the default study (3 methods x 3 seeds), build its paper, compare it with the committed results."""
    choice = Choice(model, benchmark, suite, method or _METHODS, seed or _SEEDS, settings or ())
    run_study(out, choice.specs(), resources(jobs, threads, device, model))
    build_paper(out)
    compare(out)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the study.")] = Path("results/demo"),
    jobs: options.Jobs = None,
) -> None:
    """The whole chain on toy sizes, in minutes: 3 methods x 2 seeds x 2 updates, then the paper."""
    choice = Choice("tiny", "alfworld", "mini", _METHODS, _DEMO_SEEDS, _DEMO)
    run_study(out, choice.specs(), resources(jobs, 1, "cpu", "tiny"))
    build_paper(out)


def paper(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study.")] = Path("results/reproduce"),
    out: Annotated[Path | None, typer.Option("--out", help="Where to write; default STUDY/paper.")] = None,
) -> None:
    """Tables, figures and a PDF from a study's result files alone."""
    build_paper(study, out)


def resources(jobs: int | None, threads: int, device: str, model: str) -> Resources:
    """What the runs may use.

    Raises:
        UserError: unknown device, or a GPU asked for where there is none.
    """
    from harness.device import resolve
    from harness.matrix import Resources

    found = resolve(device, model)
    return Resources(jobs or _JOBS[found], threads, found)


def run_study(out: Path, specs: Sequence[RunSpec], resources: Resources, *, copy: bool = False) -> None:
    """Train what is missing.

    Raises:
        UserError: bad input or no room; see `harness.matrix`.
    """
    from harness import matrix
    from harness.parts import episodes_of, inputs_of

    plan = matrix.plan(matrix.cells_of(out, specs, copy=copy), inputs_of)
    print(
        f"{out}: {len(plan.finished)} of {len(specs)} runs are complete, {len(plan.resumed)} to be resumed, "
        f"{len(plan.missing) - len(plan.resumed)} to be started",
        file=sys.stderr,
    )
    matrix.run(plan, resources, lambda spec: episodes_of(spec, inputs_of(spec).panels["eval"].size))


def build_paper(study: Path, out: Path | None = None) -> None:
    """Build the paper and say where it is.

    Raises:
        PaperError: nothing to report, or results that do not belong together.
    """
    from paper.build import build

    target = out or study / "paper"
    build(study, target)
    print(f"paper: {target}")


def compare(study: Path) -> None:
    """Say for each run whether it has the bits of the committed reference, where that has the same spec."""
    if not _REFERENCE.is_dir():
        print(f"comparison: no reference results in {_REFERENCE}")
        return
    if study.resolve() == _REFERENCE.resolve():
        print(f"comparison: {study} is itself the reference")
        return
    from paper.compare import compare as compare_studies

    for line in compare_studies(study, _REFERENCE):
        print(line)
