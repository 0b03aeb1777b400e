"""Variants by any settings that a study crossed: a table and a figure for each benchmark and set of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from stepcredit.paper import arms, knobs
from stepcredit.paper.styles import GREY, INK, WIDTH, Plot, style_of
from stepcredit.paper.tables import Table, interval_notes, scored, setting_note
from stepcredit.paper.variants import Cell, Collection

_KNOWN: tuple[set[str], ...] = ({arms.AXIS}, set(knobs.AXES), set())
"""Axes that have tables of their own, and none."""


@dataclass(frozen=True)
class Crossing:
    """The runs of one benchmark that differ in these settings."""

    tasks: str
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    baseline: Cell | None

    @property
    def name(self) -> str:
        """Of its table and its figure."""
        return f"{self.tasks}-{'-'.join(self.axes)}"

    def label(self, cell: Cell) -> str:
        """Of a row of the figure."""
        return " ".join((cell.label, *(cell.variant.axes[axis] for axis in self.axes)))


def crossings(collection: Collection) -> list[Crossing]:
    """In the order of the folders."""
    found = dict.fromkeys((variant.tasks, tuple(variant.axes)) for variant in collection.variants)
    return [
        Crossing(tasks, axes, tuple(collection.cells(tasks, axes)), collection.baseline(tasks))
        for tasks, axes in found
        if set(axes) not in _KNOWN
    ]


def crossing_table(crossing: Crossing) -> Table:
    """Success after training, its change, and its difference to GRPO."""
    first = [crossing.baseline] if crossing.baseline else []
    rows = tuple(
        (
            cell.label,
            *(cell.variant.axes.get(axis, "—") for axis in crossing.axes),
            len(cell.runs),
            scored(cell.after),
            scored(cell.change, signed=True),
            None if cell is crossing.baseline else scored(cell.beyond(crossing.baseline), signed=True),
        )
        for cell in (*first, *crossing.cells)
    )
    estimates = [e for cell in crossing.cells for e in (cell.after, cell.change, cell.beyond(crossing.baseline))]
    header = ("Method", *crossing.axes, "Seeds", "After", "Change", "Minus GRPO")
    notes = (setting_note(crossing.cells[0].variant.study), *interval_notes(estimates))
    title = f"{crossing.tasks}: success by {' and '.join(crossing.axes)} (%)"
    return Table(f"variants-{crossing.name}", title, header, rows, notes)


def crossing_plot(crossing: Crossing) -> Plot:
    """Success after training, a dot and an interval a variant."""
    caption = (
        f"{crossing.tasks}: success after training by {' and '.join(crossing.axes)}, with 95% intervals over seeds and "
        "tasks; small dots are seeds. Grey: before training."
    )
    return Plot(f"variants-{crossing.name}", caption, partial(_draw, crossing))


def _draw(crossing: Crossing) -> Figure:
    cells: Sequence[Cell] = [*([crossing.baseline] if crossing.baseline else []), *crossing.cells]
    figure = Figure(figsize=(WIDTH, 0.8 + 0.2 * len(cells)), layout="constrained")
    axes, methods = figure.subplots(), list(dict.fromkeys(cell.method for cell in cells))
    for place, cell in enumerate(cells):
        found, style = cell.after, style_of(methods.index(cell.method))
        if found is not None:
            colour = style.colour
            axes.plot([100 * found.low, 100 * found.high], [place, place], color=colour, linewidth=1.4)
            axes.plot([100 * found.mean], [place], style.marker, color=colour, markersize=4.6)
            seeds = [100 * value for value in found.by_seed]
            axes.scatter(seeds, [place] * len(seeds), s=6, facecolor="white", edgecolor=colour, linewidth=0.6, zorder=4)
    before = float(cells[0].initial["success"].mean())
    axes.axvline(100 * before, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
    labels = ["GRPO" if cell is crossing.baseline else crossing.label(cell) for cell in cells]
    axes.set_yticks(range(len(cells)), labels, color=INK)
    axes.set_ylim(len(cells) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.set_xlabel("Success on the held-out panel (%)")
    return figure
