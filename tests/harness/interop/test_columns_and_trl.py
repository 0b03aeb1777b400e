"""The methods in TRL's trainer, and on columns of any trainer, give the numbers that they give here."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from stepcredit.harness.errors import UserError
from stepcredit.harness.interop.columns import Columns, credit_of
from stepcredit.methods.contract import Group, Method, MethodError, Span, Step
from stepcredit.methods.registry import build
from tests.harness.support import merged_tokenizer
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
    return replace(
        step, response_ids=step.response_ids[:2], logprobs=step.logprobs[:2], think=None, action=Span(0, 2), tagged=None
    )


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


@pytest.fixture(scope="module")
def trl() -> Any:
    return pytest.importorskip("trl", reason="trl is not installed")


def untrained() -> tuple[LlamaForCausalLM, Any]:
    tokenizer = merged_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<|pad|>", "eos_token": "<|end|>"})
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2
    )
    return LlamaForCausalLM(config), tokenizer


def every_second_wins(completion_ids: list[list[int]], **unused: Any) -> list[float]:
    return [float(place % 2) for place in range(len(completion_ids))]


def trainer_of(trainer: type, method: Method, folder: Path, reward: Any = every_second_wins, **changed: Any) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig

    settings = {
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 6,
        "max_steps": 1,
        "scale_rewards": "group",
    }
    model, tokenizer = untrained()
    return trainer(
        model=model,
        args=GRPOConfig(str(folder), use_cpu=True, report_to="none", save_strategy="no", **(settings | changed)),
        processing_class=tokenizer,
        reward_funcs=reward,
        train_dataset=Dataset.from_dict({"prompt": ["a mug", "shelf"]}),
        credit_method=method,
    )


def watched(seen: list[tuple[Tensor, Tensor]]) -> type:
    """The trainer with a teacher 0.1 above the student on every token; keeps advantages and mask of every batch."""
    from stepcredit.harness.interop.trl import CreditGRPOTrainer

    class Watched(CreditGRPOTrainer):
        def teacher_logprobs(self, inputs: list[dict[str, Any]], output: dict[str, Any]) -> Tensor:
            return self._student_logprobs(output) + 0.1

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            output = super()._generate_and_score_completions(inputs)
            seen.append((output["advantages"], output["completion_mask"]))
            return output

    return Watched


def size_by_hand(sign: int) -> float:
    """Rewards 0 1 0 1: A = -+ 1/2 over the sample deviation sqrt(1/3)."""
    return sign * 0.5 / (np.sqrt(1 / 3) + 1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")  # TRL's calls of it
@pytest.mark.parametrize(("name", "gap"), [("grpo", 0.0), ("stepopsd", 0.1)])
def test_trl_trains_with_token_advantages(trl: Any, tmp_path: Path, name: str, gap: float) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    trainer_of(watched(seen), build(name, {}), tmp_path).train()
    ((advantage_BT, mask_BT),) = seen
    for row, sign in enumerate((-1, 1, -1, 1)):
        weight = 2 / (1 + np.exp(-sign * gap))
        own = advantage_BT[row, mask_BT[row].bool()]
        np.testing.assert_allclose(own.numpy(), size_by_hand(sign) * (0.8 + 0.2 * weight), atol=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
def test_trl_completions_without_a_reward_get_no_credit(trl: Any, tmp_path: Path) -> None:
    """Of rewards 0, 1 and none, the pair's mean is 1/2 and its sample deviation sqrt(1/2)."""

    def reward(completion_ids: list[list[int]], **unused: Any) -> list[float | None]:
        return [0.0, 1.0, None]

    seen: list[tuple[Tensor, Tensor]] = []
    sizes = {"per_device_train_batch_size": 3, "num_generations": 3}
    trainer_of(watched(seen), build("grpo", {}), tmp_path, reward, **sizes).train()
    size = 0.5 / (np.sqrt(0.5) + 1e-6)
    np.testing.assert_allclose(seen[0][0][:, 0], [-size, size, 0.0], atol=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
@pytest.mark.parametrize(
    ("name", "options", "changed", "complaint"),
    [
        ("stepopsd", {}, {}, "'stepopsd' has a teacher; override teacher_logprobs in a subclass"),
        ("grpo", {"std": False}, {}, "scale_rewards is 'group', but method 'grpo' .* choose scale_rewards='none'"),
        ("grpo", {}, {"scale_rewards": "batch"}, "scale_rewards is 'batch'"),
        ("grpo", {}, {"multi_objective_aggregation": "normalize_then_sum"}, "choose 'sum_then_normalize'"),
        ("vineppo", {}, {}, "'vineppo' needs environments"),
        ("gigpo", {}, {}, "'gigpo' compares steps that share a state; override states in a subclass"),
    ],
)
def test_trl_settings_that_would_have_no_effect_are_refused(
    trl: Any, tmp_path: Path, name: str, options: dict[str, Any], changed: dict[str, Any], complaint: str
) -> None:
    from stepcredit.harness.interop.trl import CreditGRPOTrainer

    with pytest.raises((UserError, MethodError), match=complaint):
        trainer_of(CreditGRPOTrainer, build(name, options), tmp_path, **changed)
