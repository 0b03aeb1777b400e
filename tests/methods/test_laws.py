"""What every registered method must keep to, by the traits that it declares; and its options' laws."""

from itertools import count
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.advantages import advantages_of
from methods.checks import require_valid
from methods.contract import Credit, Group, Method, Trajectory, Weights
from methods.registry import METHODS, build, registered
from tests.methods.support import GapRescorer, HashRescorer, equal_groups, groups, make_group, one_word_group

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("grpo", {"std": False}),
    ("opd", {"base": "grpo", "weight": 0.5}),
    ("opd", {"teacher": "stale", "hindsight_text": "full"}),
    ("stepopsd", {"weight": "exp", "budget": False, "lambda_mix": 1.0, "alpha_clip": 0.99}),
    ("stepopsd", {"teacher": "live_actor", "student": "rollout_old_log_prob", "outcome_line": True}),
    ("stepopsd", {"target": "clean_step_no_observation", "hindsight_text": "full"}),
    ("stepopsd", {"hindsight": "none", "lambda_mix": 0.5}),
]
CASES = [*((name, {}) for name in registered()), *VARIANTS]
UPDATES = st.sampled_from([0, 1, 49, 50, 1000])
FEW = settings(max_examples=25, deadline=None)


def with_trait(trait: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, options) for name, options in CASES if getattr(registered()[name].traits, trait)]


def each(cases: list[tuple[str, dict[str, Any]]]) -> pytest.MarkDecorator:
    ids = (f"{name}-{','.join(f'{key}={value}' for key, value in options.items())}" for name, options in cases)
    return pytest.mark.parametrize(("name", "options"), cases, ids=ids)


def credit_of(method: Method, group: Group, rescore: Any = None, update: int = 0) -> list[Credit]:
    credits = method.credit(group, HashRescorer() if rescore is None else rescore, update)
    require_valid(method, group, credits)
    return credits


def same(left: list[Credit], right: list[Credit]) -> bool:
    return all(
        torch.equal(a.advantage_T, b.advantage_T)
        and (a.distill_T is None) == (b.distill_T is None)
        and (a.distill_T is None or b.distill_T is None or torch.equal(a.distill_T, b.distill_T))
        for a, b in zip(left, right, strict=True)
    )


@each(CASES)
@FEW
@given(group=groups, update=UPDATES)
def test_credit_is_usable_and_repeats(name: str, options: dict[str, Any], group: Group, update: int) -> None:
    """One finite constant a response token: with empty steps, single steps, groups of one."""
    method = build(name, options)
    assert same(credit_of(method, group, update=update), credit_of(method, group, update=update))


@each(with_trait("needs_outcome"))
@FEW
@given(group=equal_groups)
def test_equal_outcomes_give_no_credit(name: str, options: dict[str, Any], group: Group) -> None:
    for credit in credit_of(build(name, options), group):
        assert not credit.advantage_T.any()
        assert credit.distill_T is None or not credit.distill_T.any()


@each(with_trait("preserves_sign"))
@FEW
@given(group=groups, update=UPDATES, scale=st.sampled_from([0.1, 3.0, 1e4]))
def test_sign_is_grpos(name: str, options: dict[str, Any], group: Group, update: int, scale: float) -> None:
    credits = credit_of(build(name, options), group, HashRescorer(scale), update)
    for credit, advantage in zip(credits, advantages_of(group, eps=1e-6), strict=True):
        signs = set(credit.advantage_T.sign().tolist())
        assert signs <= {float((advantage > 0) - (advantage < 0))}


@each(CASES)
@pytest.mark.parametrize("gap", [1e4, -1e4])
def test_extreme_gaps_stay_finite(name: str, options: dict[str, Any], gap: float) -> None:
    def extreme(trajectory: Trajectory, hint: str | None) -> Tensor:
        return torch.full((trajectory.response_tokens,), gap)

    for success in ((True, False, True), (True, False, False)):
        credit_of(build(name, options), one_word_group(*success), GapRescorer(extreme))


@each(CASES)
@FEW
@given(group=groups, data=st.data())
def test_permuted_trajectories_get_permuted_credit(
    name: str, options: dict[str, Any], group: Group, data: st.DataObject
) -> None:
    """Any permutation for methods without hindsight.

    The hindsight is the first successful peer, so there the successful trajectories must keep their order.
    """
    order = data.draw(st.permutations(range(len(group.trajectories))))
    if registered()[name].traits.uses_hindsight:
        winners = iter(place for place in range(len(order)) if group.trajectories[place].success)
        order = [next(winners) if group.trajectories[place].success else place for place in order]
    moved = make_group(*(group.trajectories[place] for place in order))
    method = build(name, options)
    credits = credit_of(method, group)
    assert same(credit_of(method, moved), [credits[place] for place in order])


