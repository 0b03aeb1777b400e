"""What a case's credit says of the truth: fidelity and leakage, with intervals clustered by task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from stepcredit.harness.credit_study.choices import Choice
from stepcredit.harness.credit_study.gradients import Aligned
from stepcredit.harness.fidelity.ranks import Estimate, clustered, clustered_mean, rank_correlation
from stepcredit.paper.statistics import holm

ESTIMATES = ("rank", "sign", "top", "idle", "leak", "explained", "thought", "refused", "parting")
"""What has an interval."""
_NOISE = 2.0
"""Standard errors beyond which a step has an effect."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A case, over the trajectories of mixed groups that its arm can serve.

    Attributes:
        trajectories: how many.
        rank: Spearman's correlation of credit with A*, within trajectories.
        ceiling: the most that it could be: the square root of A*'s reliability, from split halves.
        sign: share of steps with |A*| beyond its noise to which the credit gives A*'s sign; none is half a yes.
        top: share of trajectories in which the step with the most credit is the one with the highest A*, less what
            chance would find.
        idle: share of the credit's mass that lies on steps without a measurable effect.
        leak: partial rank correlation of credit with the episode's success, given A* and the step's place.
        explained: share of the steps' variance in credit within a task that the episode's success explains.
        thought: share of the credit's mass that lies on the reasoning.
        refused: share of the actions' credit that lies on steps that the environment did not admit, less those steps'
            share of all.
        parting: likewise of the first step that a successful peer did otherwise.
        p_rank: of no rank correlation; Holm-corrected among all cases.
    """

    case: str
    trajectories: int
    rank: Estimate
    ceiling: float
    sign: Estimate
    top: Estimate
    idle: Estimate
    leak: Estimate
    explained: Estimate
    thought: Estimate
    refused: Estimate
    parting: Estimate
    p_rank: float

    @property
    def corrected(self) -> float:
        """The rank correlation if A* were known exactly (Spearman 1904)."""
        return self.rank.value / self.ceiling if self.ceiling > 0 else float("nan")


def measured(steps: pd.DataFrame, credits: pd.DataFrame) -> list[Measured]:
    """Every case, in the order in which it first occurs.

    Args:
        steps: what is true of each step, as `steps.step_rows` says it.
        credits: rows of `StepCredit`.
    """
    key = ["task_id", "trajectory", "step"]
    known = credits.merge(steps[steps["mixed"]], on=key, how="inner", validate="many_to_one")
    found = [_measured(str(case), own) for case, own in known[known["served"]].groupby("case", sort=False)]
    return list(_with_holm(found))


def _measured(case: str, own: pd.DataFrame) -> Measured:
    episodes = [(str(task), rows) for (task, _), rows in own.groupby(["task_id", "trajectory"], sort=True)]
    rank = _mean(episodes, _rank)
    return Measured(
        case,
        len(episodes),
        rank,
        ceiling(own),
        _mean(episodes, _sign),
        _mean(episodes, _top),
        _mean(episodes, _idle),
        _leak(own),
        clustered(_within_tasks(own), _explained),
        _mean(episodes, _thought),
        _mean(episodes, partial(_beyond, "refused")),
        _mean(episodes, partial(_beyond, "parting")),
        rank.p_value,
    )


def ceiling(own: pd.DataFrame) -> float:
    """Square root of the reliability of A* within trajectories: split halves, stepped up (Spearman-Brown)."""
    halves = [
        rank_correlation(rows["half_1"].to_numpy(np.float64), rows["half_2"].to_numpy(np.float64))
        for _, rows in own.groupby(["task_id", "trajectory"])
    ]
    found = [value for value in halves if value is not None]
    mean = float(np.mean(found)) if found else float("nan")
    return float(np.sqrt(2.0 * mean / (1.0 + mean))) if mean > 0 else float("nan")


_Episodes = list[tuple[str, pd.DataFrame]]


def _mean(episodes: _Episodes, of: Callable[[pd.DataFrame], list[float]]) -> Estimate:
    values: dict[str, list[float]] = {}
    for task, rows in episodes:
        values.setdefault(task, []).extend(of(rows))
    return clustered_mean(values)


def _rank(rows: pd.DataFrame) -> list[float]:
    found = rank_correlation(rows["credit"].to_numpy(np.float64), rows["advantage"].to_numpy(np.float64))
    return [] if found is None else [found]


def _has_effect(rows: pd.DataFrame) -> NDArray[np.bool_]:
    return (rows["advantage"].abs() > _NOISE * rows["stderr"]).to_numpy(np.bool_)


def _sign(rows: pd.DataFrame) -> list[float]:
    given, true = np.sign(rows["credit"].to_numpy(np.float64)), np.sign(rows["advantage"].to_numpy(np.float64))
    agrees = (1.0 + given * true) / 2.0
    return [float(value) for value in agrees[_has_effect(rows)]]


def _top(rows: pd.DataFrame) -> list[float]:
    """Ties of credit share the hit; nothing is asked where no step did any good."""
    true, given = rows["advantage"].to_numpy(np.float64), rows["credit"].to_numpy(np.float64)
    if len(rows) < 2 or not (_has_effect(rows) & (true > 0)).any():
        return []
    tops = given == given.max()
    return [float(tops[int(true.argmax())]) / float(tops.sum()) - 1.0 / len(rows)]


def _idle(rows: pd.DataFrame) -> list[float]:
    mass = rows["credit"].abs().to_numpy(np.float64)
    return [float(mass[~_has_effect(rows)].sum() / mass.sum())] if mass.sum() > 0 else []


def _leak(own: pd.DataFrame) -> Estimate:
    columns = ("credit", "success", "advantage", "step")
    parts = [rows[list(columns)].to_numpy(np.float64) for _, rows in own.groupby("task_id", sort=True)]
    return clustered(parts, lambda rows_N4: _partial(*rows_N4.T))


def _partial(credit_N: NDArray[np.float64], success_N: NDArray[np.float64], *given: NDArray[np.float64]) -> float:
    """Partial rank correlation of the first two given the others."""
    known = np.column_stack([np.ones(len(credit_N)), *(rankdata(column) for column in given)])
    left = [_residual(rankdata(column), known) for column in (credit_N, success_N)]
    norms = [float(np.linalg.norm(part)) for part in left]
    if min(norms) < 1e-9 * len(credit_N):
        return float("nan")
    return float(left[0] @ left[1] / (norms[0] * norms[1]))


def _within_tasks(own: pd.DataFrame) -> list[NDArray[np.float64]]:
    """For each task [N, 2] credit and success, less the task's means."""
    parts = (rows[["credit", "success"]].to_numpy(np.float64) for _, rows in own.groupby("task_id", sort=True))
    return [part - part.mean(0) for part in parts]


