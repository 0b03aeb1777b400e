"""The command that holds credit against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepcredit.harness.cli import options

if TYPE_CHECKING:
    from stepcredit.harness.credit_study.study import Found

_ARMS = ("none", "empty", "peer_traj", "outcome", "failed_peer", "foreign", "shuffled", "self", "contrast")


def credit_study(
    out: Annotated[Path, typer.Option("--out", help="Folder of the study; one that was stopped is resumed.")],
    model: options.Model = "tiny",
    benchmark: options.Benchmark = "alfworld",
    suite: options.Suite = None,
    method: options.Methods = None,
    arm: Annotated[
        list[str] | None, typer.Option("--arm", help=f"What teachers are shown; repeat. Default: {', '.join(_ARMS)}.")
    ] = None,
    tasks: Annotated[int, typer.Option("--tasks", min=1, help="Held-out tasks, a group of episodes each.")] = 8,
    precision: Annotated[
        float, typer.Option("--precision", min=0.005, max=0.5, help="Standard error of a step's true advantage.")
    ] = 0.03,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of episodes and continuations.")] = 0,
    settings: options.Settings = None,
    threads: options.Threads = 1,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Every method's credit under every arm, on the same episodes, against what each step was truly worth.

    The truth comes from fresh episodes that go on from each state, as many as the precision needs.
    """
    from stepcredit.harness import determinism
    from stepcredit.harness.cli.display import bar, print_json
    from stepcredit.harness.credit_study.study import STUDY, StudySpec, run_study
    from stepcredit.harness.device import resolve
    from stepcredit.harness.fidelity.truth import Precision
    from stepcredit.harness.model.presets import preset_named
    from stepcredit.harness.record import files
    from stepcredit.harness.setup.parts import assemble
    from stepcredit.harness.setup.settings import build_spec
    from stepcredit.harness.words import one_of
    from stepcredit.methods.arms import ARMS
    from stepcredit.methods.registry import method_names

    arms = tuple(one_of("hindsight", name, ARMS) for name in arm or _ARMS)
    spec = build_spec(model=model, benchmark=benchmark, suite=suite, method="grpo", seed=seed, overrides=settings or ())
    place = resolve(device, preset_named(model).device)
    determinism.switch_on(threads, place)
    study = StudySpec(spec, tuple(method or method_names()), arms, tasks, seed, Precision(precision))
    with bar("tasks with their truth") as tell:
        found = run_study(study, assemble(spec, place), out, tell)
    if as_json:
        print_json(files.read_json(out / STUDY))
    else:
        _print(found, out)


def _print(found: Found, out: Path) -> None:
    from stepcredit.harness.cli.display import print_table
    from stepcredit.harness.credit_study.measures import shown

    print(found.verdict)
    print_table([shown(row) for row in found.measured], as_json=False)
    ceiling = max((row.ceiling for row in found.measured), default=float("nan"))
    print(f"{found.steps} steps, standard error of A* {found.stderr:.3f} on average, ceiling of a rank {ceiling:.2f}")
    print("intervals: 95%, over tasks; ranks are within trajectories, p is Holm-corrected over the table")
    for refused in found.refused:
        print(f"left out: {refused}")
    print(f"study: {out}")
