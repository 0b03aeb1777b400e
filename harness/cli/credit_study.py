"""The command that holds credit against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepcredit.harness.cli import options

if TYPE_CHECKING:
    from stepcredit.harness.credit_study.asked import StudySpec
    from stepcredit.harness.credit_study.study import Found


def credit_study(
    out: Annotated[Path, typer.Option("--out", help="Folder of the study; one that was stopped is resumed.")],
    model: options.Model = "tiny",
    benchmark: options.Benchmark = "alfworld",
    suite: options.Suite = None,
    method: options.Methods = None,
    arm: Annotated[
        list[str] | None, typer.Option("--arm", help="What teachers are shown; repeat. Default: nine of them.")
    ] = None,
    tasks: Annotated[int, typer.Option("--tasks", min=1, help="Held-out tasks, a group of episodes each.")] = 8,
    precision: Annotated[
        float, typer.Option("--precision", min=0.005, max=0.5, help="Standard error of a step's true advantage.")
    ] = 0.03,
    alternatives: Annotated[
        int,
        typer.Option(
            "--alternatives",
            min=0,
            help="Fresh episodes from a state of each trajectory, whose first actions are compared.",
        ),
    ] = 0,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Compare policy gradients with the truth's too; for small policies.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of episodes and continuations.")] = 0,
    settings: options.Settings = None,
    jobs: options.Jobs = None,
    threads: options.Threads = 1,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Every method's credit under every arm, on the same episodes, against what each step was truly worth.

    The truth comes from fresh episodes that go on from each state, as many as the precision needs.
    """
    from stepcredit.harness.cli.display import print_json
    from stepcredit.harness.credit_study.asked import StudySpec
    from stepcredit.harness.credit_study.cases import USUAL
    from stepcredit.harness.credit_study.study import STUDY
    from stepcredit.harness.fidelity.truth import Precision
    from stepcredit.harness.record import files
    from stepcredit.harness.setup.settings import build_spec
    from stepcredit.harness.words import one_of
    from stepcredit.methods.arms import ARMS
    from stepcredit.methods.registry import method_names

    arms = tuple(one_of("hindsight", name, ARMS) for name in arm or USUAL)
    spec = build_spec(model=model, benchmark=benchmark, suite=suite, method="grpo", seed=seed, overrides=settings or ())
    study = StudySpec(
        spec, tuple(method or method_names()), arms, tasks, seed, Precision(precision), alternatives, gradients
    )
    found = study_credit(study, out, jobs, threads, device)
    if as_json:
        print_json(files.read_json(out / STUDY))
    else:
        _print(found, out, precision)


def study_credit(spec: StudySpec, out: Path, jobs: int | None, threads: int, device: str) -> Found:
    """Run the study with a bar.

    Raises:
        UserError: no group is mixed, or the folder holds another study.
        EnvError: the benchmark cannot serve an arm.
    """
    from stepcredit.harness import determinism
    from stepcredit.harness.cli.display import bar
    from stepcredit.harness.cli.study import resources
    from stepcredit.harness.credit_study.study import run_study
    from stepcredit.harness.credit_study.truths import Device
    from stepcredit.harness.setup.parts import assemble

    given = resources(jobs, threads, device, spec.run.model)
    determinism.switch_on(threads, given.device)
    with bar("tasks with their truth") as tell:
        parts = assemble(spec.run, given.device)
        return run_study(spec, parts, out, Device(given.device, threads, given.jobs), tell)


def _print(found: Found, out: Path, precision: float) -> None:
    from stepcredit.harness.cli.display import print_table
    from stepcredit.harness.credit_study.measures import chosen, pointed, shown
    from stepcredit.harness.fidelity.truth import Precision

    print(found.verdict)
    print_table([shown(row) for row in found.measured], as_json=False)
    ceiling = max((row.ceiling for row in found.measured), default=float("nan"))
    if found.gradients:
        print("policy gradients beside that of the truth, from the same steps:")
        print_table([pointed(row) for row in found.gradients], as_json=False)
    if found.choices:
        print("share of pairs of a state's actions that are ranked as they are worth, beyond noise; a half by chance:")
        print_table([chosen(row) for row in found.choices], as_json=False)
    print(
        f"{found.steps} steps, standard error of A* {found.stderr:.3f} on average (asked: {precision:g}), ceiling of a "
        f"rank {ceiling:.2f}"
    )
    if found.retaken is not None:
        print(f"its episodes cannot be cloned: {found.retaken:,} actions were taken again to bring states back")
    if found.stderr > precision:
        most = Precision().most
        print(f"that is less precise than was asked: a state has {most} continuations at most; take more tasks instead")
    print("intervals: 95%, over tasks; ranks are within trajectories, p is Holm-corrected over the table")
    for refused in found.refused:
        print(f"left out: {refused}")
    print(f"study: {out}")
