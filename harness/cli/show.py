"""The command that shows an episode with its credit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepcredit.harness.cli import options

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from stepcredit.harness.study.traced import TracedEpisode, TracedTurn

_STRENGTHS = ("dim", "", "bold", "bold reverse")
"""By a token's share of the largest weight."""


def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or of a study with one that fits.")],
    task: Annotated[str | None, typer.Option("--task", help="Default: the first that was kept.")] = None,
    update: Annotated[int | None, typer.Option("--update", min=0, help="Default: the first that was kept.")] = None,
    trajectory: Annotated[int | None, typer.Option("--trajectory", min=0, help="Its place in its group.")] = None,
    method: Annotated[str | None, typer.Option("--method", help="Of a study: whose run.")] = None,
    arm: Annotated[str | None, typer.Option("--arm", help="Of a study: what the run's teacher was shown.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of a study: the run's.")] = None,
    as_json: options.Json = False,
) -> None:
    """An episode that a run trained on, turn by turn, its tokens coloured by credit: green is more likely, red less.

    Runs keep the episodes of one task of their first, middle and last update.
    """
    from dataclasses import asdict

    from stepcredit.harness.cli.display import print_json
    from stepcredit.harness.study.traced import episode, run_of

    folder, found = run_of(run, method, arm, seed)
    shown = episode(folder, found, task, update, trajectory)
    if as_json:
        print_json({"run": str(shown.run), "hint": shown.hint, "turns": [asdict(turn) for turn in shown.turns]})
    else:
        _print(shown)


def _print(shown: TracedEpisode) -> None:
    from stepcredit.harness.cli.display import console_for_output

    console = console_for_output()
    console.print(_heading(shown), style="bold", highlight=False, markup=False)
    if shown.hint:
        console.print(f"[its teacher is shown]\n{shown.hint}", style="yellow", highlight=False, markup=False)
    for number, turn in enumerate(shown.turns):
        _print_turn(console, number, turn, shown.scale)


def _heading(shown: TracedEpisode) -> str:
    from stepcredit.harness.study.traced import arm_of

    first, spec, arm = shown.first, shown.manifest.spec, arm_of(shown.manifest)
    method = shown.manifest.method_label or spec.method
    return (
        f"{method}{f', hindsight {arm}' if arm else ''}, seed {spec.seed}, update {first.update}\n"
        f"{first.task_id}, trajectory {first.trajectory}, {'succeeded' if first.success else 'failed'}, "
        f"largest weight {shown.scale:.3g}"
    )


def _print_turn(console: Console, number: int, turn: TracedTurn, scale: float) -> None:
    gap = "" if turn.gap is None else f", gap {turn.gap:+.2f}"
    refused = "" if turn.valid else ", not admitted"
    console.print(f"\nturn {number + 1}: credit {turn.weight:+.3f}{gap}{refused}", style="bold", highlight=False)
    if turn.read:
        console.print(turn.read.strip(), style="dim", highlight=False, markup=False)
    coloured = console.is_terminal and not console.no_color
    console.print(_coloured(turn, scale) if coloured else _numbered(turn), highlight=False, markup=False)


def _coloured(turn: TracedTurn, scale: float) -> Text:
    from rich.text import Text

    from stepcredit.harness.study.traced import weight_of

    pieces = []
    for token in turn.tokens:
        share = weight_of(token) / scale if scale else 0.0
        strength = _STRENGTHS[min(len(_STRENGTHS) - 1, int(abs(share) * len(_STRENGTHS)))]
        colour = "green" if share > 0 else "red" if share < 0 else "default"
        pieces.append((token.text, f"{strength} {colour}".strip()))
    return Text.assemble(*pieces)


def _numbered(turn: TracedTurn) -> str:
    """Where there are no colours."""
    from stepcredit.harness.study.traced import weight_of

    return " ".join(f"{token.text.strip()}[{weight_of(token):+.2f}]" for token in turn.tokens)
