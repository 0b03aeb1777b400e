"""How far the studies of a file are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from stepcredit.harness.record import manifest
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.record.manifest import Manifest, Status
from stepcredit.harness.study.file import Variant
from stepcredit.harness.study.listing import notes_of


def progress(folder: Path, variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """For each variant its runs, how many are complete, and the hours of one worker that the others need.

    Beside them how many were stopped by their spec's rule, and of how many there is something to say, see `notes_of`.

    A run's time is that of its benchmark's and method's complete runs, by the update; null where there is none yet.

    Raises:
        UserError: a finished file is missing or damaged, or another spec wrote a run's folder.
    """
    cells = {variant.name: [Cell(folder / variant.name, spec) for spec in variant.specs] for variant in variants}
    for cell in (cell for own in cells.values() for cell in own):
        if (begun := manifest.read(cell.folder)) is not None:
            manifest.require_same_spec(begun, cell.spec, cell.folder)
    ended = {cell.folder: manifest.require(cell.folder) for own in cells.values() for cell in own if cell.ended()}
    seconds: dict[_Kind, list[float]] = {}
    for cell in (cell for own in cells.values() for cell in own if cell.folder in ended):
        found = ended[cell.folder]
        seconds.setdefault(_kind(cell), []).append(found.wall_s / max(1, found.updates))
    return [
        {
            "variant": name,
            "runs": len(own),
            **_counts({cell.folder: ended[cell.folder] for cell in own if cell.folder in ended}),
            "hours_left": _hours([cell for cell in own if cell.folder not in ended], seconds),
        }
        for name, own in cells.items()
    ]


def _counts(ended: Mapping[Path, Manifest]) -> dict[str, int]:
    return {
        "complete": sum(found.status is Status.COMPLETE for found in ended.values()),
        "stopped": sum(found.status is Status.STOPPED for found in ended.values()),
        "with_notes": sum(bool(notes_of(folder, found)) for folder, found in ended.items()),
    }


_Kind = tuple[str, str, str]
"""Benchmark, suite and method."""


def _kind(cell: Cell) -> _Kind:
    return cell.spec.benchmark, cell.spec.suite, cell.spec.method


def _hours(missing: Sequence[Cell], seconds: dict[_Kind, list[float]]) -> float | None:
    known = [seconds.get(_kind(cell)) for cell in missing]
    if any(times is None for times in known):
        return None
    whole = sum(fmean(times or ()) * cell.spec.updates for times, cell in zip(known, missing, strict=True))
    return round(whole / 3600, 2)
