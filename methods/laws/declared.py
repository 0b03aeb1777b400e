"""Laws that a method takes on with a trait."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from stepcredit.methods.checks import off_spans
from stepcredit.methods.contract import Group, Trajectory
from stepcredit.methods.laws.groups import equal_groups_for
from stepcredit.methods.laws.rescorers import HashRescorer
from stepcredit.methods.laws.trial import UPDATES, Trial, for_all
from stepcredit.methods.spans import TargetSpans, target_steps

_SHARES = (0.0, 0.05, 0.1, 0.2, 0.5, 0.9, 0.999, 1.0)
_SCALES = st.sampled_from([0.1, 3.0, 1e4])
_ROUNDING = 1e-5
_ULPS = 1e-6  # an advantage mixed with itself, (1 - share) A + share A, is rounded three times
_FACTORS = (0.5, 2.0)
_EQUAL_MEANS = 1e-4


def equal_outcomes_give_no_credit(trial: Trial) -> None:
    """All-equal groups get zero credit."""

    def check(group: Group, update: int) -> None:
        for trajectory, credit in zip(group.trajectories, trial.credit(group, update=update), strict=True):
            for _, credit_T in credit.streams():
                trial.require_none(credit_T != 0, trajectory, credit_T, "credit although all end alike")

    for_all(check, group=equal_groups_for(trial.build().needs), update=UPDATES)


def sign_is_grpos(trial: Trial) -> None:
    """A token's credit has the sign of GRPO's advantage, or is zero."""

    def check(group: Group, update: int, scale: float) -> None:
        credits = trial.credit(group, HashRescorer(scale), update)
        for trajectory, credit, grpo in zip(group.trajectories, credits, trial.grpo(group), strict=True):
            sign_T = credit.advantage_T.sign()
            wrong_T = (sign_T != 0) & (sign_T != grpo.advantage_T.sign())
            trial.require_none(wrong_T, trajectory, credit.advantage_T, "another sign than GRPO's advantage")

    for_all(check, group=trial.groups, update=UPDATES, scale=_SCALES)


def no_credit_off_spans(trial: Trial) -> None:
    """Tokens outside the reasoning and the action of a step get none."""

    def check(group: Group, update: int) -> None:
        method = trial.build()
        credits = method.credit(group, HashRescorer(), update)
        for trajectory, credit in zip(group.trajectories, credits, strict=True):
            for _, credit_T in credit.streams():
                stray_T = off_spans(trajectory) & (credit_T != 0)
                trial.require_none(stray_T, trajectory, credit_T, "credit outside reasoning and action")

    for_all(check, group=trial.groups, update=UPDATES)


def grpo_off_the_target_spans(trial: Trial) -> None:
    """Outside its target spans, whichever they are, credit is GRPO's, but for rounding."""
    option = str(trial.method.traits.tilts_spans)

    def check(group: Group, update: int, target: TargetSpans) -> None:
        credits = trial.credit(group, update=update, by=trial.build(**{option: target}))
        for trajectory, credit, grpo in zip(group.trajectories, credits, trial.grpo(group), strict=True):
            off_T, moved_T = _steps(trajectory, target, _tags(trial)) < 0, (credit.advantage_T - grpo.advantage_T).abs()
            wrong_T = off_T & (moved_T > _ULPS * grpo.advantage_T.abs())
            trial.require_none(wrong_T, trajectory, credit.advantage_T, f"not GRPO's, off the spans {target}")

    for_all(check, group=trial.groups, update=UPDATES, target=st.sampled_from(trial.choices(option)))


def tilt_is_bounded(trial: Trial) -> None:
    """Before any step budget, |A'_t - A| <= tilt * |A|, whatever the tilt."""
    option = str(trial.method.traits.tilt)

    def check(group: Group, update: int, tilt: float, scale: float) -> None:
        method = trial.build(**trial.unbudgeted, **{option: tilt})
        credits = trial.credit(group, HashRescorer(scale), update, method)
        for trajectory, credit, grpo in zip(group.trajectories, credits, trial.grpo(group), strict=True):
            moved_T = (credit.advantage_T - grpo.advantage_T).abs()
            wrong_T = moved_T > (tilt + _ROUNDING) * grpo.advantage_T.abs()
            trial.require_none(wrong_T, trajectory, credit.advantage_T, f"more than {option}={tilt} from GRPO's")

    tilts = st.sampled_from(trial.choices(option, _SHARES))
    for_all(check, group=trial.groups, update=UPDATES, tilt=tilts, scale=_SCALES)


def without_its_share_it_is_grpo(trial: Trial) -> None:
    """With its mixing option at 0 a method is GRPO, to the bit."""
    method = trial.build(**{str(trial.method.traits.mixing): 0.0})

    def check(group: Group, update: int) -> None:
        credits = trial.credit(group, update=update, by=method)
        trial.require_same(group, credits, trial.grpo(group), f"not GRPO's, at {trial.method.traits.mixing}=0")

    for_all(check, group=trial.groups, update=UPDATES)


