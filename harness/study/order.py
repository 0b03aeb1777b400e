"""In which order the cells of a study are started."""

from __future__ import annotations

import math
from collections.abc import Iterable

from stepcredit.harness.record import manifest
from stepcredit.harness.record.cell import Cell

Part = tuple[str, str, str]


class Order:
    """Which cell is next: the first part that has any left; in it one whose method's cost is unknown, else the longest.

    A part is a benchmark's suite with one model: its tables are whole before the next begins, and a study still ends
    on all cores.
    """

    def __init__(self, missing: Iterable[Cell], finished: Iterable[Cell]) -> None:
        asked = list(missing)
        parts = list(dict.fromkeys(map(_part, asked)))
        self.waiting = sorted(asked, key=lambda cell: parts.index(_part(cell)))
        self._seconds_per_update: dict[tuple[Part, str], float] = {}
        for cell in finished:
            self.learn(cell)

    def learn(self, cell: Cell) -> None:
        """Take the time of a run that has ended as its method's in its part."""
        found = manifest.read(cell.folder)
        if found is not None:
            self._seconds_per_update[_part(cell), cell.spec.method] = found.wall_s / max(1, found.updates)

    def next(self) -> Cell:
        """The cell to start now; among equals the first that was asked for."""
        part = _part(self.waiting[0])
        longest = max((cell for cell in self.waiting if _part(cell) == part), key=self._expected_s)
        self.waiting.remove(longest)
        return longest

    def _expected_s(self, cell: Cell) -> float:
        seconds = self._seconds_per_update.get((_part(cell), cell.spec.method))
        return math.inf if seconds is None else seconds * cell.spec.updates


def _part(cell: Cell) -> Part:
    return cell.spec.benchmark, cell.spec.suite, cell.spec.model
