"""The figures: one function each, from a study to a matplotlib figure; and their bytes, the same every time."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
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
from stepcredit.paper.tables import BEFORE
from stepcredit.paper.words import counted

# Paul Tol's bright scheme, safe for colour blindness; markers and dashes say the same in grey print.
COLOURS = (
    *("#4477AA", "#EE6677", "#228833", "#AA3377", "#66CCEE", "#CCBB44"),
    *("#EE7733", "#222222", "#8C564B", "#999999", "#44AA99", "#332288"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "p", "h", "<", ">")
DASHES = ("-", (0, (5, 1.5)), (0, (6, 1.2, 1.2, 1.2)), (0, (1.5, 1)))
GREY = "#8A8A8A"
INK = "#2B2B2B"
WIDTH = 6.9
WINDOW = 5
MOST_METHODS_WITH_DOTS = 4
MOST_CURVES_WITH_FULL_BANDS = 4
MOST_COLUMNS_WITH_FULL_NAMES = 8
MOST_IN_A_LEGEND_ROW = 7

DIAGNOSTICS = {
    "entropy": "Entropy (nats a token)",
    "kl": "KL of one update (nats a token)",
    "invalid_rate": "Invalid actions (% of turns)",
    "mixed_groups": "Mixed groups (% of groups)",
}
SHARES = frozenset({"invalid_rate", "mixed_groups"})


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure's name, its caption, and how it is drawn."""

    name: str
    caption: str
    draw: Callable[[], Figure]


def all_plots(study: Study) -> list[Plot]:
    """Every figure that the study has data for."""
    several = max(len(study.of(method)) for method in study.methods) > 1
    band = (
        "Bands: 95%, on the held-out panel over seeds and tasks, in training Student's t over seeds."
        if several
        else "One seed: the left band is Wilson's 95% over tasks."
    )
    dots = "Dots are seeds." if several else "One seed: the intervals are over tasks."
    curves = (
        f"{study.score} while training. Left: the held-out panel. Right: the trajectories that "
        f"each update learned from, mean of {WINDOW} updates. {band}"
    )
    seen = f"{dots} " if several and len(study.methods) <= MOST_METHODS_WITH_DOTS else ""
    counts = "n: episodes before training, then by method."
    bars = f"{study.score} after training by subset, with 95% intervals. {seen}{counts}"
    forest = f"{study.score} minus GRPO's on the same seeds and tasks, with 95% intervals. {dots} n counts pairs."
    spread = " Bands: 95% Student-t over seeds." if several else ""
    health = f"How the runs behaved, mean of {WINDOW} updates.{spread}"
    drawn = [("learning_curves", curves, learning_curves), ("subset_bars", bars, subset_bars)]
    if rivals(study):
        drawn.append(("paired_differences", forest, paired_differences))
    drawn.append(("diagnostics", health, diagnostics))
    return [Plot(name, caption, partial(draw, study)) for name, caption, draw in drawn]


def render(plot: Plot) -> dict[Literal["png", "svg"], bytes]:
    """The figure as PNG (200 dpi) and SVG; equal results give equal bytes."""
    with _style():
        figure = plot.draw()
        FigureCanvasAgg(figure)
        return {"png": _saved(figure, "png"), "svg": _saved(figure, "svg")}


def learning_curves(study: Study) -> Figure:
    """Held-out success (with the tasks' interval for a single seed) and training success over updates."""
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    crowd = len(study.methods)
    for method, index in _style_numbers(study).items():
        _curve(left, evaluation_curve(study, method), index, study.label(method), crowd, marker=True)
        _curve(right, training_curve(study, method, WINDOW), index, study.label(method), crowd)
    left.set_title(f"Held-out panel ({counted(study.manifest.panels.eval.size, 'task')})")
    right.set_title(f"Training ({counted(study.trajectories, 'trajectory', 'trajectories')} per update)")
    left.set_ylabel(f"{study.score} (%)")
    left.set_ylim(0, min(100, left.get_ylim()[1]))
    for axes in (left, right):
        _updates_axis(axes, study)
    _legend_above(figure, left)
    return figure


