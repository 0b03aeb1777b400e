"""Whose credit is studied: methods with their options, and those that take hindsight under every arm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stepcredit.harness.errors import UserError
from stepcredit.methods.arms import Source
from stepcredit.methods.contract import Method, MethodError
from stepcredit.methods.hindsight import TaughtConfig
from stepcredit.methods.registry import build, method_named

USUAL: tuple[Source, ...] = (
    "none",
    "empty",
    "peer_traj",
    "outcome",
    "failed_peer",
    "foreign",
    "shuffled",
    "self",
    "contrast",
)
"""The arms that are studied where none is named."""
OWN = "own"
"""The arm of methods without hindsight: what they do by themselves."""


@dataclass(frozen=True, slots=True)
class Case:
    """A method under an arm."""

    method: Method
    arm: str

    @property
    def name(self) -> str:
        """Such as `opd:peer_traj`, or the method alone."""
        return self.method.name if self.arm == OWN else f"{self.method.name}:{self.arm}"


def cases_of(methods: Sequence[str], arms: Sequence[str]) -> tuple[list[Case], list[str]]:
    """Every method under every arm that it takes, with its own defaults otherwise; and what was left out, and why.

    Raises:
        UserError: nothing is left.
    """
    found, refused = list[Case](), list[str]()
    for name in methods:
        for case in _of_method(name, arms):
            if isinstance(case, str):
                refused.append(case)
            else:
                found.append(case)
    if not found:
        raise UserError(f"no method can be studied under these arms: {'; '.join(refused)}")
    return found, refused


def _of_method(name: str, arms: Sequence[str]) -> Iterator[Case | str]:
    if not issubclass(method_named(name).Config, TaughtConfig):
        yield Case(build(name, {}), OWN)
        return
    for arm in arms:
        try:
            yield Case(build(name, {"hindsight": arm}), arm)
        except MethodError as error:
            yield f"{name}:{arm} ({error})"
