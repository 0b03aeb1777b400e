"""Interactive plots: traces and layouts as plotly.js reads them, from the same estimates as the printed figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from stepcredit.paper.page.groups import Group
from stepcredit.paper.statistics import Estimate, success_rate
from stepcredit.paper.styles import DASHES, Style, style_of

# plotly's names of the symbols that styles.MARKERS has in matplotlib.
_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "*": "star",
    "p": "pentagon",
    "h": "hexagon",
    "<": "triangle-left",
    ">": "triangle-right",
}
_DASHES = ("solid", "dash", "dashdot", "dot")
_ROW = 26
"""Pixels of a row in a plot of many groups."""


def plots(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """For each benchmark: success over updates where it was measured, and after training by group."""
    found = []
    for tasks in dict.fromkeys(group.tasks for group in groups):
        own = [group for group in groups if group.tasks == tasks]
        found += [_curves(tasks, own), _after(tasks, own)]
    return found


def _curves(tasks: str, groups: Sequence[Group]) -> dict[str, Any]:
    title = f"{tasks}: success on the held-out panel over updates (%)"
    return _plot(title, [_curve(group, place) for place, group in enumerate(groups)], "Policy updates", "Success (%)")


def _curve(group: Group, place: int) -> dict[str, Any]:
    points = [(update, _success(group, update)) for update in sorted({u for run in group.runs for u in run.evaluated})]
    known = [(update, estimate) for update, estimate in points if estimate is not None]
    return {
        **_look(style_of(place)),
        "name": group.name,
        "mode": "lines+markers",
        "x": [update for update, _ in known],
        **_bars("y", [estimate for _, estimate in known]),
    }


def _after(tasks: str, groups: Sequence[Group]) -> dict[str, Any]:
    title = f"{tasks}: success after training (%), with 95% intervals"
    found = [(place, group, _success(group, group.runs[0].spec.updates)) for place, group in enumerate(groups)]
    traces = [
        {
            **_look(style_of(place)),
            "name": group.name,
            "mode": "markers",
            "y": [group.name],
            "showlegend": False,
            **_bars("x", [estimate]),
        }
        for place, group, estimate in found
        if estimate is not None
    ]
    plot = _plot(title, traces, "Success (%)", "")
    plot["layout"]["height"] = 140 + _ROW * len(traces)
    plot["layout"]["yaxis"] |= {"autorange": "reversed", "automargin": True}
    return plot


def _success(group: Group, update: int) -> Estimate | None:
    return success_rate(pd.concat([run.evaluation(update) for run in group.runs], ignore_index=True))


def _bars(axis: str, estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Means in points along an axis, with both ends of their intervals."""
    means = [_points(estimate.mean) for estimate in estimates]
    above = [_points(estimate.high - estimate.mean) for estimate in estimates]
    below = [_points(estimate.mean - estimate.low) for estimate in estimates]
    return {
        axis: means,
        f"error_{axis}": {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.2},
        "customdata": [[_points(e.low), _points(e.high), e.n, e.seeds] for e in estimates],
        "hovertemplate": "%{fullData.name}: %{" + axis + "} [%{customdata[0]}, %{customdata[1]}]<br>"
        "%{customdata[2]} episodes, %{customdata[3]} seeds<extra></extra>",
    }


def _points(fraction: float) -> float:
    return round(100 * fraction, 2)


def _look(style: Style) -> dict[str, Any]:
    return {
        "type": "scatter",
        "line": {"color": style.colour, "dash": _DASHES[DASHES.index(style.dash)], "width": 2},
        "marker": {"color": style.colour, "symbol": _SYMBOLS[style.marker], "size": 8},
    }


def _plot(title: str, traces: list[dict[str, Any]], x: str, y: str) -> dict[str, Any]:
    return {
        "title": title,
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": x}, "zeroline": False},
            "yaxis": {"title": {"text": y}, "zeroline": False},
            "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
            "legend": {"orientation": "h", "y": -0.28},
            "height": 400,
        },
    }
