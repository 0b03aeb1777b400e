"""Commands that list: runs, panel, doctor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepcredit.harness.cli import options
from stepcredit.harness.errors import UserError

if TYPE_CHECKING:
    from stepcredit.harness.study.doctor import Finding
    from stepcredit.harness.study.hours import Rates


def runs(
    root: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Folder of a study, or of several.")] = Path(
        "results"
    ),
    as_json: options.Json = False,
) -> None:
    """List runs: how far each is, and how it did on the held-out panel before and after training."""
    from stepcredit.harness.cli.display import print_table
    from stepcredit.harness.cli.outcome import readable
    from stepcredit.harness.study.listing import run_listing

    found = run_listing(root)
    print_table(found if as_json else [readable(record) for record in found], as_json)


def panel(
    benchmark: Annotated[str, typer.Argument(help="Benchmark.")] = "alfworld",
    suite: options.Suite = None,
    split: Annotated[str | None, typer.Option("--split", help="Default: the one that is evaluated.")] = None,
    size: options.Size = None,
    per_subset: options.PerSubset = None,
    panel_seed: Annotated[int, typer.Option("--panel-seed", help="Which sub-panel of that size.")] = 0,
    as_json: options.Json = False,
) -> None:
    """A canonical panel: its tasks, sorted, each once, and the hash over their ids and contents."""
    from stepcredit.harness.cli.display import print_panel
    from stepcredit.harness.study.listing import panel_listing

    print_panel(panel_listing(benchmark, suite, split, size, panel_seed, per_subset=per_subset), as_json)


def doctor(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option("--model", help="Ask what a run of this model from the hub needs.")
    ] = None,
    gpu: Annotated[float, typer.Option("--gpu", min=1.0, help="Memory of a GPU that --model is to fit, in GB.")] = 80.0,
    benchmark: options.Benchmark = "alfworld",
    method: Annotated[str, typer.Option("--method", help="Method of the run.")] = "stepopsd",
    settings: options.Settings = None,
    tflops: Annotated[
        float, typer.Option("--tflops", min=0.001, help="bfloat16 TFLOP/s that the GPU sustains; assumed, for hours.")
    ] = 400.0,
    bandwidth: Annotated[
        float, typer.Option("--bandwidth", min=0.001, help="TB/s of its memory that it sustains; assumed, for hours.")
    ] = 2.0,
    corpus: Annotated[
        str | None,
        typer.Option(
            "--corpus", metavar="FILE|PASSAGES", help="Ask what searching this corpus, or one of that size, needs."
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", help="What --corpus is to be searched with: bm25, lucene or dense.")
    ] = "bm25",
    processes: options.Processes = 1,
    as_json: options.Json = False,
) -> None:
    """Check versions, memory, data, the policy's weights and write permission; exit code 1 if something is wrong.

    With --model: a run's memory by part, its disk and hours, whether it fits a GPU, and what would make it fit. Loads
    no weights. With --corpus: the memory, disk and hours that its index needs, and whether they are there; --set then
    sets the retriever.
    """
    from stepcredit.harness.study.doctor import examine
    from stepcredit.harness.study.hours import Rates

    if corpus is not None:
        _refuse_others(context, "corpus", "engine", "settings")
        _print_findings(_corpus_findings(corpus, engine, settings or ()), as_json=as_json)
        return
    if model is not None:
        _refuse_others(context, "model", "gpu", "benchmark", "method", "settings", "tflops", "bandwidth", "processes")
        rates = Rates(tflops * 1e12, bandwidth * 1e12)
        _print_budget(model, gpu, benchmark, method, tuple(settings or ()), rates, processes, as_json=as_json)
        return
    _refuse_others(context)
    _print_findings(examine(Path.cwd()), as_json=as_json)


def _refuse_others(context: typer.Context, *used: str) -> None:
    """Refuse options that were given and would change nothing; the first one used, if any, is what is asked."""
    for parameter in context.command.params:
        name, option = str(parameter.name), parameter.opts[0]
        source = context.get_parameter_source(name)
        if name not in ("as_json", *used) and source is not None and source.name == "COMMANDLINE":
            beside = f"beside --{used[0]}; leave it out" if used else "alone; add --model or --corpus, or leave it out"
            raise UserError(f"{option} has no effect {beside}")


def _corpus_findings(corpus: str, engine: str, settings: Sequence[str]) -> Sequence[Finding]:
    from stepcredit.envs.searchqa.retrieval.opening import RetrieverSpec
    from stepcredit.harness.cli.serve import retriever_settings
    from stepcredit.harness.study.corpus_room import examine_corpus

    return examine_corpus(corpus, RetrieverSpec.parse({**retriever_settings(settings), "engine": engine}))


def _print_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    from stepcredit.harness.cli.display import print_doctor

    print_doctor(findings, as_json)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _print_budget(
    model: str,
    gpu: float,
    benchmark: str,
    method: str,
    settings: tuple[str, ...],
    rates: Rates,
    processes: int,
    *,
    as_json: bool,
) -> None:
    from stepcredit.harness.cli.display import print_json, print_table
    from stepcredit.harness.model.policy import load_shape
    from stepcredit.harness.setup.settings import build_spec
    from stepcredit.harness.setup.teacher import teacher_shape
    from stepcredit.harness.study.budget import budget_of, changes_that_fit, gibibytes, table_of
    from stepcredit.harness.study.hours import hours_of

    spec = build_spec(model=model, benchmark=benchmark, suite=None, method=method, seed=0, overrides=settings)
    shape, available = load_shape(model), int(gpu * 1e9)
    teacher = teacher_shape(spec)
    budget = budget_of(spec, shape, teacher, processes=processes)
    hours = hours_of(spec, shape, rates, processes=processes)
    fits, rows = budget.peak <= available, table_of(budget)
    changes = [] if fits else changes_that_fit(spec, shape, available, teacher, processes=processes)
    if as_json:
        print_json(
            {
                "fits": fits,
                "parts": rows,
                "disk_gib": gibibytes(budget.disk_bytes),
                "hours": asdict(hours),
                "changes": [text for text, _ in changes],
            }
        )
    else:
        print(f"{model}, {shape.parameters / 1e9:.2f} billion parameters, {spec.method} on {spec.benchmark}")
        print_table(rows, as_json=False)
        print(f"disk: {gibibytes(budget.disk_bytes):.0f} GiB of checkpoints for each run")
        print(
            f"hours: at most {hours.all:.0f} at {rates.flops / 1e12:g} TFLOP/s and {rates.bandwidth / 1e12:g} TB/s, if "
            f"every episode fills all turns and tokens: rollouts {hours.rollouts:.1f}, credit {hours.credit:.1f}, "
            f"updates {hours.updates:.1f}, evaluations {hours.evaluations:.1f}"
            f"{'' if spec.evaluation.size else ' (of a whole split, not counted)'}"
        )
        print(f"{'fits' if fits else 'does not fit'} {gpu:g} GB ({gibibytes(available):.1f} GiB)")
        for text, smaller in changes:
            print(f"  it would with --set {text}: {gibibytes(smaller.peak):.1f} GiB")
    if not fits:
        raise typer.Exit(1)
