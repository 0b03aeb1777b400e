"""A GRPOTrainer of TRL whose advantages, one per token, come from a registered method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stepcredit.harness.errors import UserError
from stepcredit.harness.interop.columns import Columns, credit_of, require_portable
from stepcredit.methods.contract import Method

try:
    from trl.trainer.grpo_trainer import GRPOTrainer
except ImportError as error:
    raise UserError(f"trl cannot be imported ({error}); install it: pip install 'stepcredit[trl]'") from error


class CreditGRPOTrainer(GRPOTrainer):
    """`GRPOTrainer` with `credit_method=build("stepopsd", {...})`; everything else is TRL's.

    TRL's loss takes advantages [B, T] from subclasses. Rewards are weighted and summed as TRL does; completions that no
    reward function scores get no credit. Completions with tool calls have a step between any two; others are one step.
    A method with a teacher needs `teacher_logprobs`, one that compares states `states`, which a subclass overrides. One
    process: a group must not be spread over several. TRL's own table of completions goes on showing TRL's advantages.

    Args:
        *args: as `GRPOTrainer`.
        credit_method: see `stepcredit.methods.registry.build`.
        success_above: completions with a larger reward succeed, see `Columns`.
        **kwargs: as `GRPOTrainer`.

    Raises:
        UserError: settings of TRL's that the method would leave without effect, or no teacher or states for a method
            that needs them.
        MethodError: a batch of completions cannot serve the method.
    """

    def __init__(self, *args: Any, credit_method: Method, success_above: float = 0.0, **kwargs: Any) -> None:
        require_portable(credit_method)
        self._taught, name = credit_method.has_teacher, credit_method.name
        if self._taught and type(self).teacher_logprobs is CreditGRPOTrainer.teacher_logprobs:
            raise UserError(f"method {name!r} has a teacher; override teacher_logprobs in a subclass")
        if credit_method.traits.compares_states and type(self).states is CreditGRPOTrainer.states:
            raise UserError(f"method {name!r} compares steps that share a state; override states in a subclass")
        super().__init__(*args, **kwargs)
        self.credit_method = credit_method
        self._success_above = success_above
        self._rewards_B = torch.zeros(0)
        self._require_usable_settings()

    def teacher_logprobs(self, inputs: list[dict[str, Any]], output: dict[str, Any]) -> Tensor:
        """[B, T] log-probabilities of the completions' tokens under the teacher; `output` is what the loss is given."""
        raise NotImplementedError

    def states(self, inputs: list[dict[str, Any]], output: dict[str, Any]) -> Sequence[Sequence[str]] | None:
        """[B] the state that each step was taken in; None where the method needs none."""
        return None

    def _require_usable_settings(self) -> None:
        if self.accelerator.num_processes != 1:
            raise UserError(f"CreditGRPOTrainer works in one process, not in {self.accelerator.num_processes}")
        name = self.credit_method.name
        if self.multi_objective_aggregation != "sum_then_normalize":
            chosen = f"multi_objective_aggregation is {self.multi_objective_aggregation!r}"
            raise UserError(f"{chosen}, but method {name!r} normalises sums of rewards; choose 'sum_then_normalize'")
        scaled = "group" if self.credit_method.options().get("std", True) else "none"
        if self.scale_rewards != scaled:
            raise UserError(
                f"scale_rewards is {self.scale_rewards!r}, but method {name!r} with its options scales rewards itself, "
                f"as {scaled!r} does; choose scale_rewards={scaled!r}, or another value of the option std if it has one"
            )

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        rewards_BF: Tensor = super()._calculate_rewards(*args, **kwargs)
        self._rewards_B = (rewards_BF * self.reward_weights.to(rewards_BF.device)).nansum(dim=1)
        self._rewards_B[rewards_BF.isnan().all(dim=1)] = torch.nan
        return rewards_BF

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        mask_BT = output["completion_mask"] * output.get("tool_mask", 1)
        training = self.model is not None and self.model.training
        group = (self.num_generations if training else self.num_generations_eval) or 1
        columns = Columns(
            rewards_B=self._rewards_B,
            mask_BT=mask_BT,
            prompts=[row // group for row in range(len(mask_BT))],
            student_BT=self._student_logprobs(output) if self._taught else None,
            teacher_BT=self.teacher_logprobs(inputs, output) if self._taught else None,
            step_BT=(mask_BT.diff(dim=1, prepend=mask_BT[:, :1]) != 0).cumsum(1),
            states=self.states(inputs, output),
            success_above=self._success_above,
        )
        output["advantages"] = credit_of(self.credit_method, columns, self.state.global_step).to(mask_BT.device)
        return output

    @torch.no_grad()
    def _student_logprobs(self, output: dict[str, Any]) -> Tensor:
        """[B, T] of the policy as it is now: TRL's own where it has them."""
        if "old_per_token_logps" in output:
            known: Tensor = output["old_per_token_logps"]
            return known
        if "pixel_values" in output:
            raise UserError("the policy is scored on text alone, but the batch has images; train on text")
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        seen = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
        kept = output["completion_ids"].size(1)
        scores: Tensor = self._get_per_token_logps_and_entropies(self.model, ids, seen, kept)[0]
        return scores
