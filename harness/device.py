"""Where a policy runs."""

from __future__ import annotations

import torch

from stepcredit.harness.errors import UserError


def resolve(name: str, *, prefers_gpu: bool) -> str:
    """The torch device for a name. `auto` takes a GPU for policies that prefer one; the embedded policy does not, whose
    results are compared bit by bit.

    Raises:
        UserError: unknown name, or no GPU.
    """
    if name == "auto":
        return "cuda" if prefers_gpu and torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r}; known are auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda was asked for, but torch finds no GPU; use --device cpu or install a CUDA build")
    return name
