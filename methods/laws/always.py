"""Laws of every method."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from stepcredit.methods.contract import Group, Needs, Trajectory, Weights
from stepcredit.methods.laws.groups import furnished, make_group, odd_groups, one_word_group
from stepcredit.methods.laws.rescorers import DifferentiableRescorer, GapRescorer, HashRescorer
from stepcredit.methods.laws.trial import UPDATES, Trial, for_all

_OPTION_TRAITS = ("tilts_spans", "tilt", "mixing", "step_budget")
_ROUNDING = 1e-5


def credit_is_usable(trial: Trial) -> None:
    """One finite constant a response token."""

    def check(group: Group, update: int) -> None:
        trial.credit(group, update=update)

    for_all(check, group=trial.groups, update=UPDATES)


def odd_groups_are_credited(trial: Trial) -> None:
    """Empty steps, single steps, no steps and groups of one get usable credit."""
    needs = trial.build().needs
    for group in odd_groups():
        trial.credit(furnished(group, needs))


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
        found, expected = trial.credit(replace(moved, golden=group.golden)), [credits[place] for place in order]
        trial.require_same(moved, found, expected, f"credit does not follow the order {order}", _ROUNDING)

    for_all(check, group=trial.groups, data=st.data())


def credit_is_a_constant(trial: Trial) -> None:
    """No gradient flows through teacher or gap."""

    def check(group: Group, update: int) -> None:
        trial.credit(group, DifferentiableRescorer(HashRescorer()), update)

    for_all(check, group=trial.groups, update=UPDATES)


def rescorer_is_asked_for_what_is_declared(trial: Trial) -> None:
    """Hindsight only with its trait, other weights only where needed, never for nothing."""

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

    for_all(check, group=trial.groups, update=UPDATES)


def declared_uses_are_real(trial: Trial) -> None:
    """With default options a method uses what its traits say that it uses, and they name options that it has."""
    method, rescore, traits = trial.build(), HashRescorer(), trial.method.traits
    for trait in _OPTION_TRAITS:
        option = getattr(traits, trait)
        trial.require(option in (None, *trial.method.Config.model_fields), f"{trait} names no option: {option!r}")
    trial.credit(furnished(one_word_group(True, False, True, False), method.needs), rescore, by=method)
    hinted = any(request.hindsight is not None for request in rescore.requests)
    trial.require(hinted == traits.uses_hindsight, f"uses_hindsight is {traits.uses_hindsight}")
    stale = any(request.weights is Weights.STALE for request in rescore.requests)
    trial.require(stale == traits.needs_stale_policy, f"needs_stale_policy is {traits.needs_stale_policy}")


def _keeping_peers(group: Group, order: list[int]) -> list[int]:
    """The order, with the winners among themselves and the losers among themselves as they were."""
    places: dict[bool, list[int]] = {True: [], False: []}
    for place, trajectory in enumerate(group.trajectories):
        places[trajectory.success].append(place)
    kinds = {success: iter(of_kind) for success, of_kind in places.items()}
    return [next(kinds[group.trajectories[place].success]) for place in order]


def _weights(needs: Needs) -> set[Weights]:
    allowed = {Weights.LIVE}
    if needs.stale_refresh is not None:
        allowed.add(Weights.STALE)
    if needs.checkpoint is not None:
        allowed.add(Weights.CHECKPOINT)
    return allowed
