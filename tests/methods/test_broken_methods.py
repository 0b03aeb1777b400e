"""Each law can fail: for each there is a method that breaks it, and is caught by that law."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pytest
import torch
from pydantic import Field
from torch import Tensor

from stepcredit.methods.advantages import advantages_of, constant
from stepcredit.methods.contract import (
    Credit,
    Group,
    Method,
    MethodConfig,
    MethodError,
    Rescorer,
    ScoreRequest,
    Traits,
    Trajectory,
    Weights,
)
from stepcredit.methods.laws import LawBroken, check_laws, law_tests, laws_of
from stepcredit.methods.laws.always import declared_uses_are_real
from stepcredit.methods.laws.suite import ALWAYS, BY_TRAIT


class Options(MethodConfig):
    alpha: float = Field(0.2, ge=0.0, lt=1.0)
    share: float = Field(1.0, ge=0.0, le=1.0)
    budget: bool = True
    target: Literal["action_only", "clean_step_no_observation"] = "action_only"


def traits(**declared: Any) -> Traits:
    return Traits(**{"preserves_sign": False, "uses_hindsight": False, "needs_outcome": False, **declared})


class Broken(Method[Options]):
    """GRPO's advantage, bent by `bent`; the teacher is the policy itself under a hint."""

    name: ClassVar[str] = "broken"
    paper: ClassVar[str] = "none"
    Config: ClassVar[type[MethodConfig]] = Options
    traits: ClassVar[Traits] = traits()
    weights: ClassVar[Weights] = Weights.LIVE
    hindsight: ClassVar[str | None] = "h"

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        advantages = advantages_of(group, eps=1e-6)
        return [Credit(self.bent(t, a, rescore)) for t, a in zip(group.trajectories, advantages, strict=True)]

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        return constant(trajectory, advantage)

    def gap(self, trajectory: Trajectory, rescore: Rescorer) -> Tensor:
        if not trajectory.response_tokens:
            return torch.zeros(0)
        teacher = ScoreRequest(trajectory, self.weights, self.hindsight)
        teacher_T, student_T = rescore.score([teacher, ScoreRequest(trajectory, Weights.LIVE)])
        return teacher_T - student_T


class OneNumberAStep(Broken):
    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        return torch.full((len(trajectory.steps),), advantage)


class Standardised(Broken):
    """Divides by the variance; that of a single token is zero."""

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        credit_T = constant(trajectory, advantage)
        return credit_T if len(credit_T) != 1 else credit_T / credit_T.var(correction=0)


class Overflowing(Broken):
    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        return advantage * self.gap(trajectory, rescore).exp()


class Restless(Broken):
    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        return torch.rand(trajectory.response_tokens)


class Remembering(Broken):
    """Keeps the largest advantage that it has seen."""

    def __init__(self, config: Options) -> None:
        super().__init__(config)
        self._largest = 0.0

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        self._largest = max(self._largest, advantage)
        return constant(trajectory, self._largest)


class ByPlace(Broken):
    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        return constant(trajectory, advantage * trajectory.index)


class Differentiable(Broken):
    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        return self.gap(trajectory, rescore)


class Undeclared(Broken):
    """Asks for a snapshot that it does not need."""

    weights: ClassVar[Weights] = Weights.STALE

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        return self.gap(trajectory, rescore).detach()


class Unused(Broken):
    """Scores no context with hindsight."""

    traits: ClassVar[Traits] = traits(uses_hindsight=True)


class Misnamed(Broken):
    traits: ClassVar[Traits] = traits(tilt="alhpa")


class WithoutBaseline(Broken):
    traits: ClassVar[Traits] = traits(needs_outcome=True)

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        return constant(trajectory, trajectory.reward)


class SignOfTheGap(Broken):
    traits: ClassVar[Traits] = traits(preserves_sign=True)

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        return advantage * self.gap(trajectory, rescore).detach()


class Everywhere(Broken):
    traits: ClassVar[Traits] = traits(on_spans=True)


