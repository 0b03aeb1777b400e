"""Rollouts with credit, the gradient that the update takes on them, and the same from plain forward passes."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD
from transformers import PreTrainedModel

from stepcredit.harness.engine.rescore import Drawn
from stepcredit.harness.model.frozen import FrozenCopy
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.record.rows import UpdateStats
from stepcredit.harness.run.objective import update_policy
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.contract import Credit, Group, Trajectory
from tests.harness.support import toy_groups, toy_policy

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
    frozen = None if reference is None else FrozenCopy(reference.model)
    stats = update_policy(
        policy, frozen, SGD(policy.model.parameters(), lr=1.0), groups, credits_of(give, groups), chosen, drawn=drawn
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


def recorded_otherwise(change: Callable[[np.ndarray], np.ndarray]) -> list[Group]:
    """The groups, as if what drew them had given other log-probabilities."""

    def changed(trajectory: Trajectory) -> Trajectory:
        steps = (replace(step, logprobs=change(step.logprobs).astype(np.float32)) for step in trajectory.steps)
        return replace(trajectory, steps=tuple(steps))

    return [replace(group, trajectories=tuple(map(changed, group.trajectories))) for group in GROUPS]


def noisy_groups(scale: float) -> list[Group]:
    random = np.random.default_rng(0)
    return recorded_otherwise(lambda logprobs: logprobs + random.normal(0, scale, len(logprobs)))
