"""The loss and its gradient against sums over plain forward passes, and the update's laws."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer
from transformers import PreTrainedModel

from stepcredit.harness.engine.rescore import Drawn
from stepcredit.harness.episodes.reward import paid
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.record.rows import UpdateStats
from stepcredit.harness.run.objective import update_policy
from stepcredit.harness.spec import ObjectiveSpec, RunSpec
from stepcredit.methods.contract import Credit, Group, Trajectory
from tests.harness.support import SPEC, toy_groups, toy_policy

GROUPS = toy_groups(toy_policy())
TRAJECTORIES = [trajectory for group in GROUPS for trajectory in group.trajectories]
ALL_TOKENS = sum(trajectory.response_tokens for trajectory in TRAJECTORIES)
Give = Callable[[Trajectory], Credit]


def random_credit(trajectory: Trajectory, *, distill: bool = False) -> Credit:
    generator = torch.Generator().manual_seed(len(trajectory.task_id) * 100 + trajectory.index)
    advantage_T, distill_T = torch.randn(2, trajectory.response_tokens, generator=generator)
    return Credit(advantage_T, distill_T if distill else None)


def no_credit(trajectory: Trajectory) -> Credit:
    return Credit(torch.zeros(trajectory.response_tokens))


def credits_of(give: Give, groups: list[Group] = GROUPS) -> list[list[Credit]]:
    return [[give(trajectory) for trajectory in group.trajectories] for group in groups]


def spec(**sections: dict[str, object]) -> RunSpec:
    return RunSpec.model_validate({"optim": {"grad_clip": 1e9, "token_budget": 200}} | sections)


def gradient_of(
    give: Give,
    chosen: RunSpec,
    reference: Policy | None = None,
    groups: list[Group] = GROUPS,
    drawn: Drawn = Drawn.BY_LIVE_WEIGHTS,
) -> tuple[list[Tensor], UpdateStats]:
    """The gradient as plain gradient descent with step 1 shows it."""
    policy = toy_policy()
    before = deepcopy(policy.model)
    model = None if reference is None else reference.model
    stats = update_policy(
        policy, model, SGD(policy.model.parameters(), lr=1.0), groups, credits_of(give, groups), chosen, drawn=drawn
    )
    pairs = zip(before.parameters(), policy.model.parameters(), strict=True)
    return [(old - new).detach() for old, new in pairs], stats


def policy_term(new: Tensor, old: Tensor, credit: Credit) -> Tensor:
    return -(new - old).exp() * credit.advantage_T


def token_mean(trajectory: Trajectory) -> float:
    return 1.0 / ALL_TOKENS


def plain_gradient(
    term: Callable[[Tensor, Tensor, Credit], Tensor],
    give: Give,
    trajectories: list[Trajectory] = TRAJECTORIES,
    share: Callable[[Trajectory], float] = token_mean,
    *,
    model: PreTrainedModel | None = None,
    entropy: float = 0.0,
) -> tuple[list[Tensor], float]:
    """Gradient and value of a per-token loss (new, old log-probabilities, credit), one step at a time."""
    model = toy_policy().model if model is None else deepcopy(model)
    total = torch.zeros(())
    for trajectory in trajectories:
        news = []
        for step in trajectory.steps:
            ids = torch.from_numpy(np.concatenate([step.prompt_ids, step.response_ids]))
            logprob_TV = model(input_ids=ids[None]).logits[0].log_softmax(-1)
            entropy_T = torch.special.entr(logprob_TV[:-1].exp())[-len(step.response_ids) :].sum(-1)
            total = total - entropy * entropy_T.sum() * share(trajectory)
            news.append(logprob_TV[:-1].gather(1, ids[1:, None])[-len(step.response_ids) :, 0])
        old_T = torch.from_numpy(np.concatenate([step.logprobs for step in trajectory.steps]))
        total = total + term(torch.cat(news), old_T, give(trajectory)).sum() * share(trajectory)
    total.backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None], total.item()


def assert_close(first: list[Tensor], second: list[Tensor]) -> None:
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


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


def recorded_otherwise(change: Callable[[np.ndarray], np.ndarray]) -> list[Group]:
    """The groups, as if what drew them had given other log-probabilities."""

    def changed(trajectory: Trajectory) -> Trajectory:
        steps = (replace(step, logprobs=change(step.logprobs).astype(np.float32)) for step in trajectory.steps)
        return replace(trajectory, steps=tuple(steps))

    return [replace(group, trajectories=tuple(map(changed, group.trajectories))) for group in GROUPS]


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


def noisy_groups(scale: float) -> list[Group]:
    random = np.random.default_rng(0)
    return recorded_otherwise(lambda logprobs: logprobs + random.normal(0, scale, len(logprobs)))


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


@pytest.mark.parametrize("budget", [64, 500, 100_000])
def test_micro_batches_do_not_change_the_gradient(budget: int) -> None:
    gradient, stats = gradient_of(random_credit, spec(optim={"grad_clip": 1e9, "token_budget": budget}))
    expected, same = gradient_of(random_credit, spec())
    assert_close(gradient, expected)
    assert stats.loss == pytest.approx(same.loss, abs=1e-6)
    assert stats.entropy == pytest.approx(same.entropy, abs=1e-5)


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
