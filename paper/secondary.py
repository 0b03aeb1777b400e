"""Agarwal et al.'s aggregates (arXiv 2108.13264), as their rliable defines them: shown beside, never concluded from.

A score is a run's success in one subset. Intervals come from resampling runs within each subset, as rliable does; a few
runs resampled look more certain than they are, so the tables of this project's own estimates come first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from stepcredit.paper.aggregates import final_success
from stepcredit.paper.figures import legend_above, legend_room, styles
from stepcredit.paper.results import BASELINE, Study
from stepcredit.paper.styles import WIDTH, Plot, wrapped
from stepcredit.paper.tables import Cell, Ranged, Table, setting_note

RESAMPLES = 2_000
FEWEST_RUNS = 2
_ENDS = (2.5, 97.5)
Scores = NDArray[np.float64]


def interquartile_mean(scores_RM: Scores) -> float:
    """Mean of the middle half of all runs and tasks (rliable, `metrics.aggregate_iqm`)."""
    return float(stats.trim_mean(scores_RM, 0.25, axis=None))


def improvement(scores_RM: Scores, others_QM: Scores) -> float:
    """How often a run beats one of the other method, ties half, mean over tasks (rliable's metric of that name)."""
    difference_RQM = scores_RM[:, None] - others_QM[None]
    return float(((difference_RQM > 0) + 0.5 * (difference_RQM == 0)).mean())


def profile(scores_RM: Scores, levels_L: Scores) -> Scores:
    """Share [L] of runs and tasks above each level (rliable, `create_performance_profile`)."""
    shares: Scores = (scores_RM[None] > levels_L[:, None, None]).mean((1, 2))
    return shares


def resampled(name: str, statistic: Callable[..., Scores | float], *scores: Scores) -> tuple[Scores, Scores]:
    """The 95% percentile interval of a statistic of [R, M] scores, runs drawn anew within each task.

    Draws are named after what they are for: the same table gives the same digits.
    """
    draw = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    found = [statistic(*(_redrawn(own, draw) for own in scores)) for _ in range(RESAMPLES)]
    low, high = np.percentile(np.array(found), _ENDS, axis=0)
    return low, high


def secondary_tables(study: Study) -> list[Table]:
    """Interquartile mean, and the probability of improvement on GRPO, of methods with several runs."""
    scores = _scores(study)
    if not scores:
        return []
    rows = tuple(
        (study.label(method), len(own), _middle(method, own), _better(method, own, scores.get(BASELINE)))
        for method, own in scores.items()
    )
    notes = (
        setting_note(study),
        "A score is a run's success in a subset (rliable's task). Interquartile mean: of the middle half of all of "
        "them. Improvement: how often a run of the method beats one of GRPO, ties half, mean over subsets.",
        f"Intervals: {RESAMPLES:,} resamples of the runs within each subset. So few runs resampled look more certain "
        "than they are: nothing is concluded from this table.",
    )
    header = ("Method", "Seeds", "Interquartile mean", "Improves on GRPO")
    return [Table("secondary", "Secondary: rliable's aggregates", header, rows, notes)]


def secondary_plots(study: Study) -> list[Plot]:
    """Performance profiles of methods with several runs."""
    if not _scores(study):
        return []
    caption = (
        f"Performance profiles: the share of runs and subsets whose {study.score.lower()} is above a level. Bands: 95% "
        "of resampled runs. Secondary, as above."
    )
    return [Plot("profiles", caption, partial(profiles, study))]


def profiles(study: Study) -> Figure:
    """A falling line a method."""
    figure = Figure(figsize=(WIDTH, 1.7 + legend_room(study)), layout="constrained")
    axes, levels = figure.subplots(), np.linspace(0.0, 1.0, 101)
    for method, own in _scores(study).items():
        style = styles(study)[method]
        low, high = resampled(f"profile {method}", partial(_at, levels), own)
        axes.plot(
            100 * levels,
            100 * profile(own, levels),
            color=style.colour,
            linestyle=style.dash,
            marker=style.marker,
            markevery=14,
            markersize=3.6,
            label=wrapped(study.label(method)),
        )
        axes.fill_between(100 * levels, 100 * low, 100 * high, color=style.colour, alpha=0.08, linewidth=0)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 102)
    axes.set_xlabel(f"{study.score} (%)")
    axes.set_ylabel("Runs and subsets above (%)")
    legend_above(figure, axes)
    return figure


def _at(levels_L: Scores, scores_RM: Scores) -> Scores:
    return profile(scores_RM, levels_L)


def _middle(method: str, own: Scores) -> Ranged:
    low, high = resampled(f"iqm {method}", interquartile_mean, own)
    return Ranged(interquartile_mean(own), float(low), float(high), signed=False)


def _better(method: str, own: Scores, baseline: Scores | None) -> Cell:
    if baseline is None or method == BASELINE:
        return None
    low, high = resampled(f"improvement {method}", improvement, own, baseline)
    return Ranged(improvement(own, baseline), float(low), float(high), signed=False)


def _redrawn(scores_RM: Scores, draw: np.random.Generator) -> Scores:
    runs, tasks = scores_RM.shape
    return scores_RM[draw.integers(0, runs, (runs, tasks)), np.arange(tasks)]


def _scores(study: Study) -> dict[str, Scores]:
    """[R, M] of each method with several runs: success by run and subset, of subsets that all runs have."""
    found = {}
    for method in study.methods:
        estimates = [final_success(study, method, subset) for subset in study.subsets]
        columns = [own.by_seed for own in estimates if own is not None]
        if columns and len(columns[0]) >= FEWEST_RUNS and len({len(own) for own in columns}) == 1:
            found[method] = np.array(columns).T
    return found