def _explained(rows_N2: NDArray[np.float64]) -> float:
    credit_N, success_N = rows_N2.T
    whole = float((credit_N**2).sum() * (success_N**2).sum())
    return float(credit_N @ success_N) ** 2 / whole if whole > 0 else float("nan")


def _thought(rows: pd.DataFrame) -> list[float]:
    mass = rows["mass"].sum()
    return [float(rows["thought"].sum() / mass)] if mass > 0 else []


def _beyond(which: str, rows: pd.DataFrame) -> list[float]:
    """Share of the credit on these steps, less their share of all; nothing is asked of episodes without one."""
    chosen, mass = rows[which].to_numpy(np.bool_), rows["credit"].abs().to_numpy(np.float64)
    if not chosen.any() or not mass.sum() > 0:
        return []
    return [float(mass[chosen].sum() / mass.sum() - chosen.mean())]


def _residual(wanted_N: NDArray[np.float64], known_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    coefficients, *_ = np.linalg.lstsq(known_NK, wanted_N, rcond=None)
    left: NDArray[np.float64] = wanted_N - known_NK @ coefficients
    return left


def _with_holm(found: list[Measured]) -> Iterator[Measured]:
    corrected = holm([None if np.isnan(row.p_rank) else row.p_rank for row in found])
    for row, p in zip(found, corrected, strict=True):
        yield row if p is None else replace(row, p_rank=p)


def described(row: Measured) -> dict[str, Any]:
    """As JSON has it."""
    numbers = {"ceiling": row.ceiling, "corrected": row.corrected, "p_rank": row.p_rank}
    return {
        "case": row.case,
        "trajectories": row.trajectories,
        **{name: getattr(row, name).described() for name in ESTIMATES},
        **{name: None if np.isnan(value) else round(value, 6) for name, value in numbers.items()},
    }


def shown(row: Measured) -> Mapping[str, str]:
    """As a table has it: `value [low, high]`."""
    return {
        "case": row.case,
        "trajectories": str(row.trajectories),
        "rank": _text(row.rank),
        "p (Holm)": "" if np.isnan(row.p_rank) else f"{row.p_rank:.3f}",
        "corrected": "" if np.isnan(row.corrected) else f"{row.corrected:+.2f}",
        "sign": _text(row.sign, least=0.0),
        "top less chance": _text(row.top),
        "idle mass": _text(row.idle, least=0.0),
        "leak": _text(row.leak),
        "explained": _text(row.explained, least=0.0),
    }


def chosen(row: Choice) -> Mapping[str, str]:
    """As a table has it."""
    scores = ("gap", "teacher", "student")
    pairs = str(row.gap.count)
    return {"arm": row.arm, "pairs": pairs, **{name: _text(getattr(row, name), least=0.0) for name in scores}}


def pointed(row: Aligned) -> Mapping[str, str]:
    """As a table has it."""
    noise = "-" if np.isnan(row.noise.value) else f"{row.noise.value:.3f}"
    return {"case": row.case, "cosine": _text(row.cosine), "noise": noise}


def _text(estimate: Estimate, least: float = -1.0) -> str:
    """With its interval, as far as the statistic can reach: from `least` to 1; signed where it can be below 0."""
    if np.isnan(estimate.value):
        return "-"
    form = "{:.2f}" if least == 0.0 else "{:+.2f}"
    if np.isnan(estimate.low):  # of a single task
        return form.format(estimate.value)
    low, high = max(estimate.low, least), min(estimate.high, 1.0)
    return f"{form.format(estimate.value)} [{form.format(low)}, {form.format(high)}]"
