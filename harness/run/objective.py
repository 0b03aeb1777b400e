"""The one loss, blind to methods: clipped policy gradient on credit, optional distillation, optional KL."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from stepcredit.harness.engine.rescore import Drawn
from stepcredit.harness.engine.sequences import micro_batches, response_logits, token_logprobs
from stepcredit.harness.engine.stretches import TokenSequence, stretches_of
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.record.rows import UpdateStats
from stepcredit.harness.run.importance import importance_weights
from stepcredit.harness.spec import Aggregation, Importance, ObjectiveSpec, RunSpec
from stepcredit.methods.contract import Credit, Group, Trajectory


@dataclass(frozen=True, slots=True)
class _Item:
    """A stretch of steps to train on: its tokens, its share of the loss, what the sampler said, and the credit."""

    sequence: TokenSequence
    share: float
    old_T: Tensor
    advantage_T: Tensor
    distill_T: Tensor


class _Terms(NamedTuple):
    """What a batch's tokens add up to, each []."""

    loss: Tensor
    policy: Tensor
    distill: Tensor
    entropy: Tensor
    clipped: Tensor
    gap: Tensor
    gap_max: Tensor


class _Sums(NamedTuple):
    """The same over all batches, the largest gap of them all."""

    loss: float
    policy: float
    distill: float
    entropy: float
    clipped: float
    gap: float
    gap_max: float

    def plus(self, terms: _Terms) -> _Sums:
        """One transfer for all of them."""
        *added, gap_max = torch.stack(terms).tolist()
        sums = [a + b for a, b in zip(self[:-1], added, strict=True)]
        return _Sums._make([*sums, max(self.gap_max, gap_max)])


def update_policy(
    policy: Policy,
    reference: PreTrainedModel | None,
    optimizer: Optimizer,
    groups: Sequence[Group],
    credits: Sequence[Sequence[Credit]],
    spec: RunSpec,
    drawn: Drawn = Drawn.BY_LIVE_WEIGHTS,
) -> UpdateStats:
    """One optimiser step on the update's trajectories.

    The loss is a mean over *all* response tokens of the batch, or over all trajectories as `spec.objective.aggregation`
    says. Trajectories without credit are not computed but count in that mean: the step shrinks with the share of groups
    that teach something, instead of a lone mixed group moving the policy as far as a full batch. If nothing has credit,
    the weights stay as they are.

    Args:
        policy: its model changes in place.
        reference: the policy of the KL term; needed if `spec.objective.kl` is positive.
        optimizer: over the policy's parameters.
        groups: the update's rollouts.
        credits: valid ones (`stepcredit.methods.checks`), one per trajectory, in the order of the groups.
        spec: loss weights, micro-batch budget and temperature of the rollouts.
        drawn: whether the recorded log-probabilities stand for the policy's before the step. If not, its own are
            taken: the ratio to them is 1, and `spec.objective.importance` corrects for what drew the tokens.

    Raises:
        UserError: the loss or its gradient is not finite, or recorded log-probabilities are too far from the policy's;
            the weights are left untouched.
    """
    pairs = [list(zip(group.trajectories, own, strict=True)) for group, own in zip(groups, credits, strict=True)]
    trained = [[(t, c) for t, c in group if _has_loss(t, c, spec.objective)] for group in pairs]
    skipped = sum(not group for group in trained)
    lengths = [trajectory.response_tokens for group in groups for trajectory in group.trajectories]
    total = sum(lengths)
    items = [
        item
        for trajectory, credit in chain.from_iterable(trained)
        for item in _items(trajectory, credit, _share(trajectory, lengths, spec))
    ]
    if not items:
        return UpdateStats(skipped_groups=skipped)
    batches = list(micro_batches([len(item.sequence.ids) for item in items], spec.optim.token_budget))
    optimizer.zero_grad(set_to_none=True)
    sums = _Sums(*[0.0] * len(_Sums._fields))
    for batch in batches:
        terms = _loss_terms(policy.model, reference, [items[index] for index in batch], spec, drawn)
        (terms.loss / total).backward()
        sums = sums.plus(terms)
    tokens = sum(len(item.old_T) for item in items)
    if drawn is Drawn.ELSEWHERE:
        _require_near(sums.gap / tokens, spec.objective.max_engine_gap)
    # One item in as many as there were batches, so that the samples are about a batch and fit the memory.
    sample = items[:: len(batches)]
    before_K = _before_the_step(policy.model, sample, spec.rollout.temperature, drawn)
    grad_norm = _step(optimizer, sums.loss, spec.optim.grad_clip)
    return UpdateStats(
        loss=sums.loss / total,
        policy_loss=sums.policy / total,
        distill_loss=sums.distill / total,
        kl=_kl_after(policy.model, sample, before_K, spec.rollout.temperature),
        entropy=sums.entropy / tokens,
        ratio_clipped=sums.clipped / tokens,
        grad_norm=grad_norm,
        response_tokens=tokens,
        skipped_groups=skipped,
        engine_gap_mean=sums.gap / tokens,
        engine_gap_max=sums.gap_max,
    )


def _has_loss(trajectory: Trajectory, credit: Credit, objective: ObjectiveSpec) -> bool:
    if not trajectory.response_tokens:
        return False
    distilled = credit.distill_T is not None and objective.distill > 0 and bool(credit.distill_T.any())
    return distilled or objective.kl > 0 or bool(credit.advantage_T.any())


