"""Registered methods as verl's advantage estimators: `algorithm.adv_estimator=stepcredit_stepopsd`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from harness.errors import UserError
from harness.interop.columns import Columns, credit_of
from methods.contract import Method
from methods.registry import build

Estimator = Callable[..., tuple[Tensor, Tensor]]


def register(methods: Iterable[str], options: Mapping[str, Mapping[str, Any]] | None = None) -> list[str]:
    """Register each method with verl; returns the estimators' names, `stepcredit_` and the method's.

    Args:
        methods: names in stepcredit's registry.
        options: the methods' options, by name.

    Raises:
        UserError: verl is not installed.
        MethodError: unknown method or option.
    """
    try:
        from verl.trainer.ppo.core_algos import register_adv_est
    except ImportError as error:
        raise UserError(f"verl cannot be imported ({error}); install it beside stepcredit: pip install verl") from error
    names = []
    for method in methods:
        name = f"stepcredit_{method}"
        register_adv_est(name)(estimator(build(method, (options or {}).get(method, {}))))
        names.append(name)
    return names


def estimator(method: Method) -> Estimator:
    """The method as a function of verl's columns.

    It takes `token_level_rewards` and `response_mask` [B, T] and `index` [B], as verl's trainer passes them, and by
    name the further fields of `Columns` that the method needs: a trainer with teachers passes `old_log_probs` and
    `teacher_log_probs` [B, T]. It returns advantages and returns, [B, T] both and equal, as verl's GRPO does.
    """

    def estimate(
        token_level_rewards: Tensor,
        response_mask: Tensor,
        index: Sequence[Any],
        config: object = None,
        *,
        old_log_probs: Tensor | None = None,
        teacher_log_probs: Tensor | None = None,
        step_ids: Tensor | None = None,
        action_mask: Tensor | None = None,
        states: Sequence[Sequence[str]] | None = None,
        update: int = 0,
    ) -> tuple[Tensor, Tensor]:
        columns = Columns(
            rewards_B=token_level_rewards.sum(-1),
            mask_BT=response_mask,
            prompts=list(index),
            student_BT=old_log_probs,
            teacher_BT=teacher_log_probs,
            step_BT=step_ids,
            action_BT=action_mask,
            states=states,
        )
        advantage_BT = credit_of(method, columns, update)
        return advantage_BT, advantage_BT

    return estimate
