"""A method on trial: how laws build it, ask it for credit, and say what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from stepcredit.methods.checks import first_offence, require_valid
from stepcredit.methods.contract import Credit, Group, Method, MethodError, Rescorer, Trajectory
from stepcredit.methods.grpo import Grpo, GrpoConfig
from stepcredit.methods.laws.groups import groups_for
from stepcredit.methods.laws.rescorers import HashRescorer

UPDATES = st.sampled_from([0, 1, 49, 50, 1000])
"""Updates that credit is asked at: schedules may have begun, or ended."""

_EXAMPLES = 25


class LawBroken(AssertionError):
    """A method does not keep to a law: one sentence with the method, the law and the first offending token."""


def for_all(check: Callable[..., None], **strategies: st.SearchStrategy[Any]) -> None:
    """Run the check with a few examples of the strategies, and with the simplest that fails."""
    few = settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow],
    )
    few(given(**strategies)(check))()


@dataclass(frozen=True, slots=True)
class Trial:
    """A method with some options, under one law."""

    method: type[Method]
    options: Mapping[str, Any]
    law: str

    def build(self, **changes: Any) -> Method:
        """The method with its options and these changes.

        Raises:
            MethodError: the options are not the method's, or out of range.
        """
        try:
            return self.method(self.method.Config.model_validate({**self.options, **changes}))
        except ValidationError as error:
            raise MethodError(f"method {self.method.name!r} refuses its options: {error}") from error

    def choices(self, option: str, candidates: Sequence[Any] = ()) -> list[Any]:
        """Values of an option to try: its own, the candidates that it admits, all where it is a literal."""
        field = self.method.Config.model_fields[option]
        found = [getattr(self._config(), option)]
        for value in (*candidates, *get_args(field.annotation)):
            try:
                self.method.Config.model_validate({**self.options, option: value})
            except ValidationError:
                continue
            found.append(value)
        return found

    @property
    def groups(self) -> st.SearchStrategy[Group]:
        """Random groups with what the method needs."""
        return groups_for(self.build().needs)

    @property
    def unbudgeted(self) -> dict[str, bool]:
        """The change of options that switches off the step budget, where there is one."""
        return {} if self.method.traits.step_budget is None else {self.method.traits.step_budget: False}

    def credit(
        self, group: Group, rescore: Rescorer | None = None, update: int = 0, by: Method | None = None
    ) -> list[Credit]:
        """What the method returns, checked as in training."""
        method = by or self.build()
        credits = method.credit(group, rescore or HashRescorer(), update)
        self.require_usable(method, group, credits)
        return credits

    def require_usable(self, method: Method, group: Group, credits: Sequence[Credit]) -> None:
        """Go on if training would take the credit.

        Raises:
            LawBroken: it would not.
        """
        try:
            require_valid(method, group, credits)
        except MethodError as error:
            self.fail(str(error))

    def grpo(self, group: Group) -> list[Credit]:
        """GRPO's credit, with the options that the method shares with it."""
        shared = {name: value for name, value in self._config() if name in GrpoConfig.model_fields}
        return Grpo(GrpoConfig.model_validate(shared)).credit(group, HashRescorer(), 0)

    def require(self, holds: bool, complaint: str) -> None:
        """Go on if it holds.

        Raises:
            LawBroken: it does not.
        """
        if not holds:
            self.fail(complaint)

    def require_none(self, bad_T: Tensor, trajectory: Trajectory, credit_T: Tensor, complaint: str) -> None:
        """Go on if no token is bad.

        Raises:
            LawBroken: one is.
        """
        offence = first_offence(bad_T, trajectory, credit_T)
        self.require(offence is None, f"trajectory {trajectory.index}: {complaint}, {offence}")

    def require_same(
        self, group: Group, found: list[Credit], expected: list[Credit], complaint: str, tolerance: float = 0.0
    ) -> None:
        """Go on if both are the same credit for the group.

        Raises:
            LawBroken: some token's credit differs by more than the tolerance.
        """
        for trajectory, left, right in zip(group.trajectories, found, expected, strict=True):
            lefts, rights = dict(left.streams()), dict(right.streams())
            nothing_T = torch.zeros_like(left.advantage_T)
            for name in lefts | rights:
                left_T, right_T = lefts.get(name, nothing_T), rights.get(name, nothing_T)
                self.require_none((left_T - right_T).abs() > tolerance, trajectory, left_T, complaint)

    def fail(self, complaint: str) -> None:
        """Say what is wrong.

        Raises:
            LawBroken: always.
        """
        chosen = ", ".join(f"{name}={value}" for name, value in self.options.items())
        whose = f"method {self.method.name!r}" + (f" with {chosen}" if chosen else "")
        raise LawBroken(f"{whose} breaks the law {self.law!r}: {complaint}")

    def _config(self) -> Any:
        return self.method.Config.model_validate(dict(self.options))