def _share(trajectory: Trajectory, lengths: Sequence[int], spec: RunSpec) -> float:
    """Weight of the trajectory's tokens, relative to a mean over all response tokens of the batch."""
    per_sequence = sum(lengths) / sum(length > 0 for length in lengths)
    match spec.objective.aggregation:
        case Aggregation.TOKEN_MEAN:
            return 1.0
        case Aggregation.SEQUENCE_MEAN:
            return per_sequence / trajectory.response_tokens
        case Aggregation.SEQUENCE_SUM_NORM:
            return per_sequence / (spec.rollout.max_turns * spec.rollout.max_response_tokens)


def _items(trajectory: Trajectory, credit: Credit, share: float) -> Iterator[_Item]:
    distill_T = torch.zeros_like(credit.advantage_T) if credit.distill_T is None else credit.distill_T
    first = 0
    for steps in stretches_of(trajectory):
        old_T = torch.cat([torch.from_numpy(step.logprobs) for step in steps])
        own = slice(first, first + len(old_T))
        first = own.stop
        yield _Item(TokenSequence.of(steps), share, old_T, credit.advantage_T[own].float(), distill_T[own].float())


def _loss_terms(
    model: PreTrainedModel, reference: PreTrainedModel | None, items: Sequence[_Item], spec: RunSpec, drawn: Drawn
) -> _Terms:
    temperature, weights = spec.rollout.temperature, spec.objective
    sequences = [item.sequence for item in items]
    logits_KV, token_K = response_logits(model, sequences)
    logprob_KV = (logits_KV.float() / (temperature or 1.0)).log_softmax(-1)
    new_K = logprob_KV.gather(1, token_K[:, None])[:, 0]
    old_K, advantage_K, distill_K = (
        torch.cat(parts).to(new_K.device)
        for parts in zip(*((item.old_T, item.advantage_T, item.distill_T) for item in items), strict=True)
    )
    share_K = torch.cat([torch.full_like(item.old_T, item.share) for item in items]).to(new_K.device)
    gap_K = new_K.detach() - old_K
    ratio_K = (new_K - (old_K if drawn is Drawn.BY_LIVE_WEIGHTS else new_K.detach())).exp()
    clipped_K = ratio_K.clamp(1.0 - weights.clip_low, 1.0 + weights.clip_high)
    surrogate_K = torch.minimum(ratio_K * advantage_K, clipped_K * advantage_K)
    if drawn is Drawn.ELSEWHERE and weights.importance is not Importance.NONE:
        surrogate_K = surrogate_K * importance_weights(gap_K, [len(item.old_T) for item in items], weights)
    policy = -(share_K * surrogate_K).sum()
    distill = -(share_K * distill_K * new_K).sum()
    loss = policy + weights.distill * distill
    if weights.kl > 0:
        loss = loss + weights.kl * (share_K * _k3(new_K, _reference_logprobs(reference, sequences, temperature))).sum()
    with torch.no_grad():
        entropy = -(logprob_KV.exp() * logprob_KV).sum()
        cut = (clipped_K * advantage_K < ratio_K * advantage_K).sum().to(loss.dtype)
    return _Terms(loss, policy, distill, entropy, cut, gap_K.abs().sum(), gap_K.abs().max())


def _reference_logprobs(
    reference: PreTrainedModel | None, sequences: Sequence[TokenSequence], temperature: float
) -> Tensor:
    assert reference is not None, "a positive objective.kl needs the reference policy"
    return _logprobs(reference, sequences, temperature)


def _require_near(gap: float, largest: float) -> None:
    if gap > largest:
        raise UserError(
            f"engine and trainer differ by {gap:.3g} nats a token in the mean, more than objective.max_engine_gap "
            f"{largest:g}: the engine does not run the weights that are trained, or too coarsely"
        )


def _step(optimizer: Optimizer, loss: float, grad_clip: float) -> float:
    """Clip the gradient and step; returns the gradient's norm."""
    moved = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = float(torch.nn.utils.clip_grad_norm_(moved, grad_clip))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        optimizer.zero_grad(set_to_none=True)
        raise UserError(
            f"training diverged: the loss is {loss:g} and its gradient's norm {norm:g}; "
            "lower optim.lr or optim.grad_clip and run again"
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def _before_the_step(model: PreTrainedModel, items: Sequence[_Item], temperature: float, drawn: Drawn) -> Tensor:
    """[K] the policy's log-probabilities, recorded ones where these stand for them."""
    if drawn is Drawn.BY_LIVE_WEIGHTS:
        return torch.cat([item.old_T for item in items]).to(model.device)
    return _logprobs(model, [item.sequence for item in items], temperature)


@torch.no_grad()
def _logprobs(model: PreTrainedModel, sequences: Sequence[TokenSequence], temperature: float) -> Tensor:
    return token_logprobs(*response_logits(model, sequences), temperature)


def _kl_after(model: PreTrainedModel, items: Sequence[_Item], before_K: Tensor, temperature: float) -> float:
    """How far the step moved the policy on some of its own samples."""
    after_K = _logprobs(model, [item.sequence for item in items], temperature)
    return float(_k3(before_K, after_K).double().mean())


def _k3(from_K: Tensor, to_K: Tensor) -> Tensor:
    """Estimate of KL(from || to) a token drawn by `from`: non-negative, low variance (Schulman 2020)."""
    gap_K = to_K - from_K
    return gap_K.exp() - gap_K - 1.0
