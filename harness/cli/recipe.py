"""`stepcredit recipe`: published recipes, field by field with their sources, and how two of them differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepcredit.harness.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from stepcredit.harness.recipes.recipe import Deviation, Sourced
    from stepcredit.harness.setup.comparison import Description, Difference

_LONGEST_SOURCE = 26  # "StepOPSD's run_alfworld.sh" and the like stay whole

recipe = typer.Typer(
    name="recipe",
    no_args_is_help=True,
    help="Published recipes: what papers trained with, field by field, and where each value was read.",
)

_Side = Annotated[str, typer.Argument(help="A recipe, the folder of a run, or MODEL@BENCHMARK.")]


@recipe.command("list")
def list_recipes(as_json: options.Json = False) -> None:
    """List the recipes."""
    from stepcredit.harness.cli.display import print_json
    from stepcredit.harness.recipes import RECIPES

    columns = ("paper", "model", "updates")
    records = [
        {"recipe": name, "paper": found.paper, **{column: found.value(column) for column in columns[1:]}}
        for name, found in RECIPES.items()
    ]
    if as_json:
        print_json(records)
        return
    table = _table("recipe", *columns)
    for record in records:
        table.add_row(*(_text(value) for value in record.values()))
    _print(table)


@recipe.command()
def show(
    name: Annotated[str, typer.Argument(help="A recipe, the folder of a run, or MODEL@BENCHMARK.")],
    as_json: options.Json = False,
) -> None:
    """Every field of a recipe's runs with its source, then what was published that a run has no place for."""
    from stepcredit.harness.cli.display import print_json
    from stepcredit.harness.setup.comparison import described

    found = described(name)
    if as_json:
        print_json(_record(found))
        return
    print(f"{found.name}: {found.origin}\n")
    _print(_sections(found.fields.items(), ("value", "source"), _one, whole=2))
    if found.deviations:
        print("\nPublished, and what runs here do instead:\n")
        _print_deviations(found.deviations)
    _print_places(found.sources)


@recipe.command()
def diff(a: _Side, b: _Side, as_json: options.Json = False) -> None:
    """The fields in which two recipes differ, with both sources. Seeds are left out."""
    from stepcredit.harness.cli.display import print_json
    from stepcredit.harness.setup.comparison import described, deviation_differences, differences

    sides = described(a), described(b)
    fields, deviations = differences(*sides), deviation_differences(*sides)
    if as_json:
        print_json({"a": a, "b": b, "fields": _records(fields), "deviations": _records(deviations)})
        return
    for letter, side in zip("AB", sides, strict=True):
        print(f"{letter}: {side.name} ({side.origin})")
    if not fields and not deviations:
        print("\nno field differs")
    _print_differences("", fields, whole=3)
    _print_differences("Published, without a place in a run:", deviations, whole=2)
    _print_places([source for difference in (*fields, *deviations) for source in difference.sources])


def _print_deviations(found: Mapping[str, Deviation]) -> None:
    from stepcredit.harness.cli.display import console_for_output, folded_text

    width = console_for_output().width
    for topic, item in found.items():
        print(topic)
        for name, text in (("published", item.published), ("here", item.here), ("source", item.source)):
            print(f"  {name:9}  {folded_text(text, width, ' ' * 13).lstrip()}")


def _print_differences(title: str, found: Sequence[Difference], *, whole: int) -> None:
    if not found:
        return
    print(f"\n{title}\n" if title else "")
    rows = ((difference.field, difference) for difference in found)
    _print(_sections(rows, ("", "value", "source"), _both, whole=whole))


def _print_places(sources: Sequence[str]) -> None:
    """Where the sources can be read; whole lines, so that addresses can be copied."""
    from stepcredit.harness.recipes.places import places_of

    if found := places_of(sources):
        print("\nSources:")
    for name, place in found.items():
        print(f"  {name}: {place}")


def _one(item: Sourced) -> list[tuple[str, ...]]:
    return [(_text(item.value), item.source)]


def _both(difference: Difference) -> list[tuple[str, ...]]:
    sides = (("A", difference.a), ("B", difference.b))
    return [(letter, _text(side.value), side.source or "not there") for letter, side in sides]


def _sections(
    rows: Iterable[tuple[str, Any]],
    columns: tuple[str, ...],
    cells: Callable[[Any], list[tuple[str, ...]]],
    *,
    whole: int,
) -> Table:
    """One table; a section's name stands in a row of its own, its fields below, indented."""
    table, open_section = _table("field", *columns, whole=whole), ""
    for path, item in rows:
        section, _, leaf = path.rpartition(".")
        if section != open_section and section:
            table.add_row(f"[bold]{section}[/bold]")
        open_section = section
        label = f"  {leaf}" if section else leaf
        for line in cells(item):
            table.add_row(label, *line)
            label = ""
    return table


def _table(*columns: str, whole: int = 1) -> Table:
    """An empty table whose first columns, `whole` of them, are never folded."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, name in enumerate(columns):
        table.add_column(
            name, overflow="fold", no_wrap=place < whole, min_width=_LONGEST_SOURCE if name == "source" else None
        )
    return table


def _print(table: Table) -> None:
    from stepcredit.harness.cli.display import console_for_output

    console_for_output().print(table, highlight=False)


def _record(found: Description) -> dict[str, Any]:
    from stepcredit.harness.recipes.places import places_of

    return {
        "name": found.name,
        "origin": found.origin,
        "fields": [{"field": path, **asdict(item)} for path, item in found.fields.items()],
        "places": places_of(found.sources),
        "deviations": [{"topic": topic, **asdict(item)} for topic, item in found.deviations.items()],
    }


def _records(found: Sequence[Difference]) -> list[dict[str, Any]]:
    return [asdict(difference) for difference in found]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