def steps_share_a_budget(trial: Trial) -> None:
    """The budget scales each step by one factor in [1/2, 2], and makes all mean |A'| equal that this can make equal."""
    option, traits = str(trial.method.traits.step_budget), trial.method.traits
    target = None if traits.tilts_spans is None else trial.choices(traits.tilts_spans)[0]

    def check(group: Group, update: int) -> None:
        on, off = (trial.credit(group, update=update, by=trial.build(**{option: budget})) for budget in (True, False))
        for trajectory, with_budget, without in zip(group.trajectories, on, off, strict=True):
            step_T = _steps(trajectory, target, _tags(trial))
            _require_budget(trial, trajectory, step_T, with_budget.advantage_T, without.advantage_T)

    for_all(check, group=trial.groups, update=UPDATES)


def _require_budget(trial: Trial, trajectory: Trajectory, step_T: Tensor, on_T: Tensor, off_T: Tensor) -> None:
    """A step that is scaled by 2 may stay below the common mean, one that is halved above it; all others reach it."""
    trial.require_none((step_T < 0) & (on_T != off_T), trajectory, on_T, "changed by the budget, off its spans")
    low, high = _FACTORS
    at_most, at_least = [0.0], [math.inf]
    for step in step_T[step_T >= 0].unique().tolist():
        of_step_T = step_T == step
        on_mean, off_mean = float(on_T[of_step_T].abs().mean()), float(off_T[of_step_T].abs().mean())
        factor = on_mean / off_mean if off_mean else 1.0
        uneven_T = of_step_T & ((on_T - factor * off_T).abs() > _ROUNDING * on_T.abs().max())
        trial.require_none(uneven_T, trajectory, on_T, f"step {step} is not scaled by one factor")
        in_range = low - _ROUNDING <= factor <= high + _ROUNDING
        trial.require(in_range, f"trajectory {trajectory.index}: step {step} is scaled by {factor:g}")
        at_most += [on_mean] if factor > low + _ROUNDING else []
        at_least += [on_mean] if factor < high - _ROUNDING else []
    equal = max(at_most) <= min(at_least) + _EQUAL_MEANS
    trial.require(equal, f"trajectory {trajectory.index}: means |A'| of {at_most[1:]} and {at_least[1:]} in its steps")


def earlier_credit_ignores_later_tokens(trial: Trial) -> None:
    """Given rewards and hindsight, and without a step budget, no token's credit depends on a later one."""

    def check(group: Group, update: int, place: int, share: float) -> None:
        index = place % len(group.trajectories)
        trajectory = group.trajectories[index]
        cut = int(share * trajectory.response_tokens)
        others = list(group.trajectories)
        others[index] = _with_other_tokens(trajectory, cut)
        method = trial.build(**trial.unbudgeted)
        before, after = (
            trial.credit(given, update=update, by=method)[index]
            for given in (group, replace(group, trajectories=tuple(others)))
        )
        earlier_T = torch.arange(trajectory.response_tokens) < cut
        after_by_name = dict(after.streams())
        for name, left_T in before.streams():
            moved_T = earlier_T & (left_T != after_by_name[name])
            trial.require_none(moved_T, trajectory, left_T, f"changes with the tokens from {cut} on")

    for_all(check, group=trial.groups, update=UPDATES, place=st.integers(0, 4), share=st.floats(0.0, 1.0))


def _with_other_tokens(trajectory: Trajectory, cut: int) -> Trajectory:
    """Other response tokens from number `cut` on, and so other later prompts; the same actions and answers."""
    steps, offset = [], 0
    for step in trajectory.steps:
        kept, prompt_ids = max(0, cut - offset), step.prompt_ids + (100 if offset > cut else 0)
        response_ids, logprobs = step.response_ids.copy(), step.logprobs.copy()
        response_ids[kept:] += 100
        logprobs[kept:] -= 0.5
        steps.append(replace(step, prompt_ids=prompt_ids, response_ids=response_ids, logprobs=logprobs))
        offset += len(step.response_ids)
    return replace(trajectory, steps=tuple(steps))


def _tags(trial: Trial) -> bool:
    """Whether tags are targets too."""
    option = trial.method.traits.tags
    return option is not None and bool(getattr(trial.build().config, option))


def _steps(trajectory: Trajectory, target: TargetSpans | None, tags: bool) -> Tensor:
    """[T] the step of each token that the method aims at, -1 elsewhere; without target spans every token's."""
    if target is not None:
        return target_steps(trajectory, target, tags=tags)
    lengths_K = torch.tensor([len(step.response_ids) for step in trajectory.steps], dtype=torch.long)
    return torch.repeat_interleave(torch.arange(len(lengths_K)), lengths_K)
