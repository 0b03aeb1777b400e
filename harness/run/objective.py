"""One update of the policy: which tokens are trained on, in which optimiser steps, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from stepcredit.harness.engine.rescore import Drawn
from stepcredit.harness.engine.sequences import micro_batches
from stepcredit.harness.engine.stretches import TokenSequence, stretches_of
from stepcredit.harness.model.frozen import Frozen
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.record.rows import UpdateStats
from stepcredit.harness.run.divergence import part_of
from stepcredit.harness.run.loss import Item, k3, logprobs
from stepcredit.harness.run.trainer import LocalTrainer, Sums, Trainer
from stepcredit.harness.seeds import seed_for
from stepcredit.harness.spec import Aggregation, ObjectiveSpec, RunSpec
from stepcredit.methods.contract import Credit, Group, Trajectory


def update_policy(
    policy: Policy,
    reference: Frozen | None,
    optimizer: Optimizer,
    groups: Sequence[Group],
    credits: Sequence[Sequence[Credit]],
    spec: RunSpec,
    *,
    update: int = 0,
    drawn: Drawn = Drawn.BY_LIVE_WEIGHTS,
) -> UpdateStats:
    """`update_with` this process' own steps.

    Args:
        policy: its model changes in place.
        reference: the policy of the KL term; needed if `spec.objective.kl` is positive.
        optimizer: over the policy's parameters.
        groups, credits, spec, update, drawn: as of `update_with`.

    Raises:
        UserError: as of `update_with`.
    """
    trainer = LocalTrainer(policy.model, reference, optimizer, spec, drawn)
    return update_with(trainer, policy, groups, credits, spec, update=update, drawn=drawn)


def update_with(
    trainer: Trainer,
    policy: Policy,
    groups: Sequence[Group],
    credits: Sequence[Sequence[Credit]],
    spec: RunSpec,
    *,
    update: int = 0,
    drawn: Drawn = Drawn.BY_LIVE_WEIGHTS,
) -> UpdateStats:
    """One optimiser step on the update's trajectories, or several, as `spec.optim.minibatch` and `epochs` say.

    The loss is a mean over *all* response tokens of the batch, or over all trajectories as `spec.objective.aggregation`
    says. Trajectories without credit are not computed but count in that mean: the step shrinks with the share of groups
    that teach something, instead of a lone mixed group moving the policy as far as a full batch. If nothing has credit,
    the weights stay as they are.

    Args:
        trainer: makes the steps.
        policy: its model changes in place.
        groups: the update's rollouts.
        credits: valid ones (`stepcredit.methods.checks`), one per trajectory, in the order of the groups.
        spec: loss weights, micro-batch budget and temperature of the rollouts.
        update: its number, which the order of mini-batches is drawn for.
        drawn: whether the recorded log-probabilities stand for the policy's before the update. If not, its own are
            taken, and `spec.objective.importance` corrects for what drew the tokens.

    Raises:
        Diverged: the loss or its gradient is not finite; no step is made with these.
        UserError: recorded log-probabilities are too far from the policy's.
    """
    rows, skipped = _rows(groups, credits, spec, drawn)
    items = [row.item for row in rows if row.has_loss]
    if not items:
        return UpdateStats(skipped_groups=skipped)
    # One item in as many as there are batches, so that the samples are about a batch and fit the memory.
    sample = items[:: len(list(micro_batches([len(item.sequence.ids) for item in items], spec.optim.token_budget)))]
    before_K = _before_the_step(policy.model, sample, spec)
    if spec.optim.several_steps:
        rows = _with_before(policy.model, rows, spec)
    sums, norms, trained, total = Sums(), [], 0, 0
    for part in _minibatches(rows, spec, update):
        own, part_total = [row.item for row in part if row.has_loss], sum(row.item.tokens for row in part)
        total += part_total
        if own:
            of_step, norm = trainer.step(own, part_total)
            sums, trained = sums.joined(of_step), trained + sum(item.tokens for item in own)
            norms.append(norm)
    return UpdateStats(
        loss=sums.loss / total,
        policy_loss=sums.policy / total,
        distill_loss=sums.distill / total,
        kl=_kl_after(policy.model, sample, before_K, spec),
        entropy=sums.entropy / trained,
        ratio_clipped=sums.clipped / trained,
        grad_norm=sum(norms) / len(norms),
        response_tokens=sum(item.tokens for item in items),
        skipped_groups=skipped,
        gradient_tokens=spec.optim.epochs * sum(len(item.sequence.ids) for item in items),
        engine_gap_mean=sums.gap / trained,
        engine_gap_max=sums.gap_max,
    )


class _Row(NamedTuple):
    """An item, and whether anything of it is to be computed; all count in a mean."""

    item: Item
    has_loss: bool


def _rows(
    groups: Sequence[Group], credits: Sequence[Sequence[Credit]], spec: RunSpec, drawn: Drawn
) -> tuple[list[_Row], int]:
    """The rows of all trajectories, in order, and how many groups have none to compute."""
    pairs = [list(zip(group.trajectories, own, strict=True)) for group, own in zip(groups, credits, strict=True)]
    lengths = [trajectory.response_tokens for group in groups for trajectory in group.trajectories]
    rows = [
        _Row(item, _has_loss(trajectory, credit, spec.objective))
        for trajectory, credit in chain.from_iterable(pairs)
        if trajectory.response_tokens
        for item in _items(trajectory, credit, _share(trajectory, lengths, spec), drawn)
    ]
    skipped = sum(not any(_has_loss(t, c, spec.objective) for t, c in group) for group in pairs)
    return rows, skipped


def _has_loss(trajectory: Trajectory, credit: Credit, objective: ObjectiveSpec) -> bool:
    if not trajectory.response_tokens:
        return False
    distilled = objective.distill > 0 and any(bool(stream_T.any()) for _, stream_T in [*credit.streams()][1:])
    return distilled or objective.kl > 0 or objective.entropy > 0 or bool(credit.advantage_T.any())


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


def _items(trajectory: Trajectory, credit: Credit, share: float, drawn: Drawn) -> Iterator[Item]:
    distill_T = torch.zeros_like(credit.advantage_T) if credit.distill_T is None else credit.distill_T
    first = 0
    for steps in stretches_of(trajectory):
        recorded_T = torch.cat([torch.from_numpy(step.logprobs) for step in steps])
        own = slice(first, first + len(recorded_T))
        first = own.stop
        yield Item(
            TokenSequence.of(steps),
            share,
            len(steps),
            recorded_T,
            recorded_T if drawn is Drawn.BY_LIVE_WEIGHTS else None,
            credit.advantage_T[own].float(),
            distill_T[own].float(),
            part_of(credit.target, own),
        )


def _with_before(model: PreTrainedModel, rows: Sequence[_Row], spec: RunSpec) -> list[_Row]:
    """What is still open of the policy's log-probabilities before the update, before its first step changes it."""
    found = list(rows)
    places = [place for place, row in enumerate(rows) if row.has_loss and row.item.before_T is None]
    lengths = [len(rows[place].item.sequence.ids) for place in places]
    for batch in micro_batches(lengths, spec.optim.token_budget):
        own = [rows[places[index]].item for index in batch]
        before_K = logprobs(model, [item.sequence for item in own], spec)
        for index, before_T in zip(batch, before_K.split([item.tokens for item in own]), strict=True):
            found[places[index]] = _Row(replace(rows[places[index]].item, before_T=before_T), has_loss=True)
    return found


