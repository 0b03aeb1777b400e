"""verl's estimators of our methods: equal to verl's own where it has one, and to the methods' own credit elsewhere."""

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stepcredit.harness.errors import UserError
from stepcredit.harness.interop.columns import Columns, credit_of
from stepcredit.harness.interop.verl import add_advantages, estimator, register
from stepcredit.methods.contract import Credit, Group, Method, MethodError, Rescorer, ScoreRequest, Weights
from stepcredit.methods.registry import build

MASK = torch.tensor([[1, 1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 0, 0], [1, 1, 0, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0, 0]])
REWARDS = torch.tensor([1.0, 0.0, 0.0, 1.0])
STUDENT = -torch.rand(4, 7, generator=torch.Generator().manual_seed(0))
GAP = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
STEPS = torch.tensor([[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1]])
STATES = [["start", "shelf"], ["start", "drawer"], ["start", "shelf"], ["start", "shelf"]]


@pytest.fixture(scope="module")
def core() -> Any:
    return pytest.importorskip("verl.trainer.ppo.core_algos", reason="verl is not installed", exc_type=ImportError)


def at_the_end(rewards: Tensor, mask_BT: Tensor) -> Tensor:
    """[B, T] each reward on the last of its response's tokens, as verl's reward functions put it."""
    token_rewards_BT = torch.zeros(mask_BT.shape)
    last_B = mask_BT.shape[1] - 1 - mask_BT.flip(1).argmax(1)
    token_rewards_BT[torch.arange(len(rewards)), last_B] = rewards
    return token_rewards_BT


def batch(**changed: Any) -> SimpleNamespace:
    """What estimators see of verl's `DataProto`: tensors by name, and the rest by name."""
    tensors = {
        "token_level_rewards": at_the_end(REWARDS, MASK),
        "response_mask": MASK,
        "old_log_probs": STUDENT,
        "teacher_log_probs": STUDENT + GAP,
        "step_ids": STEPS,
    }
    states = np.empty(4, dtype=object)
    states[:] = STATES
    others = {"uid": np.array(["a"] * 4, dtype=object), "states": states}
    return SimpleNamespace(batch=tensors | changed, non_tensor_batch=others)


def outcome(size: float = 0.5) -> float:
    """Rewards 1 0 0 1: each a half from the mean 1/2, over the sample deviation sqrt(4 (1/2)^2 / 3)."""
    return size / (math.sqrt(1 / 3) + 1e-6)


@given(
    rewards=st.lists(st.sampled_from([0.0, 0.25, 1.0, -1.0, 3.5]), min_size=2, max_size=8),
    std=st.booleans(),
    seed=st.integers(0, 99),
)
def test_grpo_is_verls(core: Any, rewards: list[float], std: bool, seed: int) -> None:
    """Groups of at least two; of one, verl passes the reward on, and we nothing."""
    generator = torch.Generator().manual_seed(seed)
    index = np.array([f"task {place % (len(rewards) // 2)}" for place in range(len(rewards))], dtype=object)
    mask_BT = torch.randint(0, 2, (len(rewards), 6), generator=generator)
    mask_BT[:, 0] = 1
    rewards_BT = at_the_end(torch.tensor(rewards), mask_BT)
    theirs, _ = core.compute_grpo_outcome_advantage(rewards_BT.clone(), mask_BT, index, norm_adv_by_std_in_grpo=std)
    found, returns = estimator(build("grpo", {"std": std}))(rewards_BT, mask_BT, index)
    torch.testing.assert_close(found, theirs, atol=1e-6, rtol=1e-6)
    assert torch.equal(found, returns)


def test_verl_knows_the_registered_names_and_each_once(core: Any) -> None:
    names = register(["opd", "gigpo"], {"gigpo": {"omega": 0.5}})
    assert names == ["stepcredit_opd", "stepcredit_gigpo"]
    found, _ = core.get_adv_estimator_fn("stepcredit_gigpo")(
        token_level_rewards=at_the_end(REWARDS, MASK),
        response_mask=MASK,
        index=np.array(["a"] * 4),
        config=None,
        step_ids=STEPS,
        states=STATES,
    )
    torch.testing.assert_close(found, gigpo_by_hand(omega=0.5), atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="already has an estimator 'stepcredit_opd'"):
        register(["opd"])


def gigpo_by_hand(omega: float) -> Tensor:
    """Returns-to-go 0.95, 0, 0, 0.95 in the first state; 1, 0, 1 on the shelf; the drawer is nobody else's."""
    first = np.array([0.95, 0.0, 0.0, 0.95])
    shelf = np.array([1.0, 0.0, 1.0])
    first_A = (first - first.mean()) / (first.std(ddof=1) + 1e-6)
    shelf_A = (shelf - shelf.mean()) / (shelf.std(ddof=1) + 1e-6)
    second_A = [shelf_A[0], 0.0, shelf_A[1], shelf_A[2]]
    expected = np.zeros((4, 7))
    for row, sign in enumerate((1, -1, -1, 1)):
        for token in np.flatnonzero(MASK[row].numpy()):
            extra = first_A[row] if STEPS[row, token] == 0 else second_A[row]
            expected[row, token] = sign * outcome() + omega * extra
    return torch.tensor(expected, dtype=torch.float32)


