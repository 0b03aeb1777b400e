"""Laws of every method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from stepcredit.methods.contract import Group, Needs, ScoreRequest, Trajectory, Weights
from stepcredit.methods.laws.groups import furnished, make_group, odd_groups, one_word_group
from stepcredit.methods.laws.rescorers import DifferentiableRescorer, GapRescorer, HashRescorer
from stepcredit.methods.laws.trial import UPDATES, Trial, for_all

_OPTION_TRAITS = ("tilts_spans", "tags", "tilt", "mixing", "step_budget")
_ROUNDING = 1e-5


def credit_is_usable(trial: Trial) -> None:
    """One finite constant per response token."""

    def check(group: Group, update: int) -> None:
        trial.credit(group, update=update)

    for_all(check, group=trial.groups, update=UPDATES)


def odd_groups_are_credited(trial: Trial) -> None:
    """Empty steps, single steps, no steps and groups of one get usable credit."""
    needs = trial.build().needs
    for group in odd_groups():
        trial.credit(furnished(group, needs))


def settled_credit_is_usable(trial: Trial) -> None:
    """Settled over an update, credit is still usable and its groups are in their order."""

    def check(first: Group, second: Group, update: int) -> None:
        method = trial.build()
        groups = (first, second, first)
        settled = method.settled([trial.credit(group, update=update, by=method) for group in groups])
        trial.require(len(settled) == len(groups), f"{len(settled)} groups are settled of {len(groups)}")
        for group, own in zip(groups, settled, strict=True):
            trial.require_usable(method, group, own)
        trial.require_same(first, settled[0], settled[2], "differs in two groups that are the same")

    for_all(check, first=trial.groups, second=trial.groups, update=UPDATES)


def extreme_gaps_stay_finite(trial: Trial) -> None:
    """Credit is finite when teacher and student are 1e4 apart."""

    def check(group: Group, update: int, size: float, turn: bool) -> None:
        def extreme(trajectory: Trajectory, hint: str | None) -> Tensor:
            gap_T = torch.full((trajectory.response_tokens,), size)
            if turn:
                gap_T[::2] *= -1.0
            return gap_T

        trial.credit(group, GapRescorer(extreme), update)

    for_all(check, group=trial.groups, update=UPDATES, size=st.sampled_from([1e4, -1e4]), turn=st.booleans())


def credit_repeats(trial: Trial) -> None:
    """Asked again, a method answers the same, to the bit."""

    def check(group: Group, update: int) -> None:
        method = trial.build()
        first, again = (trial.credit(group, update=update, by=method) for _ in range(2))
        trial.require_same(group, again, first, "another answer the second time")

    for_all(check, group=trial.groups, update=UPDATES)


def a_group_stands_alone(trial: Trial) -> None:
    """Credit does not depend on which groups are credited in the same batch or were before."""

    def check(group: Group, other: Group, update: int) -> None:
        method, expected = trial.build(), trial.credit(group, update=update)
        trial.credit(other, update=update, by=method)
        found = trial.credit(group, update=update, by=method)
        trial.require_same(group, found, expected, "credit changes when another group was credited before")

    for_all(check, group=trial.groups, other=trial.groups, update=UPDATES)


def permuted_trajectories_get_permuted_credit(trial: Trial) -> None:
    """Order in the group means nothing; with hindsight, winners keep theirs, and losers theirs: peers are the first."""

    def check(group: Group, data: st.DataObject) -> None:
        order = data.draw(st.permutations(range(len(group.trajectories))), label="order")
        if trial.method.traits.uses_hindsight:
            order = _keeping_peers(group, order)
        moved = make_group(*(group.trajectories[place] for place in order))
        credits = trial.credit(group)
        moved = replace(moved, golden=group.golden, skill=group.skill, foreign=group.foreign)
        found, expected = trial.credit(moved), [credits[place] for place in order]
        trial.require_same(moved, found, expected, f"credit does not follow the order {order}", _ROUNDING)

    for_all(check, group=trial.groups, data=st.data())


def credit_is_a_constant(trial: Trial) -> None:
    """No gradient flows through teacher or gap."""

    def check(group: Group, update: int) -> None:
        trial.credit(group, DifferentiableRescorer(HashRescorer()), update)

    for_all(check, group=trial.groups, update=UPDATES)


def rescorer_is_asked_for_what_is_declared(trial: Trial) -> None:
    """Hindsight and further teachers only with their traits, other weights only where needed, never for nothing."""

    def check(group: Group, update: int) -> None:
        method, rescore = trial.build(), HashRescorer()
        trial.credit(group, rescore, update, method)
        allowed = _weights(method.needs)
        trial.require(all(rescore.calls), "the rescorer is called without requests")
        for request in rescore.requests:
            trial.require(request.trajectory.response_tokens > 0, "a trajectory without response tokens is rescored")
            trial.require(request.weights in allowed, f"{request.weights} weights are asked for, but not in `needs`")
            declared = request.hindsight is None or method.traits.uses_hindsight
            trial.require(declared, "hindsight is asked for without the trait uses_hindsight")
        trial.require(
            method.needs.distributions or not rescore.spread, "distributions are asked for, but not in `needs`"
        )
        most = _teachers(rescore)
        trial.require(most <= method.traits.teachers, f"{most} teachers score one trajectory, more than `teachers`")

    for_all(check, group=trial.groups, update=UPDATES)


def losses_are_those_declared(trial: Trial) -> None:
    """Weights in the auxiliary loss only with the trait distils."""

    def check(group: Group, update: int) -> None:
        distilled = any(credit.distill_T is not None for credit in trial.credit(group, update=update))
        trial.require(trial.method.traits.distils or not distilled, "distill_T is given without the trait distils")

    for_all(check, group=trial.groups, update=UPDATES)


def states_matter_only_where_declared(trial: Trial) -> None:
    """Without the trait compares_states, credit does not depend on states, nor, without hindsight, on observations."""
    if trial.method.traits.compares_states:
        return

    def check(group: Group, update: int) -> None:
        found = trial.credit(_apart(group, hinted=trial.method.traits.uses_hindsight), update=update)
        trial.require_same(group, found, trial.credit(group, update=update), "credit changes with the states")

    for_all(check, group=trial.groups, update=UPDATES)


def declared_uses_are_real(trial: Trial) -> None:
    """With default options a method uses what its traits say that it uses, and they name options that it has."""
    method, rescore, traits = trial.build(), HashRescorer(), trial.method.traits
    for trait in _OPTION_TRAITS:
        option = getattr(traits, trait)
        trial.require(option in (None, *trial.method.Config.model_fields), f"{trait} names no option: {option!r}")
    group = furnished(one_word_group(True, False, True, False, False, False), method.needs)
    credits = trial.credit(group, rescore, by=method)
    hinted = any(request.hindsight is not None for request in rescore.requests)
    trial.require(hinted == traits.uses_hindsight, f"uses_hindsight is {traits.uses_hindsight}")
    stale = any(request.weights is Weights.STALE for request in rescore.requests)
    trial.require(stale == traits.needs_stale_policy, f"needs_stale_policy is {traits.needs_stale_policy}")
    most = _teachers(rescore)
    trial.require(traits.teachers in (most, 1), f"teachers is {traits.teachers}, but {most} are asked")
    distilled = any(credit.distill_T is not None and bool(credit.distill_T.any()) for credit in credits)
    trial.require(distilled == traits.distils, f"distils is {traits.distils}")
    if traits.compares_states:
        apart, together = (trial.credit(moved, by=method) for moved in (_apart(group), _together(group)))
        pairs = zip(apart, together, strict=True)
        moved = any(not torch.equal(left.advantage_T, right.advantage_T) for left, right in pairs)
        trial.require(moved, "compares_states is True")


def _apart(group: Group, *, hinted: bool = False) -> Group:
    """No two steps in one state, nor, but where hints may quote them, after one observation."""
    return _placed(group, lambda index, k: f"{index}.{k}", hinted=hinted)


def _together(group: Group) -> Group:
    """All steps in one state, after one observation."""
    return _placed(group, lambda index, k: "here", hinted=False)


def _placed(group: Group, place: Callable[[int, int], str], *, hinted: bool) -> Group:
    def moved(trajectory: Trajectory) -> Trajectory:
        names = [place(trajectory.index, k) for k in range(len(trajectory.steps))]
        steps = (
            replace(step, state_key=name, observation=step.observation if hinted else name)
            for step, name in zip(trajectory.steps, names, strict=True)
        )
        return replace(trajectory, steps=tuple(steps))

    return replace(group, trajectories=tuple(moved(trajectory) for trajectory in group.trajectories))


def _teachers(rescore: HashRescorer) -> int:
    """The most contexts or weights, other than the policy's own, that scored one trajectory in one call."""
    return max((_most_in(call) for call in rescore.calls), default=0)


def _most_in(requests: Sequence[ScoreRequest]) -> int:
    asked = {(r.trajectory.index, r.weights, r.hindsight) for r in requests}
    counts = Counter(index for index, weights, hint in asked if hint is not None or weights is not Weights.LIVE)
    return max(counts.values(), default=0)


def _keeping_peers(group: Group, order: list[int]) -> list[int]:
    """The order, with the winners among themselves and the losers among themselves as they were."""
    places: dict[bool, list[int]] = {True: [], False: []}
    for place, trajectory in enumerate(group.trajectories):
        places[trajectory.success].append(place)
    kinds = {success: iter(of_kind) for success, of_kind in places.items()}
    return [next(kinds[group.trajectories[place].success]) for place in order]


def _weights(needs: Needs) -> set[Weights]:
    allowed = {Weights.LIVE}
    there = {
        Weights.STALE: needs.stale_refresh is not None,
        Weights.INITIAL: needs.initial,
        Weights.EMA: needs.ema is not None,
        Weights.CHECKPOINT: needs.checkpoint is not None,
    }
    return allowed | {weights for weights, kept in there.items() if kept}
