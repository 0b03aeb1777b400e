"""In which order the cells of a study are started."""

from __future__ import annotations

import math
from collections.abc import Iterable

from stepcredit.harness.record import manifest
from stepcredit.harness.record.cell import Cell


class Order:
    """Which cell is next: one whose method's cost is unknown, else the longest, so that a study ends on all cores."""

    def __init__(self, missing: Iterable[Cell], finished: Iterable[Cell]) -> None:
        self.waiting = list(missing)
        self._seconds_per_update: dict[str, float] = {}
        for cell in finished:
            self.learn(cell)

    def learn(self, cell: Cell) -> None:
        """Take the time of a run that has ended as its method's."""
        found = manifest.read(cell.folder)
        if found is not None:
            self._seconds_per_update[cell.spec.method] = found.wall_s / max(1, found.updates)

    def next(self) -> Cell:
        """The cell to start now; among equals the first that was asked for."""
        longest = max(self.waiting, key=self._expected_s)
        self.waiting.remove(longest)
        return longest

    def _expected_s(self, cell: Cell) -> float:
        seconds = self._seconds_per_update.get(cell.spec.method)
        return math.inf if seconds is None else seconds * cell.spec.updates
