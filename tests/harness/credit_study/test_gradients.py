"""Policy gradients of credit: held against autograd's own, over all weights."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from stepcredit.harness.credit_study.gradients import Directions, aligned, directions
from stepcredit.harness.engine.sequences import response_logprobs
from stepcredit.harness.engine.stretches import TokenSequence
from stepcredit.harness.setup.settings import build_spec
from stepcredit.methods.contract import Group
from tests.harness.support import toy_groups, toy_policy

KEY = ["task_id", "trajectory", "step"]


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    """Groups of a toy policy, made mixed: half of each group is said to have succeeded."""
    return [
        replace(
            group,
            trajectories=tuple(replace(t, success=i % 2 == 0) for i, t in enumerate(group.trajectories)),
        )
        for group in toy_groups(toy_policy())
    ]


@pytest.fixture(scope="module")
def found(groups: list[Group]) -> Directions:
    return directions(
        toy_policy(), groups, build_spec(model="tiny", benchmark="alfworld", suite=None, method="grpo", seed=0)
    )


def tables(found: Directions, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Made-up truth, and cases that are the truth, its opposite, noise, and the truth seen through noise."""
    rng = np.random.default_rng(seed)
    steps = found.keys.assign(advantage=rng.normal(size=len(found.keys)), mixed=True)
    truth, noise = steps["advantage"].to_numpy(), rng.normal(size=len(steps))
    cases = {"truth": 3.0 * truth, "opposite": -truth, "noise": noise, "half": truth + noise}
    parts = [found.keys.assign(case=case, credit=credit, served=True) for case, credit in cases.items()]
    return steps, pd.concat(parts, ignore_index=True)


def test_credit_that_is_the_truth_points_where_the_truth_does(found: Directions) -> None:
    rows = {row.case: row for row in aligned(found, *tables(found))}
    assert list(rows) == ["truth", "opposite", "noise", "half"]
    assert rows["truth"].cosine.value == pytest.approx(1.0)
    assert rows["opposite"].cosine.value == pytest.approx(-1.0)
    assert abs(rows["noise"].cosine.value) < rows["half"].cosine.value < 1.0
    assert rows["truth"].noise.value == pytest.approx(rows["opposite"].noise.value), "it has no unit"


def test_sketched_cosines_are_those_of_whole_gradients(found: Directions, groups: list[Group]) -> None:
    """The reference takes one gradient of the weighted sum over all steps, no sketch."""
    policy, (steps, credits) = toy_policy(), tables(found)
    weights = [weight for weight in policy.model.parameters() if weight.requires_grad]

    def gradient(table: pd.DataFrame, column: str) -> torch.Tensor:
        given = table.set_index(KEY)[column]
        total = torch.zeros(())
        for group in groups:
            for t in group.trajectories:
                score_T = response_logprobs(policy.model, [TokenSequence.of(t.steps)], 1.0)
                for k, part_T in enumerate(score_T.split([len(step.response_ids) for step in t.steps])):
                    span = t.steps[k].tagged or t.steps[k].action
                    own_T = part_T[span.start : span.end] if span else part_T
                    total = total + float(given[(group.task_id, t.index, k)]) * own_T.sum()
        return torch.cat([part.flatten() for part in torch.autograd.grad(total, weights)])

    truth = gradient(steps, "advantage")
    rows = {row.case: row for row in aligned(found, steps, credits)}
    for case in ("noise", "half"):
        own = gradient(credits[credits["case"] == case], "credit")
        exact = float(torch.nn.functional.cosine_similarity(own, truth, dim=0))
        assert rows[case].cosine.value == pytest.approx(exact, abs=0.03)


def test_what_an_arm_cannot_serve_is_in_neither_gradient(found: Directions) -> None:
    steps, credits = tables(found)
    wrong = credits["case"].eq("truth") & credits["trajectory"].eq(1)
    credits.loc[wrong, "credit"], credits.loc[wrong, "served"] = 99.0, False
    assert {row.case: row for row in aligned(found, steps, credits)}["truth"].cosine.value == pytest.approx(1.0)
