"""Commands about what is registered: methods, and how a new one, or a new benchmark, gets there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from stepcredit.harness.cli import options
from stepcredit.harness.errors import UserError


def methods(
    as_json: options.Json = False,
    names: Annotated[bool, typer.Option("--names", help="Print the names alone, one per line.")] = False,
) -> None:
    """List the registered methods, their papers, traits and options."""
    if names and as_json:
        raise UserError("--json has no effect beside --names; leave one of them out")
    if names:
        from stepcredit.methods.registry import method_names

        print("\n".join(method_names()))
        return
    from stepcredit.harness.cli.display import print_json
    from stepcredit.harness.study.listing import method_listing

    listed = method_listing()
    if as_json:
        print_json(listed)
    else:
        _print_methods(listed)


def new_method(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, such as late_credit.")],
    out: Annotated[Path, typer.Option("--out", help="Folder that the package's folder is written in.")] = Path("."),
) -> None:
    """Write a package of your own with a working method, its registration and its tests; it passes as it is."""
    from stepcredit.harness.cli.scaffold import new_method as write_package

    _tell(write_package(name, out))


def new_benchmark(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, such as long_corridor.")],
    out: Annotated[Path, typer.Option("--out", help="Folder that the package's folder is written in.")] = Path("."),
) -> None:
    """Write a package of your own with a working benchmark, its registration and its tests; it passes as it is."""
    from stepcredit.harness.cli.scaffold import new_benchmark as write_package

    _tell(write_package(name, out))


def _tell(folder: Path) -> None:
    print(f"written: {folder / f'{folder.name}.py'}, its test and its pyproject.toml; now, and after each change:")
    print(f"  pip install {quote(_local(folder))}\n  pytest {quote(str(folder))}")


def _local(folder: Path) -> str:
    """As pip takes it: a bare name would be looked for on the package index."""
    return str(folder) if folder.is_absolute() else f"./{folder}"


def _print_methods(listed: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for place, record in enumerate(listed):
        if place:
            table.add_row()
        for title, (kind, words) in zip([record["method"], "", ""], _facts(record), strict=True):
            table.add_row(title, kind, Text(words))
    Console().print(table, highlight=False)


def _facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    traits = (trait if value is True else f"{trait}={value}" for trait, value in record["traits"].items())
    defaults = (f"{option}={value}" for option, value in record["options"].items())
    yield "paper", record["paper"]
    yield "traits", ", ".join(traits) or "none"
    yield "defaults", ", ".join(defaults) or "none"
