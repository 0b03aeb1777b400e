"""What `stepcredit warmstart --model` shows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn

from stepcredit.harness import determinism
from stepcredit.harness.device import resolve
from stepcredit.harness.imitation.course import Told, imitation_spec, warm_start
from stepcredit.harness.model.presets import preset_named

_LINES = 20


def warm_start_of(
    model: str,
    benchmark: str,
    suite: str | None,
    seed: int,
    settings: Sequence[str],
    out: Path,
    threads: int,
    device: str,
) -> None:
    """Make it, with a bar, or a line now and then where there is no terminal.

    Raises:
        UserError: bad input; see `course`.
    """
    spec = imitation_spec(model, benchmark, suite, seed, settings)
    where, console = resolve(device, preset_named(model).device), Console(stderr=True)
    determinism.switch_on(threads, where)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=console) as bars:
        steps = bars.add_task("imitating", total=spec.updates, told="")

        def tell(told: Told) -> None:
            text = f"loss {told.loss:.3f}, {told.rate:.0f} response tokens/s"
            bars.update(steps, completed=told.step, told=text)
            if not console.is_terminal and told.step % max(1, told.steps // _LINES) == 0:
                print(f"step {told.step}/{told.steps}, {text}", file=sys.stderr, flush=True)

        made = warm_start(spec, out, where, tell)
    before, after = made["before"], made["after"]
    print(
        f"success on {after['episodes']} held-out tasks of {benchmark}-{after['suite']}: {before['success']:.3f} "
        f"before, {after['success']:.3f} after; invalid actions: {before['invalid']:.3f}, {after['invalid']:.3f}"
    )
    print(f"policy: {out}")
