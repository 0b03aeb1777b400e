"""The loss and its gradient against sums over plain forward passes, and the update's laws."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import SGD, AdamW

from stepcredit.harness.episodes.reward import paid
from stepcredit.harness.errors import UserError
from stepcredit.harness.record.rows import UpdateStats
from stepcredit.harness.run.objective import update_policy
from stepcredit.harness.spec import ObjectiveSpec, Penalised
from stepcredit.methods.contract import Credit, Trajectory
from tests.harness.run.gradients import (
    ALL_TOKENS,
    GROUPS,
    TRAJECTORIES,
    assert_close,
    credits_of,
    gradient_of,
    no_credit,
    plain_gradient,
    policy_term,
    random_credit,
    recorded_otherwise,
    spec,
)
from tests.harness.support import SPEC, toy_groups, toy_policy


def test_policy_gradient() -> None:
    gradient, stats = gradient_of(random_credit, spec())
    expected, loss = plain_gradient(policy_term, random_credit)
    assert_close(gradient, expected)
    assert stats.loss == stats.policy_loss == pytest.approx(loss, abs=1e-6)
    norm = sum(float(part.double().square().sum()) for part in expected) ** 0.5
    assert stats.grad_norm == pytest.approx(norm, rel=1e-4)
    assert (stats.response_tokens, stats.ratio_clipped, stats.skipped_groups) == (ALL_TOKENS, 0.0, 0)


@pytest.mark.parametrize(
    ("aggregation", "share"),
    [
        ("sequence_mean_token_mean", lambda t: 1 / (len(TRAJECTORIES) * t.response_tokens)),
        ("sequence_mean_token_sum_norm", lambda t: 1 / (len(TRAJECTORIES) * SPEC.max_turns * 12)),
    ],
)
def test_aggregations(aggregation: str, share: Callable[[Trajectory], float]) -> None:
    """Over each trajectory first; its longest possible response is the number of turns times 12 tokens."""
    chosen = spec(
        objective={"aggregation": aggregation}, rollout={"max_turns": SPEC.max_turns, "max_response_tokens": 12}
    )
    gradient, stats = gradient_of(random_credit, chosen)
    expected, loss = plain_gradient(policy_term, random_credit, share=share)
    assert_close(gradient, expected)
    assert stats.loss == pytest.approx(loss, abs=1e-6)


def test_windowed_prompts_are_trained_on_as_they_were_drawn() -> None:
    groups = toy_groups(toy_policy(), spec=SPEC.model_copy(update={"window": 1}))
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    tokens = sum(trajectory.response_tokens for trajectory in trajectories)
    gradient, stats = gradient_of(random_credit, spec(), groups=groups)
    expected, loss = plain_gradient(policy_term, random_credit, trajectories, lambda _: 1.0 / tokens)
    assert_close(gradient, expected)
    assert (stats.loss, stats.response_tokens) == (pytest.approx(loss, abs=1e-6), tokens)


def test_distillation_pulls_towards_weighted_tokens() -> None:
    def give(trajectory: Trajectory) -> Credit:
        return replace(random_credit(trajectory, distill=True), advantage_T=torch.zeros(trajectory.response_tokens))

    def term(new: Tensor, old: Tensor, credit: Credit) -> Tensor:
        assert credit.distill_T is not None
        return -0.5 * credit.distill_T * new

    gradient, stats = gradient_of(give, spec(objective={"distill": 0.5}))
    expected, loss = plain_gradient(term, give)
    assert_close(gradient, expected)
    assert stats.loss == pytest.approx(loss, abs=1e-6)
    assert stats.distill_loss == pytest.approx(2 * loss, abs=1e-6)


def test_kl_term_pulls_to_the_reference() -> None:
    same, _ = gradient_of(no_credit, spec(objective={"kl": 1.0}), toy_policy())
    assert max(float(part.abs().max()) for part in same) < 1e-6
    other, stats = gradient_of(no_credit, spec(objective={"kl": 1.0}), toy_policy(seed=1))
    assert max(float(part.abs().max()) for part in other) > 1e-3
    assert stats.loss > 0


def test_ratios_beyond_the_clip_have_no_gradient() -> None:
    shifted = recorded_otherwise(lambda logprobs: logprobs - 1.0)
    policy = toy_policy()
    up, down = (credits_of(lambda t, sign=sign: Credit(torch.full((t.response_tokens,), sign))) for sign in (1.0, -1.0))
    stats = [
        update_policy(policy, None, SGD(policy.model.parameters(), lr=0.0), shifted, credits, spec())
        for credits in (up, down)
    ]
    assert (stats[0].ratio_clipped, stats[0].grad_norm) == (1.0, 0.0)
    assert stats[0].loss == pytest.approx(-1.2)
    assert stats[1].ratio_clipped == 0.0
    assert stats[1].loss == pytest.approx(np.e, rel=1e-4)


def test_the_entropy_bonus_is_the_entropys_gradient() -> None:
    gradient, stats = gradient_of(random_credit, spec(objective={"entropy": 0.5}))
    expected, loss = plain_gradient(policy_term, random_credit, entropy=0.5)
    assert_close(gradient, expected)
    assert stats.loss == pytest.approx(loss, abs=1e-5)
    assert stats.policy_loss == pytest.approx(loss + 0.5 * stats.entropy, abs=1e-5)


def test_dual_clip_bounds_what_negative_credit_costs() -> None:
    """The policy finds each token e^2 times as likely as what drew it: 7.4 times the credit, or 3 times at most."""
    shifted = recorded_otherwise(lambda logprobs: logprobs - 2.0)

    def minus_one(trajectory: Trajectory) -> Credit:
        return Credit(torch.full((trajectory.response_tokens,), -1.0))

    _, plain = gradient_of(minus_one, spec(), groups=shifted)
    gradient, bounded = gradient_of(minus_one, spec(objective={"dual_clip": 3.0}), groups=shifted)
    assert plain.loss == pytest.approx(np.exp(2), rel=1e-4)
    assert bounded.loss == pytest.approx(3.0)
    assert not any(part.any() for part in gradient)
    same, _ = gradient_of(random_credit, spec(objective={"dual_clip": 3.0}))
    assert_close(same, gradient_of(random_credit, spec())[0])


@pytest.mark.parametrize("budget", [64, 500, 100_000])
def test_micro_batches_do_not_change_the_gradient(budget: int) -> None:
    gradient, stats = gradient_of(random_credit, spec(optim={"grad_clip": 1e9, "token_budget": budget}))
    expected, same = gradient_of(random_credit, spec())
    assert_close(gradient, expected)
    assert stats.loss == pytest.approx(same.loss, abs=1e-6)
    assert stats.entropy == pytest.approx(same.entropy, abs=1e-5)


def test_trajectories_without_credit_are_skipped_but_count_in_the_mean() -> None:
    def give(trajectory: Trajectory) -> Credit:
        return random_credit(trajectory) if trajectory.task_id == "toy/1" else no_credit(trajectory)

    gradient, stats = gradient_of(give, spec())
    expected, _ = plain_gradient(lambda new, old, credit: -(new - old).exp() * credit.advantage_T, give)
    assert_close(gradient, expected)
    assert stats.skipped_groups == 2
    assert stats.response_tokens == sum(t.response_tokens for t in GROUPS[1].trajectories)


def test_without_any_credit_nothing_moves() -> None:
    gradient, stats = gradient_of(no_credit, spec())
    assert all(not part.any() for part in gradient)
    assert stats == UpdateStats(skipped_groups=3)


def test_steps_raise_the_probability_of_what_has_positive_credit() -> None:
    policy = toy_policy()
    optimizer = AdamW(policy.model.parameters(), lr=1e-3)
    credits = credits_of(lambda t: Credit(torch.full((t.response_tokens,), 1.0 if t.index else -1.0)))
    losses = [update_policy(policy, None, optimizer, GROUPS, credits, spec()) for _ in range(4)]
    assert losses[-1].loss < losses[0].loss
    assert losses[0].kl > 0
    assert losses[-1].kl > losses[0].kl


def test_the_same_update_gives_the_same_bits() -> None:
    runs = []
    for _ in range(2):
        policy = toy_policy()
        optimizer = AdamW(policy.model.parameters(), lr=1e-3)
        stats = [update_policy(policy, None, optimizer, GROUPS, credits_of(random_credit), spec()) for _ in range(2)]
        runs.append((stats, [parameter.detach().numpy().tobytes() for parameter in policy.model.parameters()]))
    assert runs[0] == runs[1]


def test_gradients_are_clipped() -> None:
    gradient, stats = gradient_of(random_credit, spec(optim={"grad_clip": 1e-3, "token_budget": 200}))
    norm = sum(float(part.double().square().sum()) for part in gradient) ** 0.5
    assert norm == pytest.approx(1e-3, rel=1e-2)
    assert stats.grad_norm > 1e-3


def test_weights_that_diverged_are_named_and_kept() -> None:
    policy = toy_policy()
    with torch.no_grad():
        policy.model.model.norm.weight[0] = float("inf")
    before = deepcopy(policy.model.state_dict())
    with pytest.raises(UserError, match="diverged"):
        update_policy(policy, None, SGD(policy.model.parameters(), lr=1.0), GROUPS, credits_of(random_credit), spec())
    assert all(torch.equal(old, policy.model.state_dict()[name]) for name, old in before.items())


def test_the_invalid_penalty_spares_groups_without_a_success() -> None:
    for before, after in zip(GROUPS, paid(GROUPS, ObjectiveSpec(invalid_penalty=0.1)), strict=True):
        for old, new in zip(before.trajectories, after.trajectories, strict=True):
            invalid = sum(not step.valid for step in old.steps)
            spared = not any(trajectory.success for trajectory in before.trajectories)
            assert new.reward == pytest.approx(old.reward - (0.0 if spared else 0.1 * invalid))
    assert {any(t.success for t in group.trajectories) for group in GROUPS} == {True, False}


def test_steps_pay_for_themselves_in_every_group() -> None:
    objective = ObjectiveSpec(invalid_penalty=0.1, penalised=Penalised.STEP, reward_scale=10.0)
    for before, after in zip(GROUPS, paid(GROUPS, objective), strict=True):
        assert [t.reward for t in after.trajectories] == [10.0 * t.reward for t in before.trajectories]
        costs = [step.penalty for t in after.trajectories for step in t.steps]
        assert costs == [0.0 if step.valid else 0.1 for t in before.trajectories for step in t.steps]
        assert {0.0, 0.1} >= set(costs)
