"""How a study ends on the screen: what each run came to, and what to type next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepcredit.harness.spec import RunSpec


def print_outcome(study: Path, specs: Sequence[RunSpec], commands: Sequence[str], *, copy: bool = False) -> None:
    """Held-out success of each run before and after training, with n and interval, then the next commands."""
    from stepcredit.harness.cli.display import print_table
    from stepcredit.harness.record import manifest
    from stepcredit.harness.study.listing import run_record
    from stepcredit.harness.study.matrix import cells_of

    cells = cells_of(study, specs, copy=copy)
    found = {cell.name: (cell.folder, manifest.read(cell.folder)) for cell in cells}
    records = [(name, run_record(folder, run)) for name, (folder, run) in found.items() if run is not None]
    shown = ("before", "after", "n", "95% interval")
    print_table([{"run": name} | {key: readable(record)[key] for key in shown} for name, record in records], False)
    print("next:")
    for command in commands:
        print(f"  {command}")


def readable(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run's record with percentages for people."""
    interval = record["interval"]
    ends = None if interval is None else " to ".join(f"{100 * end:.1f}" for end in interval)
    shares = {name: _percent(record[name]) for name in ("before", "after")}
    shares["minutes"] = None if record["minutes"] is None else f"{record['minutes']:.1f}"
    return {("95% interval" if name == "interval" else name): value for name, value in record.items()} | {
        **shares,
        "95% interval": ends,
    }


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f}%"