class TiltedEverywhere(Broken):
    traits: ClassVar[Traits] = traits(tilts_spans="target")

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        return constant(trajectory, advantage * 1.01)


class Unclipped(Broken):
    traits: ClassVar[Traits] = traits(tilt="alpha")

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        return advantage * (1.0 + self.gap(trajectory, rescore).detach())


class AddedOnTop(Broken):
    traits: ClassVar[Traits] = traits(mixing="share")

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        return constant(trajectory, advantage * (1.0 + self.config.share) + 1e-6)


class EqualSums(Broken):
    """Gives steps the same sum, not the same mean."""

    traits: ClassVar[Traits] = traits(step_budget="budget")

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        credit_T = constant(trajectory, advantage)
        if not self.config.budget:
            return credit_T
        lengths = torch.tensor([len(step.response_ids) for step in trajectory.steps], dtype=torch.long)
        scale_K = (lengths.float().mean() / lengths.clamp(min=1)).clamp(0.5, 2.0)
        return credit_T * scale_K.repeat_interleave(lengths)


class Unlimited(Broken):
    """Doubles a step of three times, beyond the clamp."""

    traits: ClassVar[Traits] = traits(step_budget="budget")

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        return constant(trajectory, advantage * (3.0 if self.config.budget else 1.0))


class Centred(Broken):
    """Subtracts the mean gap of the whole trajectory."""

    traits: ClassVar[Traits] = traits(uses_hindsight=True, prefix_only=True)

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        gap_T = self.gap(trajectory, rescore).detach()
        return gap_T - gap_T.mean() if len(gap_T) else gap_T


class TwoHints(Broken):
    """A right and a wrong hint, and only the first is declared."""

    traits: ClassVar[Traits] = traits(uses_hindsight=True)

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        if trajectory.response_tokens:
            rescore.score([ScoreRequest(trajectory, Weights.LIVE, hint) for hint in ("right", "wrong")])
        return constant(trajectory, advantage)


class Spreading(Broken):
    """Whole distributions, and `needs` does not say so."""

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        if trajectory.response_tokens:
            rescore.distributions([ScoreRequest(trajectory, Weights.LIVE)], 3)
        return constant(trajectory, advantage)


class SecondLoss(Broken):
    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        return [Credit(credit.advantage_T, credit.advantage_T) for credit in super().credit(group, rescore, update)]


class ByState(Broken):
    """Only the first step in a state is taught."""

    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        states = [step.state_key for step in trajectory.steps]
        new_K = torch.tensor([float(states.index(state) == k) for k, state in enumerate(states)])
        lengths = torch.tensor([len(step.response_ids) for step in trajectory.steps], dtype=torch.long)
        return advantage * new_K.repeat_interleave(lengths)


class DistilsNothing(Broken):
    traits: ClassVar[Traits] = traits(distils=True)


class AsksNobody(Broken):
    traits: ClassVar[Traits] = traits(teachers=2)


class SeesNoState(Broken):
    traits: ClassVar[Traits] = traits(compares_states=True)


class Crashing(Broken):
    def bent(self, trajectory: Trajectory, advantage: float, rescore: Rescorer) -> Tensor:
        return constant(trajectory, advantage * len(trajectory.steps[0].response_ids))


class Forgetful(Broken):
    def settled(self, credits: Sequence[Sequence[Credit]]) -> list[list[Credit]]:
        return [list(own) for own in credits[1:]]


class Dividing(Broken):
    def settled(self, credits: Sequence[Sequence[Credit]]) -> list[list[Credit]]:
        return [[replace(credit, advantage_T=credit.advantage_T / 0.0) for credit in own] for own in credits]