def subset_bars(study: Study) -> Figure:
    """Final success by subset: a bar a method, the policy before training first."""
    columns = subset_columns(study)
    series = [(BEFORE, GREY, [initial_success(study, subset) for subset in columns])]
    for method, index in _style_numbers(study).items():
        series.append((study.label(method), _colour(index), [final_success(study, method, s) for s in columns]))
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    axes = figure.subplots()
    width = 0.84 / len(series)
    for position, (label, colour, estimates) in enumerate(series):
        offset = (position - (len(series) - 1) / 2) * width
        _bars(axes, estimates, offset, width, label, colour)
        if len(study.methods) <= MOST_METHODS_WITH_DOTS:
            _bar_dots(axes, estimates, offset)
    axes.set_xticks(range(len(columns)), [_with_n(study, subset) for subset in columns])
    axes.tick_params(axis="x", length=0, labelsize=6 if len(columns) > MOST_COLUMNS_WITH_FULL_NAMES else None)
    axes.axvline(len(study.subsets) - 0.5, color="#CCCCCC", linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_xlim(-0.55, len(columns) - 0.45)
    axes.set_ylim(0, min(100, axes.get_ylim()[1] * 1.02))
    axes.set_ylabel(f"{study.score} (%)")
    _legend_above(figure, axes)
    return figure


def paired_differences(study: Study) -> Figure:
    """A forest plot: the paired difference to GRPO by subset, a marker a method."""
    columns, methods = subset_columns(study), rivals(study)
    figure = Figure(figsize=(WIDTH, 0.85 + (0.13 + 0.08 * len(methods)) * len(columns)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
    step = 1 / (len(methods) + 1)
    for position, method in enumerate(methods):
        offset = (position - (len(methods) - 1) / 2) * step
        estimates = [difference_to_baseline(study, method, subset) for subset in columns]
        _forest(axes, estimates, offset, _style_numbers(study)[method], study.label(method))
    _pairs(axes, [[difference_to_baseline(study, method, subset) for method in methods] for subset in columns])
    for line in range(len(columns) - 1):
        axes.axhline(line + 0.5, color="#E4E4E4", linewidth=0.7, zorder=0)
    axes.set_yticks(range(len(columns)), [column_name(study, subset) for subset in columns])
    axes.set_ylim(len(columns) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    reach = max(abs(bound) for bound in axes.get_xlim())
    axes.set_xlim(-reach, reach)
    axes.set_xlabel(f"{study.score} minus GRPO's, same seed and task (points)")
    _legend_above(figure, axes)
    return figure


def diagnostics(study: Study) -> Figure:
    """Small multiples of what tells a healthy run from a collapsing one."""
    figure = Figure(figsize=(WIDTH, 3.7), layout=ConstrainedLayoutEngine(h_pad=0.07, w_pad=0.06))
    grid = figure.subplots(2, 2, sharex=True)
    for axes, (name, title) in zip(grid.flat, DIAGNOSTICS.items(), strict=True):
        scale = 100.0 if name in SHARES else 1.0
        for method, index in _style_numbers(study).items():
            _curve(
                axes,
                diagnostic_curve(study, method, name, WINDOW),
                index,
                study.label(method),
                len(study.methods),
                scale=scale,
            )
        axes.set_title(title)
        top = axes.get_ylim()[1]
        axes.set_ylim(0, min(100, top) if name in SHARES else top)
        _updates_axis(axes, study, label=axes in grid[1])
    _legend_above(figure, grid[0, 0])
    return figure


@contextmanager
def _style() -> Iterator[None]:
    """Scoped settings: nothing outside sees them; fonts come with matplotlib; SVG ids do not depend on the run."""
    settings = {
        **sns.axes_style("ticks"),
        "font.family": "DejaVu Sans",
        "font.size": 7.5,
        "axes.titlesize": 8,
        "axes.labelsize": 7.5,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 5,
        "axes.edgecolor": "#9A9A9A",
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": "#E4E4E4",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.color": "#9A9A9A",
        "ytick.color": "#9A9A9A",
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "lines.linewidth": 1.4,
        "legend.frameon": False,
        "svg.hashsalt": "stepcredit",
        "svg.fonttype": "path",
        "figure.facecolor": "white",
    }
    with mpl.rc_context(settings):
        yield


def _saved(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
    return buffer.getvalue()


def _curve(
    axes: Axes,
    points: Sequence[Point],
    index: int,
    label: str,
    crowd: int,
    *,
    marker: bool = False,
    scale: float = 100.0,
) -> None:
    x = [point.update for point in points]
    style = DASHES[index % len(DASHES)]
    axes.plot(
        x,
        [scale * point.mean for point in points],
        color=_colour(index),
        linestyle=style,
        label=label,
        marker=_marker(index) if marker else None,
        markersize=3.6,
        markeredgewidth=0,
        zorder=3,
    )
    bounds = [(point.update, point.low, point.high) for point in points if point.low is not None]
    lows = [scale * low for _, low, _ in bounds]
    highs = [scale * high for _, _, high in bounds if high is not None]
    band = [update for update, _, _ in bounds]
    strength = 1.0 if crowd <= MOST_CURVES_WITH_FULL_BANDS else 0.3
    axes.fill_between(band, lows, highs, color=_colour(index), alpha=0.10 * strength, linewidth=0)
    for edge in (lows, highs):
        axes.plot(band, edge, color=_colour(index), linewidth=0.5, alpha=0.45 * strength)


def _bars(
    axes: Axes, estimates: Sequence[Estimate | None], offset: float, width: float, label: str, colour: str
) -> None:
    known = [(x + offset, estimate) for x, estimate in enumerate(estimates) if estimate is not None]
    x = [position for position, _ in known]
    heights = [100 * estimate.mean for _, estimate in known]
    axes.bar(x, heights, width * 0.92, color=colour, label=label, linewidth=0, alpha=0.85)
    axes.errorbar(
        x,
        heights,
        yerr=_errors([e for _, e in known], floor=0.0, ceiling=1.0),
        fmt="none",
        ecolor=INK,
        elinewidth=0.8,
        capsize=1.8,
        capthick=0.8,
    )


def _bar_dots(axes: Axes, estimates: Sequence[Estimate | None], offset: float) -> None:
    for x, estimate in enumerate(estimates):
        if estimate is not None and estimate.seeds > 1:
            _seed_dots(axes, [x + offset] * estimate.seeds, [100 * value for value in estimate.by_seed])


def _forest(axes: Axes, estimates: Sequence[Estimate | None], offset: float, index: int, label: str) -> None:
    known = [(row + offset, estimate) for row, estimate in enumerate(estimates) if estimate is not None]
    rows = [row for row, _ in known]
    means = [100 * estimate.mean for _, estimate in known]
    errors = _errors([estimate for _, estimate in known])
    axes.errorbar(means, rows, xerr=errors, fmt="none", ecolor=_colour(index), elinewidth=1.4, zorder=3)
    axes.plot(means, rows, _marker(index), color=_colour(index), markersize=4.6, label=label, zorder=5)
    for row, estimate in known:
        if estimate.seeds > 1:
            _seed_dots(axes, [100 * value for value in estimate.by_seed], [row] * estimate.seeds, _colour(index))


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


def _seed_dots(axes: Axes, x: Sequence[float], y: Sequence[float], colour: str = INK) -> None:
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


def _legend_above(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=math.ceil(len(labels) / math.ceil(len(labels) / MOST_IN_A_LEGEND_ROW)),
        handlelength=2.2,
        columnspacing=1.6,
        borderaxespad=0.2,
    )


def _style_numbers(study: Study) -> dict[str, int]:
    """A method's place in the colours, the same in every figure and, for methods known here, every study."""
    known = list(LABELS)
    new = [method for method in study.methods if method not in LABELS]
    return {method: [*known, *new].index(method) for method in study.methods}


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]
