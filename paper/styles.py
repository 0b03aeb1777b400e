"""How everything that is drawn looks: colour, marker and dash of a series, lines, letters and bytes of a figure."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Dash = str | tuple[int, tuple[float, ...]]

# Paul Tol's bright scheme and more: safe for colour blindness; markers and dashes say the same in grey print.
COLOURS = (
    *("#4477AA", "#EE6677", "#228833", "#AA3377", "#66CCEE", "#CCBB44"),
    *("#EE7733", "#222222", "#8C564B", "#999999", "#44AA99", "#332288"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "p", "h", "<", ">")
DASHES: tuple[Dash, ...] = ("-", (0, (5, 1.5)), (0, (6, 1.2, 1.2, 1.2)), (0, (1.5, 1)))
GREY = "#8A8A8A"
INK = "#2B2B2B"
WIDTH = 6.9
NAME_WIDTH = 26
"""Letters of a series' name in a line of a legend or an axis."""
_TURN = 6
"""Colours that each further round of markers is shifted by."""


@dataclass(frozen=True, slots=True)
class Style:
    """Of one series."""

    colour: str
    marker: str
    dash: Dash


def style_of(index: int) -> Style:
    """The triple of the series of that number: 48 numbers have different markers or dashes, and different colours or
    dashes, so that neither grey print nor a line without markers mixes up two of them."""
    turns, place = divmod(index, len(MARKERS))
    colour = COLOURS[(place + _TURN * turns) % len(COLOURS)]
    return Style(colour, MARKERS[place], DASHES[(place + turns) % len(DASHES)])


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure's name, its caption, and how it is drawn."""

    name: str
    caption: str
    draw: Callable[[], Figure]


def render(plot: Plot) -> dict[Literal["png", "svg"], bytes]:
    """The figure as PNG (200 dpi) and SVG; equal results give equal bytes."""
    with _settings():
        figure = plot.draw()
        FigureCanvasAgg(figure)
        return {"png": _saved(figure, "png"), "svg": _saved(figure, "svg")}


def wrapped(name: str) -> str:
    """A long name over several lines, broken at spaces, commas and brackets where it has some.

    Matplotlib leaves out names that begin with an underscore: these begin with a space.
    """
    if name.startswith("_"):
        name = f" {name}"
    spaced = name.replace(",", ", ").replace("[", " [").replace("  ", " ")
    return name if len(name) <= NAME_WIDTH else textwrap.fill(spaced, NAME_WIDTH)


@contextmanager
def _settings() -> Iterator[None]:
    """Scoped: nothing outside sees them; fonts come with matplotlib; SVG ids do not depend on the run."""
    settings = {
        **sns.axes_style("ticks"),
        "font.family": "DejaVu Sans",
        "font.size": 7.5,
        "text.parse_math": False,
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