@each(CASES)
def test_no_gradient_reaches_credit(name: str, options: dict[str, Any]) -> None:
    parameter = torch.tensor(0.3, requires_grad=True)

    def differentiable(trajectory: Trajectory, hint: str | None) -> Tensor:
        return parameter * torch.arange(trajectory.response_tokens)

    for credit in credit_of(build(name, options), one_word_group(True, False, True), GapRescorer(differentiable)):
        assert not credit.advantage_T.requires_grad


@each(CASES)
@FEW
@given(group=groups, update=UPDATES)
def test_rescorer_is_asked_once_and_for_what_the_traits_allow(
    name: str, options: dict[str, Any], group: Group, update: int
) -> None:
    method, rescore = build(name, options), HashRescorer()
    credit_of(method, group, rescore, update)
    assert len(rescore.calls) <= 1
    assert all(rescore.calls)
    assert all(request.trajectory.response_tokens for request in rescore.requests)
    if not method.traits.uses_hindsight:
        assert all(request.hindsight is None for request in rescore.requests)
    if method.needs.stale_refresh is None:
        assert all(request.weights is Weights.LIVE for request in rescore.requests)


@pytest.mark.parametrize("name", registered())
def test_declared_uses_are_real(name: str) -> None:
    method, rescore = build(name, {}), HashRescorer()
    credit_of(method, one_word_group(True, False, True), rescore)
    assert any(request.hindsight is not None for request in rescore.requests) == method.traits.uses_hindsight
    assert (method.needs.stale_refresh is not None) == method.traits.needs_stale_policy


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_ours_names_its_source_and_explains_its_options(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert method.paper
    assert method.__doc__
    assert "=" in method.__doc__, "the class docstring gives the formula"
    undocumented = [option for option, field in method.Config.model_fields.items() if not field.description]
    assert undocumented == []


@pytest.mark.parametrize(
    ("name", "options", "update"),
    [
        ("stepopsd", {"lambda_mix": 0.0}, 0),
        ("stepopsd", {}, 50),
        ("stepopsd", {"decay_updates": 3}, 3),
        ("stepopsd", {"diagnose_after_decay": True}, 50),
        ("opd", {"base": "grpo", "weight": 0.0}, 0),
    ],
)
@FEW
@given(group=groups)
def test_without_its_share_a_method_is_grpo_to_the_bit(
    name: str, options: dict[str, Any], update: int, group: Group
) -> None:
    rescore = HashRescorer()
    credits = credit_of(build(name, options), group, rescore, update)
    assert same(credits, credit_of(build("grpo", {}), group))
    assert not rescore.calls or options.get("diagnose_after_decay")


def test_after_decay_the_teacher_is_heard_only_for_diagnostics() -> None:
    group, numbers = one_word_group(True, False, True), []
    for options in ({}, {"diagnose_after_decay": True}):
        rescore = HashRescorer()
        numbers.append(credit_of(build("stepopsd", options), group, rescore, 50)[0].diagnostics)
        assert len(rescore.requests) == (6 if options else 0)
    assert numbers[0] == {"lambda_mix": 0.0, "taught_share": 0.0}
    assert numbers[1].keys() == {
        *numbers[0],
        "gap_mean_target",
        "gap_abs_target",
        "weight_clipped_share",
    }


def test_lambda_falls_in_a_straight_line() -> None:
    group, method = one_word_group(True, False), build("stepopsd", {"lambda_mix": 0.5, "decay_updates": 10})
    shares = [credit_of(method, group, update=update)[0].diagnostics["lambda_mix"] for update in range(13)]
    assert shares == pytest.approx([0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("name", ["opd", "stepopsd"])
def test_a_sole_winner_is_not_its_own_teacher(name: str) -> None:
    group, rescore = one_word_group(False, True, False), HashRescorer()
    credits = credit_of(build(name, {}), group, rescore)
    taught = [request.trajectory.index for request in rescore.requests if request.hindsight is not None]
    assert taught == [0, 2]
    assert {request.trajectory.index for request in rescore.requests} == {0, 2}
    advantage = advantages_of(group, eps=1e-6)[1] if name == "stepopsd" else 0.0
    assert torch.equal(credits[1].advantage_T, torch.full((8,), advantage))


def test_perturbing_later_tokens_leaves_opds_earlier_credit() -> None:
    """D_t may depend on the prefix alone."""
    group, method, fresh = one_word_group(True, False, True), build("opd", {}), count(100)
    before = credit_of(method, group)[1].advantage_T
    group.trajectories[1].steps[1].response_ids[2:] = [next(fresh), next(fresh)]
    after = credit_of(method, group)[1].advantage_T
    assert torch.equal(before[:6], after[:6])
    assert not torch.equal(before[6:], after[6:])
