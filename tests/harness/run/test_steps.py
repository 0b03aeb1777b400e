"""Several optimiser steps an update, other engines' probabilities, and activations that are computed again."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from transformers import PreTrainedModel

from stepcredit.harness.engine.rescore import Drawn
from stepcredit.harness.errors import UserError
from stepcredit.harness.record.rows import UpdateStats
from stepcredit.harness.run.objective import update_policy
from stepcredit.methods.contract import Credit, Group
from tests.harness.run.gradients import (
    GROUPS,
    assert_close,
    credits_of,
    gradient_of,
    noisy_groups,
    plain_gradient,
    random_credit,
    recorded_otherwise,
    spec,
)
from tests.harness.support import SPEC, toy_groups, toy_policy


def weight_by_hand(form: str, ratio: Tensor, cap: float) -> Tensor:
    return torch.minimum(ratio, torch.tensor(cap)) if form.endswith("truncate") else ratio * (ratio <= cap)


@pytest.mark.parametrize("form", ["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
def test_where_another_engine_drew_importance_corrects(form: str) -> None:
    """The ratio that is clipped is one to the policy's own probabilities before the step; the engine's weigh it."""
    groups, cap = noisy_groups(0.15), 1.2
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]

    def term(new: Tensor, old: Tensor, credit: Credit) -> Tensor:
        gap = (new - old).detach()
        ratio = (gap if form.startswith("token") else gap.sum()).exp()
        weight = torch.ones(()) if form == "none" else weight_by_hand(form, ratio, cap)
        return -weight * (new - new.detach()).exp() * credit.advantage_T

    chosen = spec(objective={"importance": form, "importance_cap": cap})
    gradient, stats = gradient_of(random_credit, chosen, groups=groups, drawn=Drawn.ELSEWHERE)
    expected, loss = plain_gradient(term, random_credit, trajectories)
    assert_close(gradient, expected)
    assert stats.loss == pytest.approx(loss, abs=1e-6)
    assert stats.ratio_clipped == 0.0


def test_the_distance_of_engine_and_trainer_is_measured() -> None:
    _, stats = gradient_of(random_credit, spec(), drawn=Drawn.ELSEWHERE)
    assert 0 < stats.engine_gap_mean < 1e-6
    shifted = recorded_otherwise(lambda logprobs: logprobs - 0.125)
    _, stats = gradient_of(random_credit, spec(), groups=shifted, drawn=Drawn.ELSEWHERE)
    assert stats.engine_gap_mean == pytest.approx(0.125, rel=1e-4)
    assert stats.engine_gap_max == pytest.approx(0.125, rel=1e-4)


def test_an_engine_that_is_too_far_from_the_trainer_stops_the_run() -> None:
    policy, groups = toy_policy(), recorded_otherwise(lambda logprobs: logprobs + 0.25)
    before = deepcopy(policy.model.state_dict())
    with pytest.raises(UserError, match=r"differ by 0.25 nats a token in the mean, more than objective.max_engine_gap"):
        update_policy(
            policy,
            None,
            SGD(policy.model.parameters(), lr=1.0),
            groups,
            credits_of(random_credit, groups),
            spec(),
            drawn=Drawn.ELSEWHERE,
        )
    assert all(torch.equal(old, policy.model.state_dict()[name]) for name, old in before.items())


class Recorder(Optimizer):
    """Keeps the gradient of every step and moves nothing."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model.parameters(), {})
        self.steps: list[list[Tensor]] = []

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self.steps.append([weight.grad.clone() for weight in self.param_groups[0]["params"]])


WINDOWED = toy_groups(toy_policy(), spec=SPEC.model_copy(update={"window": 1}))


def recorded(groups: list[Group], update: int = 0, **optim: int) -> tuple[list[list[Tensor]], UpdateStats]:
    policy = toy_policy()
    recorder, chosen = Recorder(policy.model), spec(optim={"grad_clip": 1e9, **optim})
    stats = update_policy(policy, None, recorder, groups, credits_of(random_credit, groups), chosen, update=update)
    return recorder.steps, stats