BROKEN: list[tuple[type[Method], str, str]] = [
    (OneNumberAStep, "credit_is_usable", "it must be one number per token"),
    (Standardised, "odd_groups_are_credited", "not finite, first at response token 0 "),
    (Forgetful, "settled_credit_is_usable", "2 groups are settled of 3"),
    (Dividing, "settled_credit_is_usable", "is not finite"),
    (Overflowing, "extreme_gaps_stay_finite", "is not finite"),
    (Restless, "credit_repeats", "another answer the second time"),
    (Remembering, "a_group_stands_alone", "another group was credited before"),
    (ByPlace, "permuted_trajectories_get_permuted_credit", "credit does not follow the order"),
    (Differentiable, "credit_is_a_constant", "carries a gradient"),
    (Undeclared, "rescorer_is_asked_for_what_is_declared", "stale weights are asked for, but not in `needs`"),
    (SignOfTheGap, "rescorer_is_asked_for_what_is_declared", "without the trait uses_hindsight"),
    (TwoHints, "rescorer_is_asked_for_what_is_declared", "2 teachers score one trajectory, more than `teachers`"),
    (Spreading, "rescorer_is_asked_for_what_is_declared", "distributions are asked for, but not in `needs`"),
    (SecondLoss, "losses_are_those_declared", "without the trait distils"),
    (ByState, "states_matter_only_where_declared", "credit changes with the states"),
    (Unused, "declared_uses_are_real", "uses_hindsight is True"),
    (DistilsNothing, "declared_uses_are_real", "distils is True"),
    (AsksNobody, "declared_uses_are_real", "teachers is 2, but 0 are asked"),
    (SeesNoState, "declared_uses_are_real", "compares_states is True"),
    (Misnamed, "declared_uses_are_real", "tilt names no option: 'alhpa'"),
    (WithoutBaseline, "equal_outcomes_give_no_credit", "credit although all end alike"),
    (SignOfTheGap, "sign_is_grpos", "another sign than GRPO's"),
    (Everywhere, "no_credit_off_spans", "credit outside reasoning and action"),
    (TiltedEverywhere, "grpo_off_the_target_spans", "not GRPO's, off the spans"),
    (Unclipped, "tilt_is_bounded", "more than alpha="),
    (AddedOnTop, "without_its_share_it_is_grpo", "not GRPO's, at share=0"),
    (EqualSums, "steps_share_a_budget", "means |A'|"),
    (Unlimited, "steps_share_a_budget", "is scaled by 3"),
    (Centred, "earlier_credit_ignores_later_tokens", "changes with the tokens from"),
]


@pytest.mark.parametrize(
    ("method", "name", "complaint"), BROKEN, ids=[f"{name}-{method.__name__}" for method, name, _ in BROKEN]
)
def test_a_law_catches_who_breaks_it(method: type[Method], name: str, complaint: str) -> None:
    (law,) = (law for law in laws_of(method) if law.name == name)
    with pytest.raises(LawBroken) as caught:
        law.check()
    assert str(caught.value).startswith(f"method 'broken' breaks the law '{name}': ")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_law_is_broken_by_someone() -> None:
    checks = (*ALWAYS, *BY_TRAIT.values(), declared_uses_are_real)
    assert {name for _, name, _ in BROKEN} == {check.__name__ for check in checks}


def test_every_trait_has_its_law() -> None:
    """The others are held against what is asked of the rescorer, what is returned, and what it depends on."""
    always = {"uses_hindsight", "needs_stale_policy", "teachers", "distils", "compares_states", "tags"}
    assert {*BY_TRAIT, *always} == {*Traits.__dataclass_fields__}


def test_all_laws_at_once() -> None:
    check_laws(Broken)
    with pytest.raises(
        LawBroken, match=r"method 'broken' with share=0\.5 breaks the law 'without_its_share_it_is_grpo'"
    ):
        check_laws(AddedOnTop, {"share": 0.5})
    with pytest.raises(MethodError, match="unknown method 'late_credits'"):
        law_tests("late_credits")


def test_a_methods_own_error_says_whose_it_is() -> None:
    with pytest.raises(IndexError) as caught:
        check_laws(Crashing)
    assert any(note.startswith("method 'broken', law '") for note in caught.value.__notes__)
