"""The methods in other trainers give the numbers that they give here."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from harness.interop.columns import Columns, credit_of
from harness.interop.verl import estimator, register
from methods.contract import Group, MethodError, Span, Step
from methods.registry import build
from tests.methods.support import GapRescorer, one_word_group

MASK = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0]])
REWARDS = torch.tensor([1.0, 0.0, 0.0, 1.0])
STUDENT = -torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
GAP = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
STEPS = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
PROMPTS = ["q", "q", "q", "q"]


def columns(**changed: Any) -> Columns:
    usual = {"student_BT": STUDENT, "teacher_BT": STUDENT + GAP, "step_BT": STEPS}
    return Columns(REWARDS, MASK, PROMPTS, **(usual | changed))


def ours(name: str) -> Tensor:
    """The same four trajectories of two steps of two tokens through the method itself, all tokens being the action."""
    group: Group = one_word_group(True, False, False, True)
    trimmed = tuple(
        replace(
            trajectory,
            steps=tuple(_first_two_tokens(step) for step in trajectory.steps),
        )
        for trajectory in group.trajectories
    )
    gaps = GapRescorer(lambda trajectory, hint: GAP[trajectory.index, MASK[trajectory.index].bool()])
    credits = build(name, {}).credit(replace(group, trajectories=trimmed), gaps, 0)
    expected_BT = torch.zeros(4, 6)
    for row, credit in enumerate(credits):
        expected_BT[row, MASK[row].bool()] = credit.advantage_T
    return expected_BT


def _first_two_tokens(step: Step) -> Step:
    return replace(step, response_ids=step.response_ids[:2], logprobs=step.logprobs[:2], think=None, action=Span(0, 2))


@pytest.mark.parametrize("name", ["grpo", "opd", "stepopsd", "rlsd", "agentopsd"])
def test_columns_give_the_methods_own_credit(name: str) -> None:
    found_BT = credit_of(build(name, {}), columns())
    torch.testing.assert_close(found_BT, ours(name), atol=1e-6, rtol=0)
    assert not found_BT[MASK == 0].any()


@pytest.mark.parametrize("name", ["grpo", "stepopsd"])
def test_padding_changes_nothing(name: str) -> None:
    def wide(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor[:, -1:].repeat(1, 3)], dim=1)

    padded = Columns(
        REWARDS,
        torch.cat([MASK, torch.zeros(4, 3, dtype=torch.long)], dim=1),
        PROMPTS,
        wide(STUDENT),
        wide(STUDENT + GAP),
        wide(STEPS),
    )
    method = build(name, {})
    assert torch.equal(credit_of(method, padded)[:, :6], credit_of(method, columns()))


def test_groups_are_kept_apart() -> None:
    """Rewards 1 0 and 0 1: each winner half above its group's mean, over the sample deviation sqrt(1/2)."""
    found_BT = credit_of(build("grpo", {}), Columns(REWARDS, MASK, ["a", "a", "b", "b"]))
    size = 0.5 / (np.sqrt(0.5) + 1e-6)
    np.testing.assert_allclose(found_BT[:, 0], [size, -size, -size, size], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("stepopsd", "'stepopsd' compares two policies and lacks teacher_BT"),
        ("vineppo", "'vineppo' needs environments"),
        ("gigpo", "'gigpo' compares steps that share a state and lacks `states`"),
        ("sdar", "'sdar' has a loss of its own"),
    ],
)
def test_what_columns_cannot_give_is_refused(name: str, complaint: str) -> None:
    with pytest.raises(MethodError, match=complaint):
        credit_of(build(name, {}), columns() if name == "sdar" else columns(teacher_BT=None))


def test_verl_finds_the_estimators_and_agrees_on_grpo() -> None:
    core = pytest.importorskip("verl.trainer.ppo.core_algos", reason="verl is not installed")
    assert register(["grpo", "stepopsd"]) == ["stepcredit_grpo", "stepcredit_stepopsd"]
    rewards_BT = torch.zeros(4, 6)
    rewards_BT[:, 3] = REWARDS
    theirs, _ = core.compute_grpo_outcome_advantage(rewards_BT.clone(), MASK, np.array(PROMPTS))
    found, returns = core.get_adv_estimator_fn("stepcredit_grpo")(
        token_level_rewards=rewards_BT, response_mask=MASK, index=np.array(PROMPTS), config=None
    )
    torch.testing.assert_close(found, theirs, atol=1e-6, rtol=0)
    assert torch.equal(found, returns)


def test_the_estimator_takes_a_teachers_columns() -> None:
    found, _ = estimator(build("stepopsd", {}))(
        REWARDS[:, None] * torch.eye(6)[3],
        MASK,
        PROMPTS,
        old_log_probs=STUDENT,
        teacher_log_probs=STUDENT + GAP,
        step_ids=STEPS,
    )
    torch.testing.assert_close(found, ours("stepopsd"), atol=1e-6, rtol=0)


def test_trl_trains_with_token_advantages(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="trl is not installed")
    from datasets import Dataset

    from harness.interop.trl import CreditGRPOTrainer
    from tests.harness.support import merged_tokenizer

    tokenizer = merged_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<|pad|>", "eos_token": "<|end|>"})
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2
    )
    seen: list[tuple[Tensor, Tensor]] = []

    class Watched(CreditGRPOTrainer):
        def teacher_logprobs(self, inputs: list[dict[str, Any]], output: dict[str, Any]) -> Tensor:
            return self._student_logprobs(output) + 0.1

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            output = super()._generate_and_score_completions(inputs)
            seen.append((output["advantages"], output["completion_mask"]))
            return output

    def reward(completion_ids: list[list[int]], **unused: Any) -> list[float]:
        return [float(place % 2) for place in range(len(completion_ids))]

    settings = trl.GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=6,
        max_steps=1,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        scale_rewards="group",
    )
    for name in ("grpo", "stepopsd"):
        trainer = Watched(
            model=LlamaForCausalLM(config),
            args=settings,
            processing_class=tokenizer,
            reward_funcs=reward,
            train_dataset=Dataset.from_dict({"prompt": ["a mug", "shelf"]}),
            credit_method=build(name, {}),
        )
        trainer.train()
    # Rewards 0 1 0 1: A = -+ 1/2 over the sample deviation sqrt(1/3); every gap is 0.1.
    size = 0.5 / (np.sqrt(1 / 3) + 1e-6)
    for (advantage_BT, mask_BT), gap in zip(seen, (0.0, 0.1), strict=True):
        for row, sign in enumerate((-1, 1, -1, 1)):
            weight = 2 / (1 + np.exp(-sign * gap))
            expected = sign * size * (0.8 + 0.2 * weight)
            own = advantage_BT[row, mask_BT[row].bool()]
            np.testing.assert_allclose(own.numpy(), expected, atol=1e-6)
