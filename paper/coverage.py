"""How often the printed intervals hold the truth, in simulated studies: `python -m stepcredit.paper.coverage`.

Success is logistic in a task's difficulty (deviation 2) and a seed's skill (0.5). The truth of a rate is its mean over
all seeds and tasks, or over all seeds on the panel; that of a difference is its mean over all seeds on the panel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from stepcredit.paper.crossed import Numbers, crossed_rates, paired_means

TASKS, SEEDS, RATES = (40, 240), (3, 5, 10), (0.02, 0.2, 0.5, 0.95)
_STUDIES, _DIFFICULTY, _SKILL, _NODES = 1500, 2.0, 0.5, 48


@dataclass(frozen=True, slots=True)
class Held:
    """Shares of studies whose interval holds the truth.

    Attributes:
        population: of a rate, over other seeds and tasks.
        panel: of a rate, over other seeds on this panel.
        difference: of a difference between two methods of equal skill on average.
        width: median width of a rate's interval, in points.
    """

    seeds: int
    tasks: int
    rate: float
    population: float
    panel: float
    difference: float
    width: float


def coverage() -> Iterator[Held]:
    """Every cell, each from draws of its own."""
    for number, (seeds, tasks, rate) in enumerate((k, n, p) for k in SEEDS for n in TASKS for p in RATES):
        yield _held(seeds, tasks, rate, np.random.default_rng(number))


def _held(seeds: int, tasks: int, rate: float, rng: np.random.Generator) -> Held:
    centre = _centre(rate)
    difficulty_RN = centre + _DIFFICULTY * rng.standard_normal((_STUDIES, tasks))
    one_RSN, other_RSN = (_played(difficulty_RN, seeds, rng) for _ in range(2))
    low_R, high_R = crossed_rates(one_RSN)
    panel_R = np.mean([special.expit(difficulty_RN + _SKILL * node) for node in _nodes()], axis=0).mean(-1)
    apart_low_R, apart_high_R = paired_means(one_RSN - other_RSN)
    return Held(
        seeds,
        tasks,
        rate,
        float(((low_R <= rate) & (rate <= high_R)).mean()),
        float(((low_R <= panel_R) & (panel_R <= high_R)).mean()),
        float(((apart_low_R <= 0.0) & (apart_high_R >= 0.0)).mean()),
        float(100 * np.median(high_R - low_R)),
    )


def _played(difficulty_RN: Numbers, seeds: int, rng: np.random.Generator) -> Numbers:
    """[R, S, N] successes."""
    skill_RS = _SKILL * rng.standard_normal((len(difficulty_RN), seeds))
    chance_RSN = special.expit(difficulty_RN[:, None] + skill_RS[:, :, None])
    wins: Numbers = (rng.random(chance_RSN.shape) < chance_RSN).astype(np.float64)
    return wins


def _nodes() -> NDArray[np.float64]:
    """Standard normal quantiles, evenly spaced."""
    found: NDArray[np.float64] = special.ndtri((np.arange(_NODES) + 0.5) / _NODES)
    return found


def _centre(rate: float) -> float:
    """The mean difficulty at which the population's rate is that."""
    grid = np.hypot(_DIFFICULTY, _SKILL) * special.ndtri((np.arange(4001) + 0.5) / 4001)
    return float(optimize.brentq(lambda centre: special.expit(centre + grid).mean() - rate, -30.0, 30.0))


def table(found: list[Held]) -> str:
    """As Markdown."""
    lines = [
        "| seeds | tasks | rate % | held: population % | held: panel % | width, points | held: difference % |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in found:
        held = (100 * share for share in (row.population, row.panel, row.difference))
        population, panel, difference = (f"{share:.0f}" for share in held)
        study = f"{row.seeds} | {row.tasks} | {100 * row.rate:g}"
        lines.append(f"| {study} | {population} | {panel} | {row.width:.0f} | {difference} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(list(coverage())))
