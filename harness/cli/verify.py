"""`stepcredit verify`: a run once more, beside what it recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stepcredit.harness.cli import options

if TYPE_CHECKING:
    from stepcredit.harness.study.verify import Verdict

_DIFFERS = 1


def verify(
    run: options.RunFolder,
    updates: Annotated[
        int | None, typer.Option("--updates", min=0, help="The first so many updates; default: all.")
    ] = None,
    device: options.Device = "auto",
) -> None:
    """Make a run again from its manifest and compare: every episode, every update, the last weights.

    Ends with 1 where something differs. Equal bits are promised on one kind of machine, with the same versions.
    """
    from stepcredit.harness.cli.display import bar
    from stepcredit.harness.study.verify import verify_run

    with bar("episodes") as show:
        found = verify_run(run, updates, device, show)
    for line in lines(found):
        print(line)
    if found.differing:
        raise typer.Exit(_DIFFERS)


def lines(found: Verdict) -> list[str]:
    """What is printed of it."""
    weights = " and the last weights" if found.updates == found.of else ""
    made = f"{found.updates} of {found.of} updates made again, {found.rows} recorded rows{weights} compared"
    if not found.differing:
        return [f"{made}: equal, bit for bit"]
    told = [f"{made}: they differ", *(f"  {sentence}" for sentence in found.differing)]
    if found.elsewhere:
        return [*told, f"  the run was made with other versions or on another machine: {'; '.join(found.elsewhere)}"]
    return [*told, "  versions and settings are the same, so the code or the processor is not"]
