"""The one loss, blind to methods: clipped policy gradient on credit, optional distillation, entropy and KL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stepcredit.harness.engine.recompute import HEAD_TOKENS, response_scores
from stepcredit.harness.engine.sequences import response_logits, response_logprobs
from stepcredit.harness.engine.stretches import TokenSequence
from stepcredit.harness.model.frozen import Frozen
from stepcredit.harness.run.divergence import Aim
from stepcredit.harness.run.importance import importance_weights
from stepcredit.harness.spec import Importance, ObjectiveSpec, RunSpec
from stepcredit.methods.contract import Target


@dataclass(frozen=True, slots=True)
class Item:
    """A stretch of steps to train on.

    Attributes:
        sequence: its tokens.
        share: weight of its tokens in the loss.
        steps: how many it is made of.
        recorded_T: [T] log-probabilities that the engine drew the response with.
        before_T: [T] the policy's before the update; None stands for its own at the moment, which the first optimiser
            step of an update may take.
        advantage_T: [T] credit; `distill_T` likewise.
        target: a teacher's distributions that these tokens are moved towards.
        reference_T: [T] the KL term's, where they are known; None asks the reference.
    """

    sequence: TokenSequence
    share: float
    steps: int
    recorded_T: Tensor
    before_T: Tensor | None
    advantage_T: Tensor
    distill_T: Tensor
    target: Target | None = None
    reference_T: Tensor | None = None

    @property
    def tokens(self) -> int:
        """Response tokens."""
        return len(self.recorded_T)


class Terms(NamedTuple):
    """What a batch's tokens add up to, each []; the last is the largest gap between trainer and engine."""

    loss: Tensor
    policy: Tensor
    distill: Tensor
    entropy: Tensor
    clipped: Tensor
    gap: Tensor
    gap_max: Tensor


def loss_terms(model: PreTrainedModel, reference: Frozen | None, items: Sequence[Item], spec: RunSpec) -> Terms:
    """The loss of some items, a sum over their tokens, and what is reported beside it."""
    temperature, weights = spec.rollout.temperature, spec.objective
    sequences = [item.sequence for item in items]
    scored = _recomputed if spec.optim.recompute else _kept
    counts = [item.tokens for item in items]
    aim = Aim.of([item.target for item in items], counts, model.device)
    new_K, entropy_K, entropy, other_Kk = scored(model, sequences, temperature, None if aim is None else aim.ids_Kk)
    recorded_K, advantage_K, distill_K = (
        torch.cat(parts).to(new_K.device)
        for parts in zip(*((item.recorded_T, item.advantage_T, item.distill_T) for item in items), strict=True)
    )
    share_K = torch.cat([torch.full_like(item.recorded_T, item.share) for item in items]).to(new_K.device)
    before_K = _before(items, new_K)
    surrogate_K, clipped_K = _surrogate((new_K - before_K).exp(), advantage_K, weights)
    if weights.importance is not Importance.NONE:
        surrogate_K = surrogate_K * importance_weights(before_K - recorded_K, counts, weights)
    policy = -(share_K * surrogate_K).sum()
    distill = -(share_K * distill_K * new_K).sum()
    if aim is not None:
        distill = distill + (share_K * aim.divergence(other_Kk)).sum()
    loss = policy + weights.distill * distill
    if weights.kl > 0:
        reference_K = _of_the_reference(reference, items, spec).to(new_K.device)
        loss = loss + weights.kl * (share_K * k3(new_K, reference_K)).sum()
    if weights.entropy > 0:
        loss = loss - weights.entropy * (share_K * entropy_K()).sum()
    with torch.no_grad():
        gap_K = (before_K - recorded_K).abs()
    return Terms(loss, policy, distill, entropy, clipped_K.sum().to(loss.dtype), gap_K.sum(), gap_K.max())


_Scored = tuple[Tensor, Callable[[], Tensor], Tensor, Tensor]
"""Log-probabilities [K] of the response tokens; their entropies [K], for who asks; the entropies' sum, no gradient;
log-probabilities [K, k] of the tokens that were asked for."""


def _kept(
    model: PreTrainedModel, sequences: Sequence[TokenSequence], temperature: float, ids_Kk: Tensor | None
) -> _Scored:
    logits_KV, token_K = response_logits(model, sequences)
    logprob_KV = (logits_KV.float() / (temperature or 1.0)).log_softmax(-1)
    with torch.no_grad():
        entropy = -(logprob_KV.exp() * logprob_KV).sum()
    new_K = logprob_KV.gather(1, token_K[:, None])[:, 0]
    other_Kk = new_K[:, None] if ids_Kk is None else logprob_KV.gather(1, ids_Kk)
    return new_K, lambda: -(logprob_KV.exp() * logprob_KV).sum(-1), entropy, other_Kk


def _recomputed(
    model: PreTrainedModel, sequences: Sequence[TokenSequence], temperature: float, ids_Kk: Tensor | None
) -> _Scored:
    new_K, entropy_K, other_Kk = response_scores(model, sequences, temperature, ids_Kk)
    return new_K, lambda: entropy_K, entropy_K.detach().sum(), other_Kk


def _before(items: Sequence[Item], new_K: Tensor) -> Tensor:
    """[K] the policy's log-probabilities before the update."""
    own = iter(new_K.detach().split([item.tokens for item in items]))
    parts = [
        now_T if item.before_T is None else item.before_T.to(now_T.device)
        for item, now_T in zip(items, own, strict=True)
    ]
    return torch.cat(parts)


def _of_the_reference(reference: Frozen | None, items: Sequence[Item], spec: RunSpec) -> Tensor:
    """[K] its log-probabilities."""
    known = [item.reference_T for item in items if item.reference_T is not None]
    if len(known) == len(items):
        return torch.cat(known)
    assert reference is not None, "a positive objective.kl needs the reference policy"
    with reference.active() as earlier:
        return logprobs(earlier, [item.sequence for item in items], spec)


def _surrogate(ratio_K: Tensor, advantage_K: Tensor, weights: ObjectiveSpec) -> tuple[Tensor, Tensor]:
    """[K] PPO's clipped surrogate, and where it is less than the plain one."""
    plain_K = ratio_K * advantage_K
    clipped_K = ratio_K.clamp(1.0 - weights.clip_low, 1.0 + weights.clip_high) * advantage_K
    surrogate_K = torch.minimum(plain_K, clipped_K)
    if weights.dual_clip is not None:
        bounded_K = torch.maximum(surrogate_K, weights.dual_clip * advantage_K)
        surrogate_K = torch.where(advantage_K < 0, bounded_K, surrogate_K)
    with torch.no_grad():
        cut_K = clipped_K < plain_K
    return surrogate_K, cut_K


@torch.no_grad()
def logprobs(model: PreTrainedModel, sequences: Sequence[TokenSequence], spec: RunSpec) -> Tensor:
    """[K] log-probabilities of all response tokens, without a gradient."""
    head_tokens = HEAD_TOKENS if spec.optim.recompute else None
    return response_logprobs(model, sequences, spec.rollout.temperature, head_tokens=head_tokens)


def k3(from_K: Tensor, to_K: Tensor) -> Tensor:
    """Estimate of KL(from || to) a token drawn by `from`: non-negative, low variance (Schulman 2020)."""
    gap_K = to_K - from_K
    return gap_K.exp() - gap_K - 1.0
