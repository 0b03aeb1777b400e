"""Commands that make studies: train, reproduce, demo, paper."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepcredit.harness.cli import options

if TYPE_CHECKING:
    from stepcredit.harness.spec import RunSpec
    from stepcredit.harness.study.matrix import Resources

_MODEL = "tiny"
_BENCHMARK = "alfworld"
_METHODS = ("grpo", "opd", "stepopsd")
_SEEDS = (0, 1, 2)
_REFERENCES = {"alfworld": Path("results/reference"), "searchqa": Path("results/reference-searchqa")}
_REPRODUCED = {"alfworld": Path("results/reproduce"), "searchqa": Path("results/reproduce-searchqa")}
_DEMO = ("updates=2", "rollout.tasks=4", "rollout.group=4", "evaluation.size=12", "evaluation.every=2")
_DEMO_SEEDS = (0, 1)
_EXAMINED = ("searchqa",)  # benchmarks whose questions can be asked without an environment
_JOBS = {"cpu": 2, "cuda": 1}


@dataclass(frozen=True, slots=True)
class Choice:
    """What a study is made of, as the command line says it; what it leaves open is as the recipe says."""

    model: str | None
    benchmark: str | None
    suite: str | None
    methods: Sequence[str]
    seeds: Sequence[int]
    settings: Sequence[str]
    recipe: str | None = None

    def specs(self) -> list[RunSpec]:
        """One spec a method and seed."""
        from stepcredit.harness.setup.settings import build_spec

        if self.recipe:
            return self._by_recipe(self.recipe)
        return [
            build_spec(
                model=self.model or _MODEL,
                benchmark=self.benchmark or _BENCHMARK,
                suite=self.suite,
                method=method,
                seed=seed,
                overrides=self.settings,
            )
            for seed in self.seeds
            for method in self.methods or _METHODS[:1]
        ]

    def _by_recipe(self, name: str) -> list[RunSpec]:
        from stepcredit.harness.recipes import recipe_named

        recipe = recipe_named(name)
        recipe.require_benchmark(self.benchmark)
        return [
            recipe.spec(seed=seed, model=self.model, suite=self.suite, method=method, overrides=self.settings)
            for seed in self.seeds
            for method in self.methods or (None,)
        ]


def train(
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Published recipe to start from, see `recipe list`.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Policy preset: tiny, qwen3-1.7b, qwen2.5-3b, qwen2.5-7b. Default: the recipe's, or tiny.",
        ),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option("--benchmark", help="Benchmark: alfworld, searchqa. Default: the recipe's, or alfworld."),
    ] = None,
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
    """Train one or more runs: each --method with each --seed (default grpo, or the recipe's; seed 0).

    A run that exists is left as it is, an interrupted one is resumed to the same bits.
    """
    specs = Choice(model, benchmark, suite, method or (), seed or _SEEDS[:1], settings or (), recipe).specs()
    run_study(out, specs, resources(jobs, threads, device, specs[0].model), copy=again)
    print(f"results: {out}")


def reproduce(
    model: options.Model = "tiny",
    benchmark: options.Benchmark = "alfworld",
    suite: options.Suite = None,
    method: options.Methods = None,
    seed: options.Seeds = None,
    settings: options.Settings = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the study. Default: results/reproduce[-BENCHMARK].")
    ] = None,
    jobs: options.Jobs = None,
    threads: options.Threads = 1,
    device: options.Device = "auto",
) -> None:
    """Train the default study (3 methods x 3 seeds), build its paper, compare it with the committed results."""
    choice = Choice(model, benchmark, suite, method or _METHODS, seed or _SEEDS, settings or ())
    specs = choice.specs()
    folder = out or _REPRODUCED[benchmark]
    given = resources(jobs, threads, device, model)
    examined = benchmark in _EXAMINED
    run_study(folder, specs, given, examines=examined)
    if examined:
        examine_study(folder, specs, given)
    build_paper(folder)
    compare(folder, _REFERENCES[benchmark])


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
    from stepcredit.harness.device import resolve
    from stepcredit.harness.model.presets import preset_named
    from stepcredit.harness.study.matrix import Resources

    found = resolve(device, prefers_gpu=preset_named(model).prefers_gpu)
    return Resources(jobs or _JOBS[found], threads, found)


def run_study(
    out: Path, specs: Sequence[RunSpec], resources: Resources, *, copy: bool = False, examines: bool = False
) -> None:
    """Train what is missing, and examine each such run outside its environment right after, if wanted.

    Raises:
        UserError: bad input or no room; see `stepcredit.harness.study.matrix`.
    """
    from stepcredit.harness.run.schedule import episodes_of
    from stepcredit.harness.setup.parts import inputs_of
    from stepcredit.harness.study import matrix

    plan = matrix.plan(matrix.cells_of(out, specs, copy=copy), inputs_of)
    print(
        f"{out}: {len(plan.finished)} of {len(specs)} runs are complete, {len(plan.resumed)} to be resumed, "
        f"{len(plan.missing) - len(plan.resumed)} to be started",
        file=sys.stderr,
    )
    matrix.run(plan, resources, lambda spec: episodes_of(spec, inputs_of(spec).panels["eval"].size), examines=examines)


def examine_study(out: Path, specs: Sequence[RunSpec], given: Resources) -> None:
    """Examine every run outside its environment, one after the other; what is examined already is left as it is.

    Raises:
        UserError: a run's checkpoint is missing or damaged.
    """
    from stepcredit.harness.capability.runs import capability_of_run
    from stepcredit.harness.study.matrix import cells_of

    for place, cell in enumerate(cells_of(out, specs), start=1):
        print(f"examining {cell.name} without its environment [{place} of {len(specs)}]", file=sys.stderr)
        capability_of_run(cell.folder, threads=given.threads, device=given.device)


def build_paper(study: Path, out: Path | None = None) -> None:
    """Build the paper and say where it is.

    Raises:
        PaperError: nothing to report, or results that do not belong together.
    """
    from stepcredit.paper.build import build

    target = out or study / "paper"
    build(study, target)
    print(f"paper: {target}")


def compare(study: Path, reference: Path) -> None:
    """Say for each run whether it has the bits of the committed reference, where that has the same spec."""
    if not reference.is_dir():
        print(f"comparison: no reference results in {reference}")
        return
    if study.resolve() == reference.resolve():
        print(f"comparison: {study} is itself the reference")
        return
    from stepcredit.paper.compare import compare as compare_studies

    for line in compare_studies(study, reference):
        print(line)
