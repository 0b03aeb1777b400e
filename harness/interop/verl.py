"""Registered methods as verl's advantage estimators: `algorithm.adv_estimator=stepcredit_grpo`.

verl's trainer passes an estimator rewards, response mask and `uid`: enough for grpo. Methods that need a teacher's
log-probabilities, steps or states are called with the whole batch, see `add_advantages`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stepcredit.harness.errors import UserError
from stepcredit.harness.interop.columns import Columns, credit_of, require_portable
from stepcredit.methods.contract import Method
from stepcredit.methods.registry import build

Estimator = Callable[..., tuple[Tensor, Tensor]]

_FURTHER = ("old_log_probs", "teacher_log_probs", "step_ids", "action_mask")


def register(
    methods: Iterable[str], options: Mapping[str, Mapping[str, Any]] | None = None, *, success_above: float = 0.0
) -> list[str]:
    """Register each method with verl; returns the estimators' names, `stepcredit_` and the method's.

    Call it in the process that computes advantages, verl's task runner: from a module that `VERL_USE_EXTERNAL_MODULES`
    names.

    Args:
        methods: names in stepcredit's registry.
        options: the methods' options, by name.
        success_above: see `Columns`.

    Raises:
        UserError: verl is not installed, or has an estimator of that name.
        MethodError: unknown method or option, or a method that a batch cannot serve.
    """
    try:
        from verl.trainer.ppo.core_algos import register_adv_est
    except ImportError as error:
        raise UserError(f"verl cannot be imported ({error}); install it beside stepcredit: pip install verl") from error
    names = []
    for method in methods:
        name = f"stepcredit_{method}"
        built = estimator(build(method, (options or {}).get(method, {})), success_above=success_above)
        try:
            register_adv_est(name)(built)
        except ValueError as error:
            raise UserError(f"verl already has an estimator {name!r}; register each method once per process") from error
        names.append(name)
    return names


def estimator(method: Method, *, success_above: float = 0.0) -> Estimator:
    """The method as a function of verl's columns.

    It takes `token_level_rewards` and `response_mask` [B, T] and `index` [B], as verl's trainer passes them, and by
    name what the method needs beyond: `old_log_probs` and `teacher_log_probs` [B, T], `step_ids` and `action_mask`
    [B, T], `states` [B]; see `Columns`. It returns advantages and returns, [B, T] both and equal, as verl's GRPO does.
    Unlike verl's, a group of one gets zero, not its reward.

    Raises:
        MethodError: a batch cannot serve the method.
    """
    require_portable(method)

    def estimate(
        token_level_rewards: Tensor,
        response_mask: Tensor,
        index: Sequence[Any] | NDArray[Any] | Tensor,
        config: object = None,
        *,
        old_log_probs: Tensor | None = None,
        teacher_log_probs: Tensor | None = None,
        step_ids: Tensor | None = None,
        action_mask: Tensor | None = None,
        states: Sequence[Sequence[str]] | None = None,
        update: int = 0,
    ) -> tuple[Tensor, Tensor]:
        rewards_B = token_level_rewards.sum(-1)
        if bool(rewards_B.isnan().any()):
            raise UserError(f"the reward of response {int(rewards_B.isnan().nonzero()[0])} is not a number; score it")
        columns = Columns(
            rewards_B=rewards_B,
            mask_BT=response_mask,
            prompts=np.asarray(index).tolist(),
            student_BT=old_log_probs,
            teacher_BT=teacher_log_probs,
            step_BT=step_ids,
            action_BT=action_mask,
            states=states,
            success_above=success_above,
        )
        advantage_BT = credit_of(method, columns, update)
        return advantage_BT, advantage_BT

    return estimate


def add_advantages(data: Any, method: Method, update: int, *, success_above: float = 0.0) -> Any:
    """What verl's `compute_advantage` does, with all that the method needs: for a trainer's own `fit`.

    Args:
        data: verl's `DataProto`; beside rewards, mask and `uid` its `batch` may hold the tensors, and its
            `non_tensor_batch` the `states`, that `estimator` names. `advantages` and `returns` are added to `batch`.
        method: see `stepcredit.methods.registry.build`.
        update: number of updates before this one; StepOPSD's mixing decays with it.
        success_above: see `Columns`.

    Raises:
        UserError: the batch lacks rewards, mask or `uid`.
        MethodError: it lacks what the method needs.
    """
    batch, others = data.batch, data.non_tensor_batch
    missing = [name for name in ("token_level_rewards", "response_mask") if name not in batch]
    missing += ["uid"] if "uid" not in others else []
    if missing:
        raise UserError(f"verl's batch lacks {', '.join(missing)}; add advantages after its rewards are computed")
    batch["advantages"], batch["returns"] = estimator(method, success_above=success_above)(
        batch["token_level_rewards"],
        batch["response_mask"],
        others["uid"],
        states=others.get("states"),
        update=update,
        **{name: batch.get(name, None) for name in _FURTHER},
    )
    return data
