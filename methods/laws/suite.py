"""Which laws a method is under, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from stepcredit.methods.contract import Method
from stepcredit.methods.laws import always, declared
from stepcredit.methods.laws.trial import Trial
from stepcredit.methods.registry import method_named

Check = Callable[[Trial], None]

ALWAYS: tuple[Check, ...] = (
    always.credit_is_usable,
    always.odd_groups_are_credited,
    always.settled_credit_is_usable,
    always.extreme_gaps_stay_finite,
    always.credit_repeats,
    always.a_group_stands_alone,
    always.permuted_trajectories_get_permuted_credit,
    always.credit_is_a_constant,
    always.rescorer_is_asked_for_what_is_declared,
    always.losses_are_those_declared,
    always.states_matter_only_where_declared,
)

BY_TRAIT: Mapping[str, Check] = MappingProxyType(
    {
        "needs_outcome": declared.equal_outcomes_give_no_credit,
        "preserves_sign": declared.sign_is_grpos,
        "on_spans": declared.no_credit_off_spans,
        "tilts_spans": declared.grpo_off_the_target_spans,
        "tilt": declared.tilt_is_bounded,
        "mixing": declared.without_its_share_it_is_grpo,
        "step_budget": declared.steps_share_a_budget,
        "prefix_only": declared.earlier_credit_ignores_later_tokens,
    }
)


@dataclass(frozen=True, slots=True)
class Law:
    """One law that a method is under.

    Attributes:
        name: such as `sign_is_grpos`.
        says: the law in a sentence.
        method: who is under it.
        options: the options that it is tried with.
    """

    name: str
    says: str
    method: type[Method]
    options: Mapping[str, Any]
    _check: Check = field(repr=False)

    def check(self) -> None:
        """Try the method on random and odd groups; what it raises itself goes through, with a note of whose it is.

        Raises:
            LawBroken: the method does not keep to the law.
        """
        try:
            self._check(Trial(self.method, self.options, self.name))
        except Exception as error:
            error.add_note(f"method {self.method.name!r}, law {self.name!r}: {self.says}")
            raise

    def __str__(self) -> str:
        """Name of the law's test."""
        chosen = ",".join(f"{name}={value}" for name, value in self.options.items())
        return "-".join(part for part in (self.method.name, chosen, self.name) if part)


def laws_of(method: str | type[Method], options: Mapping[str, Any] | None = None) -> list[Law]:
    """The laws that a method is under: those of every method, and those of its traits.

    Traits describe the default options. With other options the same laws are tried, but for whether hindsight and
    snapshots are really used.

    Args:
        method: a registered method's name, or the class itself.
        options: options other than the defaults.

    Raises:
        MethodError: unknown method.
    """
    found = method_named(method) if isinstance(method, str) else method
    checks = [*ALWAYS, *(check for trait, check in BY_TRAIT.items() if _declares(found, trait))]
    if not options:
        checks.append(always.declared_uses_are_real)
    return [Law(check.__name__, _sentence(check), found, dict(options or {}), check) for check in checks]


def check_laws(method: str | type[Method], options: Mapping[str, Any] | None = None) -> None:
    """Try all laws of a method, see `laws_of`.

    Raises:
        LawBroken: the method does not keep to one of them.
        MethodError: unknown method.
    """
    for law in laws_of(method, options):
        law.check()


def law_tests(method: str | type[Method], options: Mapping[str, Any] | None = None) -> Callable[[Law], None]:
    """A pytest function with one test a law, see `laws_of`: `test_laws = law_tests("late_credit")`.

    Raises:
        MethodError: unknown method.
    """
    import pytest

    @pytest.mark.parametrize("law", laws_of(method, options), ids=str)
    def test_law(law: Law) -> None:
        law.check()

    return test_law


def _declares(method: type[Method], trait: str) -> bool:
    """Whether it has the trait; one that names an option it lacks fails `declared_uses_are_real` instead."""
    value = getattr(method.traits, trait)
    return value in method.Config.model_fields if isinstance(value, str) else bool(value)


def _sentence(check: Check) -> str:
    return (check.__doc__ or "").strip().splitlines()[0]
