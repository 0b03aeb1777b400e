"""Where a policy runs."""

from __future__ import annotations

import torch

from harness.errors import UserError
from harness.presets import Source, preset_named


def resolve(name: str, model: str) -> str:
    """The torch device for a name. `auto` keeps the embedded policy on the CPU: its results are compared bit by bit.

    Raises:
        UserError: unknown name or preset, or no GPU.
    """
    if name == "auto":
        from_hub = preset_named(model).source is Source.HUB
        return "cuda" if from_hub and torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r}; known are auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda was asked for, but torch finds no GPU; use --device cpu or install a CUDA build")
    return name