def rlsd_by_hand() -> Tensor:
    """A (0.5 + 0.5 clip(exp(sign(A) D), 0.8, 1.2)); both winners and both losers have a peer that succeeded."""
    gap = GAP.double().numpy()
    sign = np.array([1.0, -1.0, -1.0, 1.0])[:, None]
    weight = np.clip(np.exp(sign * gap), 0.8, 1.2)
    return torch.tensor(sign * outcome() * (0.5 + 0.5 * weight) * MASK.numpy(), dtype=torch.float32)


def stepopsd_by_hand(lambda_mix: float, action: Tensor) -> Tensor:
    """The tilt on actions, then the budget: each step's mean |A'| over its action, towards their mean."""
    expected = np.zeros((4, 7))
    for row, sign in enumerate((1, -1, -1, 1)):
        spans = []
        for token in np.flatnonzero(MASK[row].numpy()):
            weight = np.clip(2 / (1 + np.exp(-sign * float(GAP[row, token]))), 0.8, 1.2) if action[row, token] else 1.0
            expected[row, token] = sign * outcome() * (1 - lambda_mix + lambda_mix * weight)
        for step in (0, 1):
            spans.append(np.flatnonzero((MASK[row] * action[row] * (STEPS[row] == step)).numpy()))
        sizes = [np.abs(expected[row, span]).mean() for span in spans]
        for span, size in zip(spans, sizes, strict=True):
            expected[row, span] *= np.clip(np.mean(sizes) / (size + 1e-6), 0.5, 2.0)
    return torch.tensor(expected, dtype=torch.float32)


def test_a_whole_batch_gets_its_credit() -> None:
    for name, expected in (("gigpo", gigpo_by_hand(1.0)), ("rlsd", rlsd_by_hand())):
        data = add_advantages(batch(), build(name, {}), 0)
        torch.testing.assert_close(data.batch["advantages"], expected, atol=1e-6, rtol=0)
        assert torch.equal(data.batch["advantages"], data.batch["returns"])


def test_verls_own_batch_is_served(core: Any) -> None:
    from verl import DataProto

    plain = batch()
    data = DataProto.from_dict(tensors=plain.batch, non_tensors=plain.non_tensor_batch)
    found = add_advantages(data, build("gigpo", {}), 0).batch["advantages"]
    torch.testing.assert_close(found, gigpo_by_hand(1.0), atol=1e-6, rtol=0)
    data = DataProto.from_dict(tensors=plain.batch, non_tensors=plain.non_tensor_batch)
    found = add_advantages(data, build("stepopsd", {}), 0).batch["advantages"]
    torch.testing.assert_close(found, stepopsd_by_hand(0.2, torch.ones_like(MASK)), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("update", "lambda_mix"), [(0, 0.2), (25, 0.1), (50, 0.0)])
def test_the_update_reaches_the_method(update: int, lambda_mix: float) -> None:
    action = torch.tensor([[0, 1, 1, 1, 0, 1, 1], [1, 1, 0, 0, 1, 1, 1], [1, 1, 1, 0, 1, 1, 1], [1, 0, 0, 1, 1, 1, 1]])
    data = add_advantages(batch(action_mask=action), build("stepopsd", {}), update)
    expected = (
        stepopsd_by_hand(lambda_mix, action) if lambda_mix else MASK * outcome() * torch.tensor([1, -1, -1, 1])[:, None]
    )
    torch.testing.assert_close(data.batch["advantages"], expected.float(), atol=1e-6, rtol=0)


def test_reasoning_before_the_action_can_be_aimed_at() -> None:
    """Only the last token of each step is its action; all others stand before it, so together they are the response."""
    last = torch.tensor([[0, 0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 1, 0, 0], [0, 1, 0, 0, 0, 1, 0], [0, 1, 0, 1, 0, 0, 0]])
    data = add_advantages(batch(action_mask=last), build("stepopsd", {"target": "clean_step_no_observation"}), 0)
    whole = stepopsd_by_hand(0.2, torch.ones_like(MASK))
    torch.testing.assert_close(data.batch["advantages"], whole, atol=1e-6, rtol=0)


def test_what_counts_as_success_can_be_chosen() -> None:
    """A bonus of 0.1 for form makes every reward positive; above 0.5 the group is mixed and has a teacher."""
    shifted = at_the_end(REWARDS + 0.1, MASK)
    taught = add_advantages(batch(token_level_rewards=shifted), build("rlsd", {}), 0, success_above=0.5)
    torch.testing.assert_close(taught.batch["advantages"], rlsd_by_hand(), atol=1e-5, rtol=0)


def test_groups_of_any_index_type_and_order() -> None:
    credit = estimator(build("grpo", {}))
    rewards_BT = at_the_end(torch.tensor([1.0, 1.0, 0.0, 1.0]), MASK)
    pair = 0.5 / (math.sqrt(0.5) + 1e-6)
    for index in (torch.tensor([7, 8, 7, 8]), np.array([7, 8, 7, 8]), ["x", "y", "x", "y"]):
        found, _ = credit(rewards_BT, MASK, index)
        np.testing.assert_allclose(found[:, 0], [pair, 0.0, -pair, 0.0], atol=1e-6)


