"""A study -> the estimates that tables, figures and text share, each computed in one place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import pandas as pd

from stepcredit.paper.results import BASELINE, Run, Study
from stepcredit.paper.statistics import (
    LEVEL,
    Estimate,
    change,
    holm,
    mean,
    metric_mean,
    paired_difference,
    student_t,
    success_rate,
)

ALL = "All"
TRAINED = "In"
FOREIGN = "Out"

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve: mean over seeds, and a 95% interval where there are seeds or tasks to take it over.

    Attributes:
        at: update, or what else the curve goes over.
    """

    at: float
    mean: float
    low: float | None
    high: float | None


def remembered(
    function: Callable[Concatenate[Study, Asked], Answer],
) -> Callable[Concatenate[Study, Asked], Answer]:
    """Worked out once a study: tables, figures and sentences ask for the same numbers."""

    @wraps(function)
    def answer(study: Study, /, *args: Asked.args, **kwargs: Asked.kwargs) -> Answer:
        asked = (function.__name__, args, tuple(kwargs.items()))
        if asked not in study.known:
            study.known[asked] = function(study, *args, **kwargs)
        found: Answer = study.known[asked]
        return found

    return answer


def subset_columns(study: Study) -> tuple[str, ...]:
    """Columns of the per-subset tables: the subsets, those trained on and the others together, and all episodes."""
    return (*study.subsets, *((TRAINED, FOREIGN) if study.foreign_subsets else ()), ALL)


def column_name(study: Study, subset: str) -> str:
    """The column's heading, marked where it is out of distribution."""
    return f"{subset}°" if subset in study.foreign_subsets else subset


@remembered
def final_success(study: Study, method: str, subset: str = ALL) -> Estimate | None:
    """Success after the last update; None where nothing was evaluated."""
    return success_rate(_of_subset(study, _final(study, method), subset))


@remembered
def initial_evaluations(study: Study) -> pd.DataFrame:
    """The distinct evaluations before training, numbered in `seed`.

    All runs start from one policy and those that share their draws evaluate it alike, so their episodes are the same
    ones: counted once, not once a run, or the interval would shrink with every run that is added.
    """
    distinct: dict[tuple[str, ...], pd.DataFrame] = {}
    for run in study.runs:
        rows = run.evaluation(0).sort_values(["task_id", "trajectory"])
        if not rows.empty:
            distinct.setdefault(tuple(rows["rollout_sha256"]), rows)
    frames = [rows.assign(seed=number) for number, (_, rows) in enumerate(sorted(distinct.items()))]
    return pd.concat(frames, ignore_index=True) if frames else study.runs[0].evaluation(0)


@remembered
def initial_success(study: Study, subset: str = ALL) -> Estimate | None:
    """Success before training."""
    return success_rate(_of_subset(study, initial_evaluations(study), subset))


@remembered
def final_metric(study: Study, method: str, metric: str, subset: str = ALL) -> Estimate | None:
    """Mean of one of the environment's numbers after the last update."""
    return metric_mean(_of_subset(study, _final(study, method), subset), metric)


@remembered
def initial_metric(study: Study, metric: str, subset: str = ALL) -> Estimate | None:
    """The same before training."""
    return metric_mean(_of_subset(study, initial_evaluations(study), subset), metric)


@remembered
def difference_to_baseline(study: Study, method: str, subset: str = ALL) -> Estimate | None:
    """Final success minus GRPO's, same seed and same task; None without GRPO or without a common seed."""
    baseline = _of_subset(study, _final(study, BASELINE), subset)
    return paired_difference(_of_subset(study, _final(study, method), subset), baseline)


@remembered
def leaders(study: Study, subset: str = ALL) -> frozenset[str]:
    """The method of most success after training and all that are not separable from it; none with a single seed.

    Separable: Holm's p over the differences to the best is below 5%.
    """
    finals = {method: final_success(study, method, subset) for method in study.methods}
    known = {method: estimate for method, estimate in finals.items() if estimate is not None and estimate.seeds > 1}
    if len(known) < 2:
        return frozenset()
    best, *others = sorted(known, key=lambda method: -known[method].mean)
    rows = {method: _of_subset(study, _final(study, method), subset) for method in known}
    differences = [paired_difference(rows[method], rows[best]) for method in others]
    corrected = holm([None if found is None else found.p_value for found in differences])
    alike = (method for method, p in zip(others, corrected, strict=True) if p is None or p >= LEVEL)
    return frozenset((best, *alike))


