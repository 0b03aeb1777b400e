"""A GRPOTrainer of TRL whose advantages, one a token, come from a registered method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.errors import UserError
from harness.interop.columns import Columns, credit_of
from methods.contract import Method

try:
    from trl.trainer.grpo_trainer import GRPOTrainer
except ImportError as error:
    raise UserError(f"trl cannot be imported ({error}); install it: pip install 'stepcredit[trl]'") from error


class CreditGRPOTrainer(GRPOTrainer):
    """`GRPOTrainer` with `credit_method=build("stepopsd", {...})`; everything else is TRL's.

    TRL's loss takes advantages [B, T] from subclasses. Rewards are weighted and summed as TRL does. Completions with
    tool calls have a step between any two; others are one step. A method with a teacher needs `teacher_logprobs`, which
    a subclass overrides. One process: a group must not be spread over several.
    """

    def __init__(self, *args: Any, credit_method: Method, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.accelerator.num_processes != 1:
            raise UserError(f"CreditGRPOTrainer works in one process, not in {self.accelerator.num_processes}")
        self.credit_method = credit_method
        self._rewards_B = torch.zeros(0)

    def teacher_logprobs(self, inputs: list[dict[str, Any]], output: dict[str, Any]) -> Tensor | None:
        """[B, T] log-probabilities of the completions' tokens under the teacher; None without one."""
        return None

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        rewards_BF: Tensor = super()._calculate_rewards(*args, **kwargs)
        self._rewards_B = (rewards_BF * self.reward_weights.to(rewards_BF.device)).nansum(dim=1)
        return rewards_BF

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        mask_BT = output["completion_mask"] * output.get("tool_mask", torch.ones_like(output["completion_mask"]))
        rows = torch.arange(len(mask_BT), device=mask_BT.device) // int(self.num_generations or 1)
        columns = Columns(
            rewards_B=self._rewards_B,
            mask_BT=mask_BT,
            prompts=rows.tolist(),
            student_BT=self._student_logprobs(output) if self.credit_method.traits.uses_hindsight else None,
            teacher_BT=self.teacher_logprobs(inputs, output),
            step_BT=(mask_BT.diff(dim=1, prepend=mask_BT[:, :1]) != 0).cumsum(1),
        )
        output["advantages"] = credit_of(self.credit_method, columns, self.state.global_step).to(mask_BT.device)
        return output

    @torch.no_grad()
    def _student_logprobs(self, output: dict[str, Any]) -> Tensor:
        """[B, T] of the policy as it is now."""
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        seen = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
        kept = output["completion_ids"].size(1)
        scores: Tensor = self._get_per_token_logps_and_entropies(self.model, ids, seen, kept)[0]
        return scores
