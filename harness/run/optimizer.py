"""The weights of a model that a run trains, and their optimiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import AdamW
from transformers import PreTrainedModel

from stepcredit.harness.errors import UserError
from stepcredit.harness.model.adapters import add_adapters
from stepcredit.harness.run.masters import Held, MasterAdamW, RestingMasterAdamW, whole
from stepcredit.harness.run.resting import RestingAdamW
from stepcredit.harness.seeds import seed_for
from stepcredit.harness.spec import OptimSpec, RunSpec


def with_adapters(model: PreTrainedModel, spec: RunSpec) -> PreTrainedModel:
    """The same model, with the adapters that the spec asks for.

    Raises:
        UserError: peft is missing.
    """
    if spec.optim.rank is not None:
        add_adapters(model, spec.optim.rank, seed_for("adapters", spec.seed))
    return model


def optimizer_of(model: nn.Module, settings: OptimSpec) -> AdamW:
    """AdamW on a float32 model's own weights that need a gradient, on float32 masters of a bfloat16 one's.

    Raises:
        UserError: the weights are of another type.
    """
    return adamw(model, settings, masters=wants_masters(model))


def wants_masters(model: nn.Module) -> bool:
    """Whether the trained weights are too coarse to be moved themselves.

    Raises:
        UserError: they are neither float32 nor bfloat16.
    """
    kinds = {weight.dtype for weight in model.parameters() if weight.requires_grad}
    if kinds not in ({torch.float32}, {torch.bfloat16}):
        raise UserError(
            f"the model's weights are {', '.join(sorted(str(kind) for kind in kinds))}; load it in float32 or bfloat16"
        )
    return kinds == {torch.bfloat16}


def adamw(model: nn.Module, settings: OptimSpec, *, masters: bool, held: Held = whole) -> AdamW:
    """AdamW on the trained weights or on masters of them, of which this process holds some."""
    chosen: dict[str, Any] = {
        "lr": settings.lr,
        "betas": (settings.beta1, settings.beta2),
        "weight_decay": settings.weight_decay,
        "foreach": False,  # one tensor at a time: the order of operations, and so the bits, are the same everywhere
    }
    if masters:
        return (RestingMasterAdamW if settings.offload else MasterAdamW)(model, held, **chosen)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    return (RestingAdamW if settings.offload else AdamW)(trained, **chosen)