def _minibatches(rows: Sequence[_Row], spec: RunSpec, update: int) -> Iterator[list[_Row]]:
    """The rows of each optimiser step: in every epoch all of them, in an order of its own where there are several."""
    size = spec.optim.minibatch
    for epoch in range(spec.optim.epochs):
        if size is None:
            yield list(rows)
            continue
        seed = seed_for("minibatches", spec.seed, update, epoch)
        part: list[_Row] = []
        for place in np.random.default_rng(seed).permutation(len(rows)):
            part.append(rows[place])
            if sum(row.item.steps for row in part) >= size:
                yield part
                part = []
        if part:
            yield part


def _before_the_step(model: PreTrainedModel, items: Sequence[Item], spec: RunSpec) -> Tensor:
    """[K] the policy's log-probabilities, recorded ones where these stand for them."""
    known = [item.before_T for item in items if item.before_T is not None]
    if len(known) == len(items):
        return torch.cat(known).to(model.device)
    return logprobs(model, [item.sequence for item in items], spec)


def _kl_after(model: PreTrainedModel, items: Sequence[Item], before_K: Tensor, spec: RunSpec) -> float:
    """How far the update moved the policy on some of its own samples."""
    after_K = logprobs(model, [item.sequence for item in items], spec)
    return float(k3(before_K, after_K).double().mean())