def test_mini_batches_add_up_to_the_batch() -> None:
    """Each is a mean over its own tokens; as mini-batches of one step they tell which of them have how many."""
    (whole,), stats = recorded(WINDOWED)
    steps = [step for group in WINDOWED for trajectory in group.trajectories for step in trajectory.steps]
    single, same = recorded(WINDOWED, minibatch=1)
    assert len(single) >= len(steps) // 2  # what continues the turn before is read in one row with it
    halves, _ = recorded(WINDOWED, minibatch=-(-len(steps) // 2))
    assert len(halves) == 2
    assert same.loss == pytest.approx(stats.loss, abs=1e-6)
    assert same.response_tokens == stats.response_tokens
    mean = [torch.stack(parts).mean(0) for parts in zip(*halves, strict=True)]
    cosine = torch.nn.functional.cosine_similarity(flat(mean), flat(whole), dim=0)
    assert cosine > 0.9


def flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def test_the_order_of_mini_batches_has_a_named_seed() -> None:
    first, again, later = (recorded(WINDOWED, update, minibatch=4)[0] for update in (0, 0, 1))
    assert all(torch.equal(flat(a), flat(b)) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(flat(a), flat(b)) for a, b in zip(first, later, strict=False))


def test_every_epoch_goes_through_all_with_ratios_to_the_policy_before_the_update() -> None:
    chosen = spec(optim={"grad_clip": 1e9, "epochs": 2})
    moved, expected = toy_policy(), toy_policy()
    update_policy(moved, None, SGD(moved.model.parameters(), lr=0.5), GROUPS, credits_of(random_credit), chosen)
    for _ in range(2):
        gradient, _ = plain_gradient(clipped_term, random_credit, model=expected.model)
        with torch.no_grad():
            for weight, part in zip(expected.model.parameters(), gradient, strict=True):
                weight -= 0.5 * part
    assert_close(list(moved.model.parameters()), list(expected.model.parameters()))


def clipped_term(new: Tensor, old: Tensor, credit: Credit) -> Tensor:
    ratio = (new - old).exp()
    return -torch.minimum(ratio * credit.advantage_T, ratio.clamp(0.8, 1.2) * credit.advantage_T)


def test_another_engines_numbers_are_not_what_later_steps_are_measured_by() -> None:
    chosen = spec(optim={"grad_clip": 1e9, "epochs": 2})
    weights = []
    for groups, drawn in ((GROUPS, Drawn.BY_LIVE_WEIGHTS), (noisy_groups(0.1), Drawn.ELSEWHERE)):
        policy = toy_policy()
        optimizer, credits = SGD(policy.model.parameters(), lr=0.5), credits_of(random_credit, groups)
        update_policy(policy, None, optimizer, groups, credits, chosen, drawn=drawn)
        weights.append(list(policy.model.parameters()))
    assert_close(*weights)


@pytest.mark.parametrize("groups", [GROUPS, toy_groups(toy_policy(), spec=SPEC.model_copy(update={"window": 1}))])
def test_computing_again_changes_no_gradient(groups: list[Group]) -> None:
    weights = {"entropy": 0.1, "kl": 0.1}
    kept, stats = gradient_of(random_credit, spec(objective=weights), toy_policy(seed=1), groups)
    again = spec(objective=weights, optim={"grad_clip": 1e9, "token_budget": 200, "recompute": True})
    gradient, same = gradient_of(random_credit, again, toy_policy(seed=1), groups)
    assert_close(gradient, kept)
    for name in ("loss", "entropy", "grad_norm", "kl"):
        assert getattr(same, name) == pytest.approx(getattr(stats, name), abs=1e-5)


def bytes_kept(recompute: bool) -> int:
    """What the passes of an update keep for their gradients."""
    policy, kept = toy_policy(), 0
    weights = {weight.data_ptr() for weight in policy.model.parameters()}

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes if tensor.data_ptr() not in weights else 0
        return tensor

    chosen = spec(optim={"grad_clip": 1e9, "token_budget": 100_000, "recompute": recompute})
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        update_policy(policy, None, SGD(policy.model.parameters(), lr=1.0), GROUPS, credits_of(random_credit), chosen)
    return kept


def test_computing_again_keeps_little() -> None:
    assert bytes_kept(recompute=True) < 0.2 * bytes_kept(recompute=False)
