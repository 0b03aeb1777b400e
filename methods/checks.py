"""Refuses credit that no objective could use, and says whose it is and where it goes wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stepcredit.methods.contract import Credit, Group, Method, MethodError, Trajectory
from stepcredit.methods.spans import target_steps


def require_valid(method: Method, group: Group, credits: Sequence[Credit]) -> None:
    """Check what a method returned for a group.

    Raises:
        MethodError: not one credit per trajectory, a wrong shape or type, a gradient, a number that is not finite, or
            credit off the spans of a method that declares `on_spans`.
    """
    if len(credits) != len(group.trajectories):
        raise MethodError(
            f"method {method.name!r} returned {len(credits)} credits for the {len(group.trajectories)} trajectories "
            f"of {group.task_id!r}; it must return one per trajectory, in their order"
        )
    for trajectory, credit in zip(group.trajectories, credits, strict=True):
        if not isinstance(credit, Credit):
            raise MethodError(f"{_whose(method, trajectory, 'the credit')} is {_kind(credit)}; it must be a Credit")
        for name, credit_T in credit.streams():
            _require_usable(method, trajectory, name, credit_T)
        for name, value in credit.diagnostics.items():
            if not math.isfinite(value):
                raise MethodError(f"{_whose(method, trajectory, f'the diagnostic {name!r}')} is {value}")


def _require_usable(method: Method, trajectory: Trajectory, name: str, credit_T: Tensor) -> None:
    whose = _whose(method, trajectory, name)
    if not isinstance(credit_T, Tensor):
        raise MethodError(f"{whose} is {_kind(credit_T)}; it must be a torch.Tensor")
    if credit_T.shape != (trajectory.response_tokens,):
        raise MethodError(
            f"{whose} has shape {list(credit_T.shape)} for {trajectory.response_tokens} response tokens; "
            "it must be one number per token"
        )
    if not credit_T.is_floating_point():
        raise MethodError(f"{whose} is of type {credit_T.dtype}; it must be floating point")
    if credit_T.requires_grad:
        raise MethodError(f"{whose} carries a gradient; detach it, credit is a constant of the loss")
    _require_none(~credit_T.isfinite(), f"{whose} is not finite", trajectory, credit_T)
    if method.traits.on_spans:
        stray_T = off_spans(trajectory) & (credit_T != 0)
        _require_none(stray_T, f"{whose} leaves the reasoning and action spans", trajectory, credit_T)


def off_spans(trajectory: Trajectory) -> Tensor:
    """[T] whether a response token lies outside the reasoning and the action of its step."""
    return target_steps(trajectory, "clean_step_no_observation") < 0


def first_offence(bad_T: Tensor, trajectory: Trajectory, credit_T: Tensor) -> str | None:
    """Where the first bad token stands, and its credit; None where no token is bad."""
    if not bool(bad_T.any()):
        return None
    token = int(torch.nonzero(bad_T)[0])
    step, place = _locate(trajectory, token)
    return f"first at response token {token} (step {step}, its token {place}): {float(credit_T[token]):g}"


def _require_none(bad_T: Tensor, complaint: str, trajectory: Trajectory, credit_T: Tensor) -> None:
    offence = first_offence(bad_T, trajectory, credit_T)
    if offence is not None:
        raise MethodError(f"{complaint}, {offence}")


def _locate(trajectory: Trajectory, token: int) -> tuple[int, int]:
    """The step that a response token belongs to, and its place in the step's response."""
    place = token
    for index, step in enumerate(trajectory.steps):
        if place < len(step.response_ids):
            return index, place
        place -= len(step.response_ids)
    raise IndexError(f"token {token} of a trajectory with {trajectory.response_tokens} response tokens")


def _whose(method: Method, trajectory: Trajectory, what: str) -> str:
    return f"method {method.name!r}: {what} of trajectory {trajectory.index} of {trajectory.task_id!r}"


def _kind(value: object) -> str:
    return f"of type {type(value).__module__}.{type(value).__qualname__}"
