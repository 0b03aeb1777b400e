"""The figures of a study of methods: one function each, from the study to a matplotlib figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from stepcredit.paper.aggregates import (
    Point,
    column_name,
    diagnostic_curve,
    difference_to_baseline,
    evaluation_curve,
    final_success,
    initial_success,
    rivals,
    subset_columns,
    training_curve,
)
from stepcredit.paper.results import LABELS, Study
from stepcredit.paper.statistics import Estimate
from stepcredit.paper.styles import GREY, INK, WIDTH, Plot, Style, style_of, wrapped
from stepcredit.paper.tables import BEFORE
from stepcredit.paper.words import counted

WINDOW = 5
MOST_METHODS_WITH_DOTS = 4
MOST_CURVES_WITH_FULL_BANDS = 4
MOST_COLUMNS_WITH_FULL_NAMES = 8
MOST_IN_A_LEGEND_ROW = 7
MARKS_ON_A_CURVE = 7
LINE = 0.13
"""Inches of a line in a legend."""
TALLEST = 8.4
"""Inches: a page's height less a caption."""
LETTERS = 108
"""Of a figure's width."""
FAR = 3.0
"""Times the median method's difference from which on a method has a panel of its own."""
FAR_POINTS = 15.0
"""And at least so many points."""
BEFORE_STYLE = Style(GREY, "d", "-")

DIAGNOSTICS = {
    "entropy": "Entropy (nats a token)",
    "kl": "KL of one update (nats a token)",
    "invalid_rate": "Invalid actions (% of turns)",
    "mixed_groups": "Mixed groups (% of groups)",
}
SHARES = frozenset({"invalid_rate", "mixed_groups"})


def all_plots(study: Study) -> list[Plot]:
    """Every figure that the study has data for."""
    several = max(len(study.of(method)) for method in study.methods) > 1
    band = (
        "Bands: 95%, on the held-out panel over seeds and tasks, in training Student's t over seeds."
        if several
        else "One seed: the left band is Wilson's 95% over tasks."
    )
    dots = "Small dots are seeds." if several else "One seed: the intervals are over tasks."
    curves = (
        f"{study.score} while training. Left: the held-out panel. Right: the trajectories that each update learned "
        f"from, mean of the last {WINDOW} updates. {band}"
    )
    seen = f"{dots} " if several and len(study.methods) <= MOST_METHODS_WITH_DOTS else ""
    counts = "n: episodes before training, then by method."
    rates = f"{study.score} after training by subset, with 95% intervals. {seen}{counts}"
    apart = " Methods far from the others have a panel of their own." if any(_far(study).values()) else ""
    forest = (
        f"{study.score} minus GRPO's on the same seeds and tasks, with 95% intervals. {dots} n counts pairs.{apart}"
    )
    spread = " Bands: 95% Student-t over seeds." if several else ""
    health = f"How the runs behaved, mean of the last {WINDOW} updates.{spread}"
    drawn = [("learning_curves", curves, learning_curves), ("subset_rates", rates, subset_rates)]
    if rivals(study):
        drawn.append(("paired_differences", forest, paired_differences))
    drawn.append(("diagnostics", health, diagnostics))
    return [Plot(name, caption, partial(draw, study)) for name, caption, draw in drawn]


