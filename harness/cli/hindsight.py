"""The command that shows what teachers are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stepcredit.harness.cli import options

if TYPE_CHECKING:
    from stepcredit.harness.run.contexts import TeacherContext


def hindsight(
    arm: Annotated[str, typer.Argument(help="What is shown, such as peer_traj, foreign, self; see methods/README.md.")],
    task: Annotated[str | None, typer.Argument(help="Training task; default: the first update's first.")] = None,
    model: options.Model = "tiny",
    benchmark: options.Benchmark = "alfworld",
    suite: options.Suite = None,
    method: Annotated[str, typer.Option("--method", help="Whose options hold: opd, rlsd, sdar, agentopsd.")] = "opd",
    settings: options.Settings = None,
    as_json: options.Json = False,
) -> None:
    """What the teachers of a task's episodes are shown by an arm, one by one, and whom it cannot serve.

    The episodes are those of a run's first update.
    """
    from dataclasses import asdict

    from stepcredit.harness import determinism
    from stepcredit.harness.cli.display import print_json
    from stepcredit.harness.run.contexts import teacher_contexts
    from stepcredit.harness.setup.parts import assemble
    from stepcredit.harness.setup.settings import build_spec
    from stepcredit.harness.words import one_of
    from stepcredit.methods.arms import ARMS

    overrides = (f"method_options.hindsight={one_of('hindsight', arm, ARMS)}", *(settings or ()))
    spec = build_spec(model=model, benchmark=benchmark, suite=suite, method=method, seed=0, overrides=overrides)
    determinism.switch_on(1, "cpu")
    name, contexts = teacher_contexts(spec, assemble(spec, "cpu"), task)
    if as_json:
        print_json({"task": name, "arm": arm, "contexts": [asdict(context) for context in contexts]})
    else:
        _print(name, arm, contexts)


def _print(task: str, arm: str, contexts: list[TeacherContext]) -> None:
    from stepcredit.harness.cli.display import console_for_output
    from stepcredit.harness.words import counted

    console, missed = console_for_output(), sum(not context.served for context in contexts)
    console.print(f"{task}, hindsight {arm}", style="bold", highlight=False)
    for context in contexts:
        console.print(f"\n{_heading(context)}", style="bold", highlight=False)
        for title, text in _parts(context):
            console.print(f"[{title}]", style="yellow", highlight=False, markup=False)
            console.print(text, highlight=False, markup=False)
    if missed:
        console.print(f"\n{counted(missed, 'trajectory')} of {len(contexts)} cannot be served", highlight=False)


def _heading(context: TeacherContext) -> str:
    ended = "succeeded" if context.success else "failed"
    return f"trajectory {context.trajectory}, {ended}{'' if context.served else ': nothing to show'}"


def _parts(context: TeacherContext) -> list[tuple[str, str]]:
    shown = (("prompt", context.prompt), ("shown", context.block), ("compared with", context.against))
    return [(title, text) for title, text in shown if text is not None]
