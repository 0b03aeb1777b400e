"""Low-rank adapters (LoRA, arXiv 2106.09685), as peft makes them, put into a model and merged into its weights."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from stepcredit.harness.errors import UserError

ALPHA_OVER_RANK = 2


def add_adapters(model: PreTrainedModel, rank: int, seed: int) -> None:
    """Freeze the model and give every linear layer but the head a trained update of that rank, zero at first.

    Raises:
        UserError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError("--rank needs the package peft, which is not installed here; pip install peft") from error
    config = LoraConfig(r=rank, lora_alpha=ALPHA_OVER_RANK * rank, lora_dropout=0.0, target_modules="all-linear")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # peft draws from the global generator
        inject_adapter_in_model(config, model)
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)
        if weight.requires_grad:
            weight.data = weight.data.to(model.dtype)


def merge_adapters(model: PreTrainedModel) -> None:
    """Add the updates to the weights that they belong to and take the adapters out; all weights are trained again."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge(safe_merge=True)
            model.set_submodule(name, module.get_base_layer())
    model.requires_grad_(True)
