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

from stepcredit.harness.engine.sequences import micro_batches, response_logits, token_logprobs
from stepcredit.harness.engine.stretches import TokenSequence, stretches_of
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.record.rows import UpdateStats
from stepcredit.harness.spec import Aggregation, ObjectiveSpec, RunSpec
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


class _Sums(NamedTuple):
    """The same over all batches."""

    loss: float
    policy: float
    distill: float
    entropy: float
    clipped: float

    def plus(self, terms: _Terms) -> _Sums:
        """One transfer for all of them."""
        return _Sums(*(a + b for a, b in zip(self, torch.stack(terms).tolist(), strict=True)))


def update_policy(
    policy: Policy,
    reference: PreTrainedModel | None,
    optimizer: Optimizer,
    groups: Sequence[Group],
    credits: Sequence[Sequence[Credit]],
    spec: RunSpec,
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

    Raises:
        UserError: the loss or its gradient is not finite; the weights are left untouched.
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
        terms = _loss_terms(policy.model, reference, [items[index] for index in batch], spec)
        (terms.loss / total).backward()
        sums = sums.plus(terms)
    grad_norm = _step(policy.model, optimizer, sums.loss, spec.optim.grad_clip)
    tokens = sum(len(item.old_T) for item in items)
    return UpdateStats(
        loss=sums.loss / total,
        policy_loss=sums.policy / total,
        distill_loss=sums.distill / total,
        # One item in as many as there were batches, so that the samples are about a batch and fit the memory.
        kl=_kl_after(policy.model, items[:: len(batches)], spec.rollout.temperature),
        entropy=sums.entropy / tokens,
        ratio_clipped=sums.clipped / tokens,
        grad_norm=grad_norm,
        response_tokens=tokens,
        skipped_groups=skipped,
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
    model: PreTrainedModel, reference: PreTrainedModel | None, items: Sequence[_Item], spec: RunSpec
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
    ratio_K = (new_K - old_K).exp()
    clipped_K = ratio_K.clamp(1.0 - weights.clip_low, 1.0 + weights.clip_high)
    policy = -(share_K * torch.minimum(ratio_K * advantage_K, clipped_K * advantage_K)).sum()
    distill = -(share_K * distill_K * new_K).sum()
    loss = policy + weights.distill * distill
    if weights.kl > 0:
        loss = loss + weights.kl * (share_K * _k3(new_K, _reference_logprobs(reference, sequences, temperature))).sum()
    with torch.no_grad():
        entropy = -(logprob_KV.exp() * logprob_KV).sum()
        cut = (clipped_K * advantage_K < ratio_K * advantage_K).sum().to(loss.dtype)
    return _Terms(loss, policy, distill, entropy, cut)


def _reference_logprobs(
    reference: PreTrainedModel | None, sequences: Sequence[TokenSequence], temperature: float
) -> Tensor:
    assert reference is not None, "a positive objective.kl needs the reference policy"
    with torch.no_grad():
        return token_logprobs(*response_logits(reference, sequences), temperature)


def _step(model: PreTrainedModel, optimizer: Optimizer, loss: float, grad_clip: float) -> float:
    """Clip the gradient and step; returns the gradient's norm."""
    norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        optimizer.zero_grad(set_to_none=True)
        raise UserError(
            f"training diverged: the loss is {loss:g} and its gradient's norm {norm:g}; "
            "lower optim.lr or optim.grad_clip and run again"
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


@torch.no_grad()
def _kl_after(model: PreTrainedModel, items: Sequence[_Item], temperature: float) -> float:
    """How far the step moved the policy on some of its own samples."""
    new_K = token_logprobs(*response_logits(model, [item.sequence for item in items]), temperature)
    old_K = torch.cat([item.old_T for item in items]).to(new_K.device)
    return float(_k3(old_K, new_K).double().mean())


def _k3(from_K: Tensor, to_K: Tensor) -> Tensor:
    """Estimate of KL(from || to) a token drawn by `from`: non-negative, low variance (Schulman 2020)."""
    gap_K = to_K - from_K
    return gap_K.exp() - gap_K - 1.0
