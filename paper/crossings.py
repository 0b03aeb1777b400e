"""Variants by any settings that a study crossed: a table and a figure for each benchmark and set of axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from matplotlib.figure import Figure

from stepcredit.paper import arms, knobs
from stepcredit.paper.render import rate_text
from stepcredit.paper.statistics import LEVEL, Estimate, holm
from stepcredit.paper.styles import GREY, INK, WIDTH, Plot, style_of
from stepcredit.paper.tables import Table, interval_notes, p_text, scored, setting_note
from stepcredit.paper.variants import Cell, Collection
from stepcredit.paper.words import counted, listed

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
    """Those without tables of their own, in the order of the folders."""
    return [crossing for crossing in _every(collection) if set(crossing.axes) not in _KNOWN]


def arm_plots(collection: Collection) -> list[Plot]:
    """Success after training under each arm of hindsight, to follow the arms' table of the same name."""
    return [
        replace(crossing_plot(crossing), name=f"arms-{crossing.tasks}")
        for crossing in _every(collection)
        if set(crossing.axes) == {arms.AXIS}
    ]


def _every(collection: Collection) -> list[Crossing]:
    found = dict.fromkeys((variant.tasks, tuple(variant.axes)) for variant in collection.variants)
    return [
        Crossing(tasks, axes, tuple(collection.cells(tasks, axes)), collection.baseline(tasks)) for tasks, axes in found
    ]


def crossing_table(crossing: Crossing) -> Table:
    """Success after training, its change, and its difference to GRPO."""
    first = [crossing.baseline] if crossing.baseline else []
    corrected = [None] * len(first) + [p for _, _, p in _judged(crossing)]
    rows = tuple(
        (
            cell.label,
            *(cell.variant.axes.get(axis, "—") for axis in crossing.axes),
            len(cell.runs),
            scored(cell.after),
            scored(cell.change, signed=True),
            None if cell is crossing.baseline else scored(cell.beyond(crossing.baseline), signed=True),
            p_text(p),
        )
        for cell, p in zip((*first, *crossing.cells), corrected, strict=True)
    )
    estimates = [e for cell in crossing.cells for e in (cell.after, cell.change, cell.beyond(crossing.baseline))]
    header = ("Method", *crossing.axes, "Seeds", "After", "Change", "Minus GRPO", "p (Holm)")
    notes = (setting_note(crossing.cells[0].variant.study), *interval_notes(estimates))
    title = f"{crossing.tasks}: success by {' and '.join(crossing.axes)} (%)"
    return Table(f"variants-{crossing.name}", title, header, rows, notes)


def crossing_sentences(crossing: Crossing) -> Iterator[str]:
    """The lowest and the highest, and which can be told from GRPO; nothing without a variant that was evaluated."""
    known = sorted(
        ((cell, after) for cell in crossing.cells if (after := cell.after) is not None), key=lambda own: own[1].mean
    )
    if not known:
        return
    outer = known if len(known) < 2 else [known[0], known[-1]]
    ends = " and ".join(f"{rate_text(after, unit='%')} with {crossing.label(cell)}" for cell, after in outer)
    said = f"{crossing.tasks}, by {' and '.join(crossing.axes)}: success after training is "
    yield f"{said}{'between ' if len(known) > 1 else ''}{ends}. {_told_apart(crossing)}".strip()


def _told_apart(crossing: Crossing) -> str:
    if crossing.baseline is None:
        return ""
    known = [(cell, found, p) for cell, found, p in _judged(crossing) if found is not None and p is not None]
    judged = [(cell, found) for cell, found, p in known if p < LEVEL]
    parts = []
    for word, sign in (("above", 1), ("below", -1)):
        names = [crossing.label(cell) for cell, found in judged if sign * found.mean > 0]
        parts += [f"{word} it are {listed(names)}"] if names else []
    of = f"Of {counted(len(crossing.cells), 'variant')} {len(judged)} can be told from GRPO (Holm's p below 0.05)"
    return f"{of}{': ' if parts else ''}{', '.join(parts)}."


def _judged(crossing: Crossing) -> list[tuple[Cell, Estimate | None, float | None]]:
    """Each variant's difference to GRPO, and its p corrected for their number."""
    found = [cell.beyond(crossing.baseline) for cell in crossing.cells]
    corrected = holm([None if own is None else own.p_value for own in found])
    return list(zip(crossing.cells, found, corrected, strict=True))


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
