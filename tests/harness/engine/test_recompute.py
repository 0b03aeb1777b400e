"""Which models can compute again, and that they are themselves afterwards."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Cohere2Config, LlamaConfig, PreTrainedModel, Qwen3MoeConfig

from stepcredit.harness.engine.recompute import recomputing, require_recomputable, response_scores
from stepcredit.harness.engine.sequences import response_logits, token_logprobs
from stepcredit.harness.engine.stretches import TokenSequence
from stepcredit.harness.errors import UserError
from tests.harness.support import sharpen, toy_groups, toy_policy

SEQUENCES = [TokenSequence.of(t.steps) for group in toy_groups(toy_policy()) for t in group.trajectories]
SIZES = {
    "vocab_size": len(toy_policy().tokenizer),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def small(family: type, **more: int | float) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(family(**SIZES, **more)).eval()
    sharpen(model, 0)
    return model


@pytest.mark.parametrize(
    "model",
    [
        toy_policy().model,
        small(LlamaConfig),
        small(Qwen3MoeConfig, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16),
    ],
)
def test_scores_and_their_gradients_are_those_of_whole_logits(model: PreTrainedModel) -> None:
    require_recomputable(model)
    usual = [module.training for module in model.modules()]
    with recomputing(model):
        logprob_K, entropy_K, _ = response_scores(model, SEQUENCES, 0.7)
        (logprob_K.sum() + entropy_K.sum()).backward()
    again = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    logits_KV, token_K = response_logits(model, SEQUENCES)
    whole_KV = (logits_KV / 0.7).log_softmax(-1)
    (token_logprobs(logits_KV, token_K, 0.7).sum() - (whole_KV.exp() * whole_KV).sum()).backward()
    torch.testing.assert_close(logprob_K, token_logprobs(logits_KV, token_K, 0.7), atol=1e-5, rtol=1e-5)
    for weight, gradient in zip(model.parameters(), again, strict=True):
        torch.testing.assert_close(gradient, weight.grad, atol=2e-4, rtol=1e-3)
    assert [module.training for module in model.modules()] == usual


def test_a_model_whose_logits_are_scaled_after_its_head_is_refused() -> None:
    with pytest.raises(UserError, match=r"are not its language head's alone; set optim\.recompute=false"):
        require_recomputable(small(Cohere2Config, logit_scale=0.25))
