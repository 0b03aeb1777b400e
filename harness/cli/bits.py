"""`stepcredit determinism`: what changes bits on this machine, and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepcredit.harness.cli import options
from stepcredit.harness.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepcredit.harness.study.bits import Outcome

_BROKEN = 1


def determinism(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="CONDITION", help="One of them; may be repeated.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table as Markdown.")] = False,
    as_json: options.Json = False,
) -> None:
    """Try what changes a run's bits: a tiny run under each condition, beside the same run without it. Minutes.

    Ends with 1 where bits differ that are promised to be equal, or a run failed that should have them. What this
    machine lacks is named as not measured.
    """
    if markdown and as_json:
        raise UserError("--markdown has no effect beside --json; leave one of them out")
    from stepcredit.harness.cli.display import bar, print_json, print_table
    from stepcredit.harness.study.bits import chosen, measure

    with bar("conditions") as show:
        outcomes = measure(chosen(only or ()), show)
    records = [record(own) for own in outcomes]
    if as_json:
        print_json([{**one, "details": own.details} for one, own in zip(records, outcomes, strict=True)])
    elif markdown:
        print("\n".join(markdown_lines(records)))
    else:
        print_table(records, as_json=False)
    if not as_json:
        print(f"\n{machine()}")
    if any(own.broken for own in outcomes):
        raise typer.Exit(_BROKEN)


def record(outcome: Outcome) -> dict[str, Any]:
    """One row of the table."""
    condition = outcome.condition
    row = {"condition": condition.name, "what": condition.what, "promised": "yes" if condition.promised else "no"}
    if outcome.lacking is not None:
        return row | {"equal_bits": f"not measured here: {outcome.lacking}", **dict.fromkeys(_NUMBERS)}
    if outcome.failed is not None:
        return row | {"equal_bits": f"its run failed: {outcome.failed}", **dict.fromkeys(_NUMBERS)}
    if outcome.equal:
        return row | {"equal_bits": "yes", **dict.fromkeys(_NUMBERS)}
    numbers = (
        outcome.first,
        f"{outcome.episodes} of {outcome.of}",
        f"{outcome.weights:.1e}" if outcome.weights else "0",
    )
    return row | {"equal_bits": "no", **dict(zip(_NUMBERS, numbers, strict=True))}


_NUMBERS = ("first_update", "other_episodes", "largest_change_of_a_weight")


def markdown_lines(records: Sequence[dict[str, Any]]) -> list[str]:
    """A table of what is in words, without the names."""
    header = ["", *(name.replace("_", " ") for name in list(records[0])[2:])]
    rows = [["—" if value is None else str(value) for value in list(row.values())[1:]] for row in records]
    return [f"| {' | '.join(cells)} |" for cells in (header, [":--", *["--:"] * (len(header) - 1)], *rows)]


def machine() -> str:
    """Where it was measured."""
    from stepcredit.harness.record import manifest
    from stepcredit.harness.study.conditions import processor

    versions = ", ".join(f"{name} {manifest.versions()[name]}" for name in ("python", "torch", "transformers", "numpy"))
    return f"Measured on {processor()}, with {versions}."