def learning_curves(study: Study) -> Figure:
    """Held-out success (with the tasks' interval for a single seed) and training success over updates."""
    figure = Figure(figsize=(WIDTH, 2.5 + legend_room(study)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    crowd = len(study.methods)
    for method, style in styles(study).items():
        curve(left, evaluation_curve(study, method), style, study.label(method), crowd)
        curve(right, training_curve(study, method, WINDOW), style, study.label(method), crowd)
    left.set_title(f"Held-out panel ({counted(study.manifest.panels.eval.size, 'task')})")
    right.set_title(f"Training ({counted(study.trajectories, 'trajectory', 'trajectories')} per update)")
    left.set_ylabel(f"{study.score} (%)")
    left.set_ylim(0, min(100, left.get_ylim()[1]))
    for axes in (left, right):
        _updates_axis(axes, study)
    legend_above(figure, left)
    return figure


def subset_rates(study: Study) -> Figure:
    """Final success by subset: a marker a method, the policy before training first."""
    columns = subset_columns(study)
    series = [(BEFORE, BEFORE_STYLE, [initial_success(study, subset) for subset in columns])]
    for method, style in styles(study).items():
        series.append((study.label(method), style, [final_success(study, method, s) for s in columns]))
    figure = Figure(figsize=(WIDTH, 2.5 + legend_room(study)), layout="constrained")
    axes = figure.subplots()
    width = 0.78 / len(series)
    for position, (label, style, estimates) in enumerate(series):
        offset = (position - (len(series) - 1) / 2) * width
        _rates(axes, estimates, offset, style, label, dots=len(study.methods) <= MOST_METHODS_WITH_DOTS)
    axes.set_xticks(range(len(columns)), [_with_n(study, subset) for subset in columns])
    axes.tick_params(axis="x", length=0, labelsize=6 if len(columns) > MOST_COLUMNS_WITH_FULL_NAMES else None)
    for place in range(len(columns) - 1):
        last = place == len(study.subsets) - 1
        axes.axvline(place + 0.5, color="#BBBBBB" if last else "#E4E4E4", linewidth=0.9 if last else 0.6, zorder=0)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(-2, 102)
    axes.set_ylabel(f"{study.score} (%)")
    legend_above(figure, axes)
    return figure


def paired_differences(study: Study) -> Figure:
    """A forest plot: the paired difference to GRPO by subset, a marker a method; outliers in a panel of their own."""
    columns, far = subset_columns(study), _far(study)
    near = [method for method in far if not far[method]]
    outliers = [method for method in far if far[method]]
    height = min(0.85 + (0.13 + 0.08 * len(far)) * len(columns) + legend_room(study), TALLEST)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = [near, outliers] if near and outliers else [list(far)]
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=(2.2, 1)[: len(panels)])[0]
    for axes, methods in zip(grid, panels, strict=True):
        _forest_panel(axes, study, methods, list(far), columns)
    reach = max(abs(bound) for bound in grid[0].get_xlim())
    grid[0].set_xlim(-reach, reach)
    _pairs(grid[-1], [[difference_to_baseline(study, method, subset) for method in far] for subset in columns])
    grid[0].set_yticks(range(len(columns)), [column_name(study, subset) for subset in columns])
    grid[0].set_ylim(len(columns) - 0.5, -0.5)
    figure.supxlabel(f"{study.score} minus GRPO's, same seed and task (points)", fontsize=7.5)
    legend_above(figure, *grid)
    return figure


def diagnostics(study: Study) -> Figure:
    """Small multiples of what tells a healthy run from a collapsing one."""
    layout = ConstrainedLayoutEngine(h_pad=0.07, w_pad=0.06)
    figure = Figure(figsize=(WIDTH, 3.7 + legend_room(study)), layout=layout)
    grid = figure.subplots(2, 2, sharex=True)
    for axes, (name, title) in zip(grid.flat, DIAGNOSTICS.items(), strict=True):
        scale = 100.0 if name in SHARES else 1.0
        for method, style in styles(study).items():
            points = diagnostic_curve(study, method, name, WINDOW)
            curve(axes, points, style, study.label(method), len(study.methods), scale=scale)
        axes.set_title(title)
        top = axes.get_ylim()[1]
        axes.set_ylim(0, min(100, top) if name in SHARES else top)
        _updates_axis(axes, study, label=axes in grid[1])
    legend_above(figure, grid[0, 0])
    return figure


def styles(study: Study) -> dict[str, Style]:
    """A method's look, the same in every figure and, for methods known here, every study."""
    known = list(LABELS)
    new = [method for method in study.methods if method not in LABELS]
    return {method: style_of([*known, *new].index(method)) for method in study.methods}


def curve(axes: Axes, points: Sequence[Point], style: Style, label: str, crowd: int, *, scale: float = 100.0) -> None:
    """A line with its band of 95%."""
    x = [point.at for point in points]
    axes.plot(
        x,
        [scale * point.mean for point in points],
        color=style.colour,
        linestyle=style.dash,
        label=wrapped(label),
        marker=style.marker,
        markevery=max(1, math.ceil(len(x) / MARKS_ON_A_CURVE)),
        markersize=3.6,
        markeredgewidth=0,
        zorder=3,
    )
    bounds = [(point.at, point.low, point.high) for point in points if point.low is not None]
    lows = [scale * low for _, low, _ in bounds]
    highs = [scale * high for _, _, high in bounds if high is not None]
    band = [at for at, _, _ in bounds]
    strength = 1.0 if crowd <= MOST_CURVES_WITH_FULL_BANDS else 0.3
    axes.fill_between(band, lows, highs, color=style.colour, alpha=0.10 * strength, linewidth=0)
    for edge in (lows, highs):
        axes.plot(band, edge, color=style.colour, linewidth=0.5, alpha=0.45 * strength)


def legend_above(figure: Figure, *panels: Axes) -> None:
    """One for all panels, over them, in as many columns as names leave room for."""
    found = [pair for axes in panels for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    handles, labels = [handle for handle, _ in found], [label for _, label in found]
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=_legend_columns(labels),
        handlelength=2.2,
        columnspacing=1.6,
        borderaxespad=0.2,
    )


def legend_room(study: Study) -> float:
    """Inches that a legend of its methods needs beyond a single line."""
    labels = [BEFORE, *(wrapped(study.label(method)) for method in study.methods)]
    rows = math.ceil(len(labels) / _legend_columns(labels))
    return LINE * (rows * max(len(label.splitlines()) for label in labels) - 1)


def _legend_columns(labels: Sequence[str]) -> int:
    longest = max(len(line) for label in labels for line in label.splitlines())
    most = max(1, min(MOST_IN_A_LEGEND_ROW, LETTERS // (longest + 6)))
    return math.ceil(len(labels) / math.ceil(len(labels) / most))


def _far(study: Study) -> dict[str, bool]:
    """Of each rival, whether its difference would press those of the others into a corner."""
    found = {method: difference_to_baseline(study, method) for method in rivals(study)}
    reach = {method: 0.0 if own is None else 100 * abs(own.mean) for method, own in found.items()}
    usual = sorted(reach.values())[(len(reach) - 1) // 2] if reach else 0.0
    return {method: own > max(FAR * usual, FAR_POINTS) for method, own in reach.items()}


def _rates(
    axes: Axes, estimates: Sequence[Estimate | None], offset: float, style: Style, label: str, *, dots: bool
) -> None:
    known = [(x + offset, estimate) for x, estimate in enumerate(estimates) if estimate is not None]
    x, means = [place for place, _ in known], [100 * estimate.mean for _, estimate in known]
    errors = _errors([estimate for _, estimate in known], floor=0.0)
    axes.errorbar(x, means, yerr=errors, fmt="none", ecolor=style.colour, elinewidth=1.2, zorder=3)
    axes.plot(
        x, means, style.marker, color=style.colour, markersize=4.2, markeredgewidth=0, label=wrapped(label), zorder=5
    )
    for place, estimate in known if dots else ():
        if estimate.seeds > 1:
            _seed_dots(axes, [place] * estimate.seeds, [100 * value for value in estimate.by_seed], style.colour)


def _forest_panel(
    axes: Axes, study: Study, methods: Sequence[str], all_methods: Sequence[str], columns: Sequence[str]
) -> None:
    axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
    step = 1 / (len(all_methods) + 1)
    for method in methods:
        offset = (all_methods.index(method) - (len(all_methods) - 1) / 2) * step
        estimates = [difference_to_baseline(study, method, subset) for subset in columns]
        _forest(axes, estimates, offset, styles(study)[method], study.label(method))
    for line in range(len(columns) - 1):
        axes.axhline(line + 0.5, color="#E4E4E4", linewidth=0.7, zorder=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)


def _forest(axes: Axes, estimates: Sequence[Estimate | None], offset: float, style: Style, label: str) -> None:
    known = [(row + offset, estimate) for row, estimate in enumerate(estimates) if estimate is not None]
    rows = [row for row, _ in known]
    means = [100 * estimate.mean for _, estimate in known]
    errors = _errors([estimate for _, estimate in known])
    axes.errorbar(means, rows, xerr=errors, fmt="none", ecolor=style.colour, elinewidth=1.4, zorder=3)
    axes.plot(means, rows, style.marker, color=style.colour, markersize=4.6, label=wrapped(label), zorder=5)
    for row, estimate in known:
        if estimate.seeds > 1:
            _seed_dots(axes, [100 * value for value in estimate.by_seed], [row] * estimate.seeds, style.colour)


def _pairs(axes: Axes, rows: Sequence[Sequence[Estimate | None]]) -> None:
    """How many pairs each row has, at its right end; more than one number where the methods differ in it."""
    for row, estimates in enumerate(rows):
        counts = dict.fromkeys(estimate.n for estimate in estimates if estimate is not None)
        axes.annotate(
            f"n={', '.join(map(str, counts))}" if counts else "no pairs",
            (1.0, row),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=6,
            color=GREY,
            annotation_clip=False,
        )


def _seed_dots(axes: Axes, x: Sequence[float], y: Sequence[float], colour: str) -> None:
    axes.scatter(x, y, s=6, facecolor="white", edgecolor=colour, linewidth=0.6, zorder=4)


def _errors(estimates: Sequence[Estimate], floor: float = -1.0, ceiling: float = 1.0) -> list[list[float]]:
    """Distances from mean to bounds in points; a bound is drawn no further than a rate can go."""
    below = [100 * (estimate.mean - max(estimate.low, floor)) for estimate in estimates]
    above = [100 * (min(estimate.high, ceiling) - estimate.mean) for estimate in estimates]
    return [below, above]


def _with_n(study: Study, subset: str) -> str:
    """The subset's name over its episodes: of the policy before training, then of each method."""
    estimates = [initial_success(study, subset), *(final_success(study, m, subset) for m in study.methods)]
    counts = dict.fromkeys(estimate.n for estimate in estimates if estimate is not None)
    name = column_name(study, subset)
    return f"{name}\nn={', '.join(str(n) for n in counts)}" if counts else f"{name}\nno tasks"


def _updates_axis(axes: Axes, study: Study, *, label: bool = True) -> None:
    axes.set_xlim(0, max(study.updates, 1) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set_xlabel("Policy updates" if label else "")