def test_responses_without_tokens_or_reward() -> None:
    """The second says nothing at all, the fourth was never scored: it is no part of the group's mean, 2/3."""
    mask_BT = MASK.clone()
    mask_BT[1] = 0
    rewards = torch.tensor([1.0, 1.0, 0.0, math.nan])
    found = credit_of(build("stepopsd", {}), Columns(rewards, mask_BT, ["a"] * 4, STUDENT, STUDENT))
    spread = math.sqrt((2 * (1 / 3) ** 2 + (2 / 3) ** 2) / 2) + 1e-6
    expected = torch.tensor([1 / 3, 0.0, -2 / 3, 0.0])[:, None] / spread * mask_BT
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="reward of response 3 is not a number"):
        estimator(build("grpo", {}))(rewards[:, None].expand(4, 7), mask_BT, ["a"] * 4)


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("vineppo", {}, "'vineppo' needs environments"),
        ("stepopsd", {"hindsight": "golden_rollout"}, "'stepopsd' needs environments"),
        ("stepopsd", {"target": "answer_only"}, "aims at answers, .* choose target 'action_only'"),
        ("sdar", {}, "'sdar' has a loss of its own"),
        ("opd", {"divergence": "jsd"}, "'opd' asks for whole distributions, and columns hold one number a token"),
        ("rlsd", {"hindsight": "skills", "skills": "texts"}, "'rlsd' needs texts about types of tasks"),
        ("rlsd", {"hindsight": "foreign"}, "'rlsd' needs other tasks' episodes"),
        ("opd", {"hindsight": "without_task"}, "'opd' needs other tasks' episodes or other prompts"),
        ("rlsd_ectr", {}, "'rlsd_ectr' compares 2 teachers, and columns hold one"),
    ],
)
def test_methods_that_no_batch_can_serve_are_refused_before_training(
    name: str, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(MethodError, match=complaint):
        estimator(build(name, options))


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        ({"distils": True}, "'grpo' has a loss of its own"),
        ({"teachers": 3}, "'grpo' compares 3 teachers, and columns hold one"),
    ],
)
def test_methods_of_other_packages_are_refused_by_what_they_declare(declared: dict[str, Any], complaint: str) -> None:
    method = build("grpo", {})
    other = type("Other", (type(method),), {"traits": replace(method.traits, **declared)})
    with pytest.raises(MethodError, match=complaint):
        estimator(other(method.config))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"teacher_log_probs": STUDENT[:, :5]}, r"teacher_BT has shape \(4, 5\) and mask_BT \(4, 7\)"),
        ({"old_log_probs": None}, "'stepopsd' compares two policies and lacks student_BT"),
        ({"step_ids": torch.zeros_like(STEPS)}, "response 0 has 1 steps and 2 states"),
        ({"action_mask": torch.tensor([[1, 0, 1, 0, 1, 1, 0]] * 4)}, "action of step 0.0 .* is not one stretch"),
    ],
)
def test_columns_that_do_not_fit_are_refused(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(MethodError, match=complaint):
        add_advantages(batch(**changed), build("stepopsd", {}), 0)


def test_a_batch_before_its_rewards_is_refused() -> None:
    data = batch()
    del data.batch["token_level_rewards"], data.non_tensor_batch["uid"]
    with pytest.raises(UserError, match="verl's batch lacks token_level_rewards, uid"):
        add_advantages(data, build("grpo", {}), 0)
    with pytest.raises(MethodError, match="prompts is for 3 responses and mask_BT for 4"):
        credit_of(build("grpo", {}), Columns(REWARDS, MASK, ["a"] * 3))


class _Outside(type(build("grpo", {}))):  # type: ignore[misc]
    """GRPO that also does what the columns cannot serve."""

    def __init__(self, requests: Sequence[tuple[Weights, str | None]] = (), distils: bool = False) -> None:
        super().__init__(type(self).Config())
        self._requests, self._distils = requests, distils

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        first = group.trajectories[0]
        rescore.score([ScoreRequest(first, weights, hindsight) for weights, hindsight in self._requests])
        found = super().credit(group, rescore, update)
        return [Credit(credit.advantage_T, credit.advantage_T if self._distils else None) for credit in found]


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        (_Outside(((Weights.LIVE, "right"), (Weights.LIVE, "wrong"))), "two teachers about one trajectory"),
        (_Outside(((Weights.STALE, None),)), "columns lack teacher_BT"),
        (_Outside(distils=True), "has a loss beside its advantages"),
    ],
)
def test_methods_of_other_packages_are_not_served_wrongly(method: Method, complaint: str) -> None:
    teacher = STUDENT + GAP if "two" in complaint else None
    with pytest.raises(MethodError, match=complaint):
        credit_of(method, Columns(REWARDS, MASK, ["a"] * 4, STUDENT, teacher))
