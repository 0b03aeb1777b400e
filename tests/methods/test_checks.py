"""Credit that no objective could use is refused, with the method's name and the first offending token."""

import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from stepcredit.methods.advantages import advantages_of, group_advantages
from stepcredit.methods.checks import require_valid
from stepcredit.methods.contract import Credit, Group, Method, MethodConfig, MethodError, Rescorer, Traits
from tests.methods.support import make_group, make_step, make_trajectory, one_word_group

GROUP = one_word_group(True, False)


class Fixed(Method):
    """Returns what it was given, for the second trajectory."""

    name: ClassVar[str] = "fixed"
    paper: ClassVar[str] = "none"
    traits: ClassVar[Traits] = Traits(preserves_sign=False, uses_hindsight=False, needs_outcome=False)

    def __init__(self, second: Credit) -> None:
        super().__init__(MethodConfig())
        self._second = second

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        return [Credit(torch.zeros(8)), self._second]


class OnSpans(Fixed):
    """The same, and promises to stay on its spans."""

    name: ClassVar[str] = "on_spans"
    traits: ClassVar[Traits] = Traits(preserves_sign=False, uses_hindsight=False, needs_outcome=False, on_spans=True)


def numbers(**changed: float) -> Tensor:
    credit_T = torch.zeros(8)
    for place, value in changed.items():
        credit_T[int(place.removeprefix("t"))] = value
    return credit_T


@pytest.mark.parametrize(
    ("credit", "complaint"),
    [
        (Credit(torch.zeros(7)), r"'fixed': advantage_T of trajectory 1 of 'mini/.*' has shape \[7\] for 8 response"),
        (Credit(torch.zeros(8, 1)), r"has shape \[8, 1\]"),
        (Credit(torch.zeros(8, dtype=torch.long)), "advantage_T .* is of type torch.int64"),
        (Credit(torch.zeros(8, requires_grad=True)), "advantage_T .* carries a gradient"),
        (Credit(numbers(t5=math.nan, t7=math.inf)), r"not finite, first at response token 5 \(step 1, .* 1\): nan"),
        (Credit(numbers(t4=-math.inf)), r"first at response token 4 \(step 1, its token 0\): -inf"),
        (Credit(torch.zeros(8), distill_T=numbers(t3=math.nan)), r"distill_T .* token 3 \(step 0, its token 3\)"),
        (Credit(torch.zeros(8), diagnostics={"gap": math.nan}), "the diagnostic 'gap' of trajectory 1 .* is nan"),
    ],
)
def test_unusable_credit_is_refused(credit: Credit, complaint: str) -> None:
    method = Fixed(credit)
    with pytest.raises(MethodError, match=complaint):
        require_valid(method, GROUP, [Credit(torch.zeros(8)), credit])


def test_one_credit_a_trajectory() -> None:
    with pytest.raises(MethodError, match="'fixed' returned 1 credits for the 2 trajectories"):
        require_valid(Fixed(Credit(torch.zeros(8))), GROUP, [Credit(torch.zeros(8))])


def test_credit_off_the_spans_is_refused_where_declared() -> None:
    """Spans of each step of four tokens: the thought is token 0, the action tokens 2 and 3."""
    inside, outside = Credit(numbers(t0=1.0, t2=-1.0, t7=2.0)), Credit(numbers(t0=1.0, t5=0.5))
    require_valid(OnSpans(inside), GROUP, [inside, inside])
    require_valid(Fixed(outside), GROUP, [outside, outside])
    with pytest.raises(MethodError, match=r"'on_spans': .*spans, first at response token 5 \(step 1, its token 1\)"):
        require_valid(OnSpans(outside), GROUP, [inside, outside])


def test_trajectories_without_tokens() -> None:
    empty = make_group(make_trajectory(success=False), make_trajectory(make_step(0), success=False))
    nothing = Credit(torch.zeros(0))
    require_valid(OnSpans(nothing), empty, [nothing, nothing])


def test_credit_of_another_kind_is_refused() -> None:
    """Such as a bare tensor, or numbers of numpy."""
    bare, foreign = torch.zeros(8), Credit(torch.zeros(8).numpy())  # type: ignore[arg-type]
    with pytest.raises(MethodError, match=r"'fixed': the credit of trajectory 1 .* is of type torch.Tensor;"):
        require_valid(Fixed(foreign), GROUP, [Credit(torch.zeros(8)), bare])  # type: ignore[list-item]
    with pytest.raises(MethodError, match=r"advantage_T .* is of type numpy.ndarray; it must be a torch.Tensor"):
        require_valid(Fixed(foreign), GROUP, [Credit(torch.zeros(8)), foreign])


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("std", [True, False])
def test_rewards_that_are_no_finite_numbers_are_refused(reward: float, std: bool) -> None:
    same = replace(GROUP, trajectories=tuple(replace(trajectory, reward=reward) for trajectory in GROUP.trajectories))
    with pytest.raises(MethodError, match=f"the environment gave trajectory 0 of task '{GROUP.task_id}' the reward"):
        advantages_of(same, std=std, eps=1e-6)
    with pytest.raises(MethodError, match="reward 1 of a group is"):
        group_advantages([1.0, reward], std=std, eps=1e-6)
