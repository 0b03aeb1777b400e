"""What is measured of credit: on steps whose truth and credit are made up."""

import numpy as np
import pandas as pd
import pytest

from stepcredit.harness.credit_study.measures import Measured, measured, shown

TASKS, EPISODES, STEPS = 12, 4, 6


def made_up(credit: str, seed: int = 0, served: bool = True) -> Measured:
    """Twelve tasks; one step of six has an effect, a good one in episodes that succeed."""
    rng, steps, credits = np.random.default_rng(seed), [], []
    for task in range(TASKS):
        for episode in range(EPISODES):
            won, which = bool(rng.random() < 0.5), int(rng.integers(STEPS))
            for step in range(STEPS):
                effect = (0.5 if won else -0.5) if step == which else 0.0
                noise = rng.normal(0, 0.01, size=3)
                place = {"task_id": f"t{task}", "trajectory": episode, "step": step}
                truth = {"advantage": effect + noise[0], "half_1": effect + noise[1], "half_2": effect + noise[2]}
                kinds = {"refused": step == which, "parting": step == 0}
                steps.append({**place, **truth, **kinds, "stderr": 0.02, "success": won, "mixed": True})
                given = {
                    "truth": effect,
                    "outcome": 1.0 if won else -1.0,
                    "outcome, uneven": (1.0 if won else -1.0) * rng.uniform(0.5, 1.5),
                    "noise": rng.normal(),
                    "opposite": -effect,
                }[credit]
                mass = {"mass": 4.0 * abs(given), "thought": abs(given)}
                credits.append({**place, **mass, "case": credit, "credit": given, "served": served})
    (found,) = measured(pd.DataFrame(steps), pd.DataFrame(credits))
    return found


def test_credit_that_is_the_truth() -> None:
    found = made_up("truth")
    assert found.trajectories == TASKS * EPISODES
    assert found.rank.value > 0.6
    assert found.sign.value == 1.0
    assert found.top.value == pytest.approx(1 - 1 / STEPS)
    assert found.idle.value == 0.0
    assert found.p_rank < 1e-6
    assert found.refused.value == pytest.approx(1 - 1 / STEPS), "all of it lies on the step that was not admitted"
    assert found.parting.value == pytest.approx(0.0, abs=0.2)
    assert found.thought.value == pytest.approx(0.25)
    assert made_up("opposite").rank.high < -0.5
    assert made_up("opposite").sign.value == 0.0


def test_credit_that_is_the_outcome() -> None:
    """One number for all steps ranks nothing, finds the good step by chance, and wastes five parts of six."""
    found = made_up("outcome")
    assert np.isnan(found.rank.value)
    assert found.top.value == pytest.approx(0.0)
    assert found.idle.value == pytest.approx(1 - 1 / STEPS)
    assert found.leak.value > 0.8
    assert found.explained.value == pytest.approx(1.0)
    assert found.refused.value == pytest.approx(0.0)
    assert made_up("outcome, uneven").leak.low > 0.5
    assert shown(found)["rank"] == "-"
    assert shown(found)["sign"] == "1.00 [1.00, 1.00]"


@pytest.mark.parametrize(("second", "text"), [("b", "0.67 [0.00, 1.00]"), ("a", "0.67")])
def test_intervals_are_shown_as_far_as_a_share_can_reach(second: str, text: str) -> None:
    """Two tasks, one right and one half right: with one degree of freedom the interval is wider than any share.

    A single task has none.
    """
    rows = [("a", 1.0), (second, 1.0), (second, -1.0)]
    place = [{"task_id": task, "trajectory": 0, "step": step} for step, (task, _) in enumerate(rows)]
    truth = {
        "advantage": 1.0,
        "half_1": 1.0,
        "half_2": 1.0,
        "stderr": 0.1,
        "success": True,
        "mixed": True,
        "refused": False,
        "parting": False,
    }
    steps = pd.DataFrame([{**where, **truth} for where in place])
    given = [
        {**where, "case": "x", "credit": credit, "mass": 1.0, "thought": 0.5, "served": True}
        for where, (_, credit) in zip(place, rows, strict=True)
    ]
    (found,) = measured(steps, pd.DataFrame(given))
    assert found.sign.value == pytest.approx(2 / 3)
    assert shown(found)["sign"] == text


def test_credit_that_is_noise() -> None:
    found = made_up("noise")
    assert found.rank.low < 0.0 < found.rank.high
    assert found.leak.low < 0.0 < found.leak.high
    assert 0.7 < found.idle.value < 0.9
    assert found.explained.value < 0.1


def test_the_ceiling_is_that_of_the_truth() -> None:
    """One step in six stands out and the others are noise, so that halves agree about one rank of six."""
    assert 0.4 < made_up("truth").ceiling < 0.8
    assert made_up("truth").corrected == pytest.approx(made_up("truth").rank.value / made_up("truth").ceiling)
