"""StepOPSD's two knobs: how strongly a gap may tilt (alpha_clip), and how much of the tilt is mixed in (lambda_mix)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import log2

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stepcredit.paper.render import points, range_text, rate_text
from stepcredit.paper.statistics import Estimate, paired_difference, student_t, success_rate
from stepcredit.paper.statistics import mean as mean_of
from stepcredit.paper.styles import INK, WIDTH, Plot
from stepcredit.paper.tables import Ranged, Table, interval_notes, scored, setting_note
from stepcredit.paper.variants import Cell, Collection
from stepcredit.paper.words import listed

AXES = ("alpha_clip", "lambda_mix")
_Map = dict[tuple[float, float], Cell]


def knob_tables(collection: Collection) -> list[Table]:
    """For each benchmark: success by clip and mixing."""
    return [_table(tasks, cells) for tasks, cells in _maps(collection).items()]


def knob_plots(collection: Collection) -> list[Plot]:
    """Heat maps, one a benchmark, in one figure; none without such variants."""
    maps = _maps(collection)
    if not maps:
        return []
    caption = (
        "Success after training by alpha_clip and lambda_mix (%), with half the 95% interval over seeds and tasks. "
        "Each map's colours span its widest interval, so that what cannot be told apart looks alike."
    )
    return [Plot("two_knob", caption, partial(_draw, maps))]


def knob_sentences(collection: Collection) -> Iterator[str]:
    """What becomes of the law that a smaller clip is better, and where the best mixing lies."""
    best: dict[str, tuple[float, list[float]]] = {}
    for tasks, cells in _maps(collection).items():
        slope = _slope(cells)
        yield (
            f"{tasks}: doubling alpha_clip changes success by {range_text(slope)} points"
            f"{_law(slope)}; mean over lambda_mix, interval over seeds."
        )
        rates = {share: success_rate(_with(cells, share)) for share in _values(cells, 1)}
        known = {share: rate for share, rate in rates.items() if rate is not None}
        top = max(known, key=lambda share: known[share].mean)
        behind = {share: paired_difference(_with(cells, share), _with(cells, top)) for share in known if share != top}
        rivals = [share for share, apart in behind.items() if apart is None or not apart.excludes_zero]
        best[tasks] = (top, rivals)
        yield f"{tasks}: the best lambda_mix is {top:g} with {rate_text(known[top], unit='%')}; {_behind(behind)}."
    if len(best) > 1:
        yield _compared(best)


def _behind(behind: Mapping[float, Estimate | None]) -> str:
    told = (
        f"{share:g} is {rate_text(apart, signed=True)} points from it{'' if apart.excludes_zero else ', not separable'}"
        for share, apart in behind.items()
        if apart is not None
    )
    return "; ".join(told) or "there is no other"


def _compared(best: Mapping[str, tuple[float, Sequence[float]]]) -> str:
    """Whether benchmarks want different mixing; what is not separable from the best may be the best."""
    tops = {top for top, _ in best.values()}
    told = listed(f"{top:g} on {tasks}" for tasks, (top, _) in best.items())
    if len(tops) == 1:
        return f"The best lambda_mix is the same on {len(best)} benchmarks: {told}."
    shared = frozenset.intersection(*(frozenset((top, *rivals)) for top, rivals in best.values()))
    if not shared:
        return f"The best lambda_mix differs: {told}."
    all_of = listed(f"{share:g}" for share in sorted(shared))
    return f"The best lambda_mix is {told}; that it differs has not been shown: {all_of} may be the best on all."


def _law(slope: Ranged) -> str:
    if slope.high < 0:
        return ", so that a smaller clip is better"
    if slope.low > 0:
        return ", so that a larger clip is better"
    return ", an interval with zero: that a smaller clip is better is not borne out"


def _maps(collection: Collection) -> dict[str, _Map]:
    found = {}
    for tasks in collection.tasks:
        cells = collection.cells(tasks, AXES)
        known = {(float(cell.variant.axes[AXES[0]]), float(cell.variant.axes[AXES[1]])): cell for cell in cells}
        if known:
            found[tasks] = known
    return found


def _values(cells: _Map, axis: int) -> list[float]:
    return sorted({place[axis] for place in cells})


def _by_seed(cells: Sequence[Cell]) -> list[dict[int, float]]:
    """For each cell, seed -> success after training."""
    return [
        {int(str(seed)): float(rows.mean()) for seed, rows in cell.final.groupby("seed")["success"]} for cell in cells
    ]


def _slope(cells: _Map) -> Ranged:
    """Points a doubling of the clip: a least-squares line for each seed that all cells have."""
    known = _by_seed(list(cells.values()))
    seeds = sorted(frozenset.intersection(*(frozenset(own) for own in known)))
    x = [log2(clip) for clip, _ in cells]
    slopes = [float(np.polyfit(x, [100 * own[seed] for own in known], 1)[0]) for seed in seeds if len(set(x)) > 1]
    if len(slopes) < 2:
        return Ranged(mean_of(slopes)) if slopes else Ranged(float("nan"))
    return Ranged(mean_of(slopes), *student_t(slopes))


def _with(cells: _Map, share: float) -> pd.DataFrame:
    """Episodes after training with that mixing, of all clips."""
    return pd.concat([cell.final for (_, own), cell in cells.items() if own == share])


def _table(tasks: str, cells: _Map) -> Table:
    shares = _values(cells, 1)
    rows = []
    estimates = []
    for clip in _values(cells, 0):
        own = [cells[clip, share].after if (clip, share) in cells else None for share in shares]
        estimates += own
        rows.append((f"alpha_clip {clip:g}", *(scored(estimate) for estimate in own)))
    header = ("", *(f"lambda_mix {share:g}" for share in shares))
    first = next(iter(cells.values()))
    notes = (setting_note(first.variant.study), *interval_notes(estimates))
    return Table(
        f"knobs-{tasks}", f"{tasks}: success after training by clip and mixing (%)", header, tuple(rows), notes
    )


def _draw(maps: dict[str, _Map]) -> Figure:
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    for axes, (tasks, cells) in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True):
        _heat(axes, tasks, cells)
    return figure


def _heat(axes: Axes, tasks: str, cells: _Map) -> None:
    clips, shares = _values(cells, 0), _values(cells, 1)
    grid = np.full((len(clips), len(shares)), np.nan)
    halves = [0.0]
    for (clip, share), cell in cells.items():
        if (found := cell.after) is not None:
            row, column = clips.index(clip), shares.index(share)
            grid[row, column] = 100 * found.mean
            halves.append((found.high - found.low) / 2)
            text = f"{points(found.mean)}\n±{points(halves[-1])}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=INK)
    low, high = float(np.nanmin(grid)), float(np.nanmax(grid))
    middle, reach = (low + high) / 2, max((high - low) / 2, 100 * max(halves))
    axes.imshow(grid, cmap="YlGnBu", alpha=0.6, aspect="auto", vmin=middle - reach, vmax=middle + reach)
    axes.set_title(tasks)
    axes.set_xticks(range(len(shares)), [f"{share:g}" for share in shares])
    axes.set_yticks(range(len(clips)), [f"{clip:g}" for clip in clips])
    axes.set_xlabel("lambda_mix")
    axes.set_ylabel("alpha_clip")
    axes.grid(visible=False)
