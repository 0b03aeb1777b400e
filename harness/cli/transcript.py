"""The command that shows what a model sees."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from stepcredit.harness.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from stepcredit.harness.setup.showing import ShownToken, ShownTurn

_STYLES = {"control": "bold magenta", "read": "", "hint": "yellow", "written": "green"}


def transcript(
    model: Annotated[str, typer.Argument(help=options.MODELS)] = "tiny",
    task: Annotated[str | None, typer.Argument(help="Task; default: the first training task.")] = None,
    benchmark: options.Benchmark = "alfworld",
    suite: options.Suite = None,
    turns: Annotated[int, typer.Option("--turns", min=1, help="Prompts to show.")] = 3,
    arm: Annotated[str, typer.Option("--arm", help="Whose prompts: student, or golden, a teacher's.")] = "student",
    settings: options.Settings = None,
    as_json: options.Json = False,
) -> None:
    """What a model reads and writes in its first turns, tokens coloured by role, with the reference episode's actions.

    Needs the model's tokenizer, not its weights.
    """
    from dataclasses import asdict

    from stepcredit.harness.cli.display import print_json
    from stepcredit.harness.setup.settings import build_spec
    from stepcredit.harness.setup.showing import Arm, shown_turns
    from stepcredit.harness.words import one_of

    spec = build_spec(
        model=model, benchmark=benchmark, suite=suite, method="grpo", seed=0, overrides=tuple(settings or ())
    )
    name, shown = shown_turns(spec, task, turns, Arm(one_of("arm", arm, Arm)))
    if as_json:
        print_json({"task": name, "turns": [asdict(turn) for turn in shown]})
    else:
        _print(name, shown)


def _print(task: str, turns: Sequence[ShownTurn]) -> None:
    from rich.text import Text

    from stepcredit.harness.cli.display import console_for_output
    from stepcredit.harness.words import counted

    console, before = console_for_output(), None
    write = _coloured if console.is_terminal and not console.no_color else _labelled
    console.print(Text.assemble(f"{task}  ", *((f"{role} ", style) for role, style in _STYLES.items())))
    for number, turn in enumerate(turns, start=1):
        news = turn.news(before)
        earlier = (
            f" after {counted(len(turn.prompt) - len(news), 'earlier one')}" if len(news) < len(turn.prompt) else ""
        )
        heading = f"\nturn {number}: reads {counted(len(news), 'token')}{earlier}, writes {len(turn.response)}"
        console.print(heading, style="bold", highlight=False)
        console.print(write([*news, *turn.response]))
        before = turn


def _coloured(tokens: Sequence[ShownToken]) -> Text:
    """Neighbouring tokens differ in brightness, so that their borders show."""
    from rich.text import Text

    styles = (f"{_STYLES[token.role]} {'' if place % 2 else 'dim'}".strip() for place, token in enumerate(tokens))
    return Text.assemble(*zip((token.text for token in tokens), styles, strict=True))


def _labelled(tokens: Sequence[ShownToken]) -> Text:
    """Where there are no colours: each stretch of a role on lines of its own."""
    from rich.text import Text

    stretches = groupby(tokens, key=lambda token: token.role)
    return Text("\n".join(f"[{role}] " + "".join(token.text for token in stretch) for role, stretch in stretches))