@remembered
def learning(study: Study, method: str, subset: str = ALL) -> Estimate | None:
    """Success after training minus before, same seed and same task."""
    before = _of_subset(study, _evaluated(study, method, 0), subset)
    return change(_of_subset(study, _final(study, method), subset), before)


def rivals(study: Study) -> tuple[str, ...]:
    """Methods that can be paired with GRPO; none if GRPO was not run."""
    return tuple(m for m in study.methods if m != BASELINE) if BASELINE in study.methods else ()


@remembered
def evaluation_curve(study: Study, method: str) -> list[Point]:
    """Held-out success at every update that was evaluated."""
    points = []
    for update in sorted({update for run in study.of(method) for update in run.evaluated}):
        estimate = success_rate(_evaluated(study, method, update))
        if estimate is not None:
            points.append(Point(update, estimate.mean, estimate.low, estimate.high))
    return points


def training_curve(study: Study, method: str, window: int = 1) -> list[Point]:
    """Success of the trajectories that each update was computed from, mean of the last `window` by seed."""
    return _curve(study, method, _training_success, window)


def diagnostic_curve(study: Study, method: str, name: str, window: int = 1) -> list[Point]:
    """`invalid_rate` (invalid actions per turn), `mixed_groups` (share of groups), or a column of updates.parquet."""
    extractors = {"invalid_rate": _invalid_rate, "mixed_groups": _mixed_share}
    return _curve(study, method, extractors.get(name, lambda run: run.updates.set_index("update")[name]), window)


def _curve(study: Study, method: str, series: Callable[[Run], pd.Series[float]], window: int) -> list[Point]:
    """Each seed is smoothed first, so that the interval over seeds belongs to the line that is drawn; over what has
    been, so that methods that begin alike are drawn alike."""
    frame = pd.concat([series(run) for run in study.of(method)], axis=1).sort_index()
    return list(_points(frame.rolling(window, min_periods=1).mean()))


def _points(frame: pd.DataFrame) -> Iterator[Point]:
    for update, row in zip(frame.index, frame.to_numpy(dtype=float), strict=True):
        values = [float(value) for value in row if math.isfinite(value)]
        if not values:
            continue
        low, high = student_t(values) if len(values) > 1 else (None, None)
        yield Point(int(update), mean(values), low, high)


def _training_success(run: Run) -> pd.Series[float]:
    groups = run.training.groupby("update")["success"]
    return groups.sum().astype(float) / groups.count()


def _invalid_rate(run: Run) -> pd.Series[float]:
    sums = run.training.groupby("update")[["invalid_actions", "turns"]].sum()
    return sums["invalid_actions"] / sums["turns"]


def _mixed_share(run: Run) -> pd.Series[float]:
    updates = run.updates.set_index("update")
    return updates["mixed_groups"] / updates["groups"]


@remembered
def _final(study: Study, method: str) -> pd.DataFrame:
    return _evaluated(study, method, study.updates)


def _evaluated(study: Study, method: str, update: int) -> pd.DataFrame:
    return _concat([run.evaluation(update) for run in study.of(method)])


def _concat(frames: list[pd.DataFrame]) -> pd.DataFrame:
    if not frames:
        return pd.DataFrame(columns=["seed", "task_id", "subset", "success"])
    return pd.concat(frames, ignore_index=True)


def _of_subset(study: Study, episodes: pd.DataFrame, subset: str) -> pd.DataFrame:
    if subset == ALL:
        return episodes
    if subset in (TRAINED, FOREIGN):
        return episodes[episodes["subset"].isin(study.foreign_subsets) == (subset == FOREIGN)]
    return episodes[episodes["subset"] == subset]
