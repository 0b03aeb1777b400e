"""Whose credit is studied: methods with their options, and those that take hindsight under every arm."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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


_SPELLED = re.compile(r"(\w+)(?:\[(.*)\])?")


@dataclass(frozen=True, slots=True)
class Case:
    """A method under an arm.

    Attributes:
        label: the method as it was asked for, its options included.
    """

    method: Method
    arm: str
    label: str

    @property
    def name(self) -> str:
        """Such as `opd:peer_traj`, or the method alone."""
        return self.label if self.arm == OWN else f"{self.label}:{self.arm}"


def cases_of(methods: Sequence[str], arms: Sequence[str]) -> tuple[list[Case], list[str]]:
    """Every method under every arm that it takes, with its own defaults otherwise; and what was left out, and why.

    Args:
        methods: by name, or with options, such as `stepopsd[budget=false,taught=all]`.

    Raises:
        UserError: nothing is left, or an option is not understood.
        MethodError: an unknown method.
    """
    found, refused = list[Case](), list[str]()
    for asked in methods:
        for case in _of_method(asked, arms):
            if isinstance(case, str):
                refused.append(case)
            else:
                found.append(case)
    if not found:
        raise UserError(f"no method can be studied under these arms: {'; '.join(refused)}")
    return found, refused


def _of_method(asked: str, arms: Sequence[str]) -> Iterator[Case | str]:
    name, options = _spelled(asked)
    if not issubclass(method_named(name).Config, TaughtConfig):
        yield Case(build(name, options), OWN, asked)
        return
    for arm in arms:
        try:
            yield Case(build(name, {**options, "hindsight": arm}), arm, asked)
        except MethodError as error:
            yield f"{asked}:{arm} ({error})"


def _spelled(asked: str) -> tuple[str, dict[str, Any]]:
    match = _SPELLED.fullmatch(asked)
    pairs = [] if match is None else [pair.partition("=") for pair in (match[2] or "").split(",") if pair]
    if match is None or not all(name and sign for name, sign, _ in pairs):
        raise UserError(f"method {asked!r} is not understood; write NAME, or NAME[OPTION=VALUE,OPTION=VALUE]")
    return match[1], {name.strip(): _value(text.strip()) for name, _, text in pairs}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
