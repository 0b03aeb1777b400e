"""Commands that make studies: train, reproduce, demo, paper."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from stepcredit.harness.cli import options
from stepcredit.harness.cli.outcome import print_outcome

if TYPE_CHECKING:
    from stepcredit.harness.spec import RunSpec
    from stepcredit.harness.study.pool import Resources

_MODEL = "tiny"
_BENCHMARK = "alfworld"
_METHODS = ("grpo", "opd", "stepopsd")
_SEEDS = (0, 1, 2)
_DEMO = ("updates=2", "rollout.tasks=4", "rollout.group=4", "evaluation.size=12", "evaluation.every=2")
_DEMO_SEEDS = (0, 1)
_JOBS = {"cpu": 2, "cuda": 1}
_QUEUED = 1000  # whatever a cluster has no room for yet waits there

MadeBy = Annotated[
    str | None,
    typer.Option("--made-by", hidden=True, help="Command that study.json records; default: this very command line."),
]


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
        """One spec per method and seed."""
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

    def notes(self) -> list[str]:
        """What is far off its preset, once for all runs; a method that has a required option has no usual settings."""
        from stepcredit.harness.setup.settings import far_off
        from stepcredit.methods.contract import MethodError

        try:
            usual = replace(self, settings=()).specs()
        except MethodError:
            return []
        pairs = zip(usual, self.specs(), strict=True)
        sentences = dict.fromkeys(line for expected, chosen in pairs for line in far_off(expected, chosen))
        advice = "if it is meant for another model, " + ("choose that" if self.model else "add --model")
        return [f"{sentence}; {advice}" for sentence in sentences]

    def _by_recipe(self, name: str) -> list[RunSpec]:
        from stepcredit.harness.recipes import recipe_named
        from stepcredit.harness.setup.published import published_spec, require_benchmark

        recipe = recipe_named(name)
        require_benchmark(recipe, self.benchmark)
        return [
            published_spec(
                recipe, seed=seed, model=self.model, suite=self.suite, method=method, overrides=self.settings
            )
            for seed in self.seeds
            for method in self.methods or (None,)
        ]


def train(
    context: typer.Context,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Published recipe to start from, see `recipe list`.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help=f"{options.MODELS} Default: the recipe's, or tiny.",
        ),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option("--benchmark", help=f"{options.BENCHMARKS_HELP} Default: the recipe's, or alfworld."),
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
    track: options.Track = None,
    ray: options.Ray = False,
    processes: options.Processes = 1,
    made_by: MadeBy = None,
) -> None:
    """Train one or more runs: each --method with each --seed (default grpo, or the recipe's; seed 0).

    A run that exists is left as it is, an interrupted one is resumed to the same bits.
    """
    choice = Choice(model, benchmark, suite, method or (), seed or _SEEDS[:1], settings or (), recipe)
    specs = choice.specs()
    given = resources(jobs, threads, device, specs[0].model, track or (), ray=ray, processes=processes)
    run_study(out, specs, given, made_by or context.obj, choice.notes(), copy=again)
    print(f"results: {out}")
    print_outcome(out, specs, (f"stepcredit paper {quote(str(out))}",), copy=again)


def reproduce(
    context: typer.Context,
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
    track: options.Track = None,
    ray: options.Ray = False,
    processes: options.Processes = 1,
    made_by: MadeBy = None,
) -> None:
    """Train the default study (3 methods x 3 seeds), build its paper, compare it with the committed results."""
    from stepcredit.envs import family_of
    from stepcredit.harness.record.cell import Cell

    choice = Choice(model, benchmark, suite, method or _METHODS, seed or _SEEDS, settings or ())
    specs = choice.specs()
    name = specs[0].benchmark
    family = family_of(name)
    ending = f"-{name}" if family.study is None else family.study
    folder = out or Path(f"results/reproduce{ending}")
    given = resources(jobs, threads, device, specs[0].model, track or (), ray=ray, processes=processes)
    run_study(folder, specs, given, made_by or context.obj, choice.notes(), examines=family.closed_book)
    if family.closed_book:
        examine_study(folder, specs, given)
    build_paper(folder)
    compare(folder, Path(f"results/reference{ending}"), specs)
    run = folder / Cell(folder, specs[0]).name
    after = (f"less {quote(str(folder / 'paper' / 'REPORT.md'))}", f"stepcredit evaluate {quote(str(run))}")
    print_outcome(folder, specs, after)


def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="Folder of the study.")] = Path("results/demo"),
    jobs: options.Jobs = None,
    made_by: MadeBy = None,
) -> None:
    """The whole chain on toy sizes, in minutes: 3 methods x 2 seeds x 2 updates, then the paper."""
    choice = Choice("tiny", "alfworld", "mini", _METHODS, _DEMO_SEEDS, _DEMO)
    specs = choice.specs()
    run_study(out, specs, resources(jobs, 1, "cpu", "tiny"), made_by or context.obj)
    build_paper(out)
    print_outcome(out, specs, (f"less {quote(str(out / 'paper' / 'REPORT.md'))}", "stepcredit reproduce"))


def paper(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study.")] = Path("results/reproduce"),
    out: Annotated[Path | None, typer.Option("--out", help="Where to write; default STUDY/paper.")] = None,
) -> None:
    """Tables, figures and a PDF from a study's result files alone."""
    build_paper(study, out)


def report(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study.")] = Path("results/reproduce"),
    out: Annotated[Path | None, typer.Option("--out", help="The page; default STUDY/paper/report.html.")] = None,
) -> None:
    """One HTML page to look into a study: tables that sort, plots, every episode, and credit token by token."""
    from stepcredit.paper.page.write import write_page

    page, *beside = write_page(study, out or study / "paper" / "report.html")
    print(f"report: {page}" + (f" and {len(beside)} files in {beside[0].parent}" if beside else ""))


def resources(
    jobs: int | None,
    threads: int,
    device: str,
    model: str,
    track: Sequence[str] = (),
    *,
    ray: bool = False,
    processes: int = 1,
) -> Resources:
    """What the runs may use, and which trackers they tell.

    Raises:
        UserError: unknown device, more GPUs asked for than there are, a tracker or Ray that is not installed.
    """
    from stepcredit.harness.device import require_devices, resolve
    from stepcredit.harness.model.presets import preset_named
    from stepcredit.harness.study.cluster import require_ray
    from stepcredit.harness.study.pool import Resources
    from stepcredit.harness.tracking import require

    if ray:
        require_ray()
    found = resolve(device, preset_named(model).device)
    if not ray:  # a cluster's nodes have devices of their own
        require_devices(processes, found)
    at_a_time = jobs or (_QUEUED if ray else max(_JOBS[found] // processes, 1))
    return Resources(at_a_time, threads, found, require(track), ray, processes)


def run_study(
    out: Path,
    specs: Sequence[RunSpec],
    resources: Resources,
    command: str,
    notes: Iterable[str] = (),
    *,
    copy: bool = False,
    examines: bool = False,
) -> None:
    """Train what is missing, and examine each such run outside its environment right after, if wanted.

    The study's folder keeps the command, if there is something for it to do.

    Raises:
        UserError: bad input, no room or no such engine here; see `stepcredit.harness.study.matrix`.
    """
    run_studies(out, {out: specs}, resources, command, notes, copy=copy, examines=examines)


def run_studies(
    root: Path,
    studies: Mapping[Path, Sequence[RunSpec]],
    resources: Resources,
    command: str,
    notes: Iterable[str] = (),
    *,
    copy: bool = False,
    examines: bool = False,
) -> None:
    """The same of several studies below one folder, whose runs take turns as if they were of one.

    Raises:
        UserError: bad input, no room or no such engine here; see `stepcredit.harness.study.matrix`.
    """
    from stepcredit.harness.engine.choice import require_alone, require_installed
    from stepcredit.harness.run.schedule import episodes_of
    from stepcredit.harness.setup.parts import inputs_lookup
    from stepcredit.harness.study import matrix, origin
    from stepcredit.harness.study.room import require_room
    from stepcredit.harness.words import counted

    inputs_of = inputs_lookup()
    cells = [cell for out, specs in studies.items() for cell in matrix.cells_of(out, specs, copy=copy)]
    missing = [cell.spec for cell in cells if not cell.ended()]
    for engine in {spec.engine for spec in missing}:
        require_alone(engine, resources.processes)
        require_installed(engine)
    disk = require_room(root, missing, resources)
    plan = matrix.plan(cells, inputs_of)  # loads weights, to know them
    print(
        f"{root}: {len(plan.finished)} of {counted(len(cells), 'run')} complete, {len(plan.resumed)} to be resumed, "
        f"{len(plan.missing) - len(plan.resumed)} to be started",
        file=sys.stderr,
    )
    for note in [*notes, *([f"disk: {disk}"] if disk else [])]:
        print(f"note: {note}", file=sys.stderr)
    for out in dict.fromkeys([root, *(cell.study for cell in plan.missing)] if plan.missing else []):
        origin.record(out, command)
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


def compare(study: Path, reference: Path, specs: Sequence[RunSpec]) -> None:
    """Say for each run that was asked for whether it has the bits of the reference, where that has the same spec."""
    if not reference.is_dir():
        print(f"comparison: no reference results in {reference}")
        return
    if study.resolve() == reference.resolve():
        print(f"comparison: {study} is itself the reference")
        return
    from stepcredit.harness.record.cell import Cell
    from stepcredit.paper.compare import compare as compare_studies

    asked = {Cell(study, spec).name for spec in specs}
    for comparison in compare_studies(study, reference):
        if comparison.cell in asked:
            print(comparison)
