"""Low-rank adapters (LoRA, arXiv 2106.09685), as peft makes them: put into a model, kept apart, merged into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stepcredit.harness.errors import UserError

ALPHA_OVER_RANK = 2
_ADAPTER = "lora_"
_BASE = ".base_layer"


def add_adapters(model: PreTrainedModel, rank: int, seed: int) -> None:
    """Freeze the model and give every linear layer but the head a trained update of that rank, zero at first.

    Raises:
        UserError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError("optim.rank needs the package peft, which is not installed here; pip install peft") from error
    config = LoraConfig(r=rank, lora_alpha=ALPHA_OVER_RANK * rank, lora_dropout=0.0, target_modules="all-linear")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # peft draws from the global generator
        inject_adapter_in_model(config, model)
    for name, weight in model.named_parameters():
        weight.requires_grad_(_ADAPTER in name)
        if weight.requires_grad:
            weight.data = weight.data.to(model.dtype)


def adapters_of(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The adapters' weights by name; empty for a model without any."""
    return {name: weight for name, weight in model.named_parameters() if _ADAPTER in name}


def trained_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """What training changes, without a copy: the adapters, where there are any, else all weights."""
    adapters = adapters_of(model)
    return {name: weight.detach() for name, weight in adapters.items()} or model.state_dict()


@torch.no_grad()
def load_trained(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> None:
    """The inverse of `trained_weights`."""
    adapters = adapters_of(model)
    if not adapters:
        model.load_state_dict(weights)
    for name, weight in adapters.items():
        weight.copy_(weights[name])


def take_over(model: PreTrainedModel, weights: Mapping[str, Tensor], rank: int | None) -> None:
    """Make an untrained model what a run has trained, its adapters apart: merged they would be rounded.

    Args:
        model: as the run found it.
        weights: of the run's `trained_weights`.
        rank: of the run's adapters.

    Raises:
        UserError: peft is needed and not installed.
    """
    if rank is not None:
        add_adapters(model, rank, seed=0)  # all of them are overwritten
    load_trained(model, weights)


def merged_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """The weights of the same model without adapters, by its names; sums are made in float32 and rounded once."""
    updates = {f"{name}{_BASE}.weight": module for name, module in _adapted(model)}
    for name, weight in model.state_dict().items():
        if name in updates:
            yield name.replace(_BASE, ""), _merged(weight, updates[name])
        elif _ADAPTER not in name:
            yield name.replace(_BASE, ""), weight


def merge_adapters(model: PreTrainedModel) -> None:
    """Add the updates to the weights that they belong to and take the adapters out; all weights are trained again."""
    for name, module in list(_adapted(model)):
        base = module.get_submodule("base_layer")
        base.weight = nn.Parameter(_merged(base.get_parameter("weight"), module))
        model.set_submodule(name, base)
    model.requires_grad_(True)


@torch.no_grad()
def _merged(weight: Tensor, module: nn.Module) -> Tensor:
    low, high = (module.get_parameter(f"{part}.default.weight").float() for part in ("lora_A", "lora_B"))
    return (weight.float() + ALPHA_OVER_RANK * high @ low).to(weight.dtype)


def _adapted(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """Layers with an adapter."""
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            yield name, module
