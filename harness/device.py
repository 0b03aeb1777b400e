"""Where a policy runs."""

from __future__ import annotations

from enum import Enum, auto

from stepcredit.harness.errors import UserError


class Wish(Enum):
    """Where `--device auto` puts a policy."""

    CPU = auto()
    """There alone: the embedded policies, whose results are compared bit by bit."""
    GPU_IF_ANY = auto()
    GPU = auto()
    """There alone: models whose runs would take weeks without one."""


def resolve(name: str, wish: Wish) -> str:
    """The torch device for a name; `auto` is as the policy wishes.

    Raises:
        UserError: unknown name, or no GPU.
    """
    import torch  # listings of presets do without it

    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {name!r}; known are auto, cpu, cuda")
    if name == "cpu" or (name == "auto" and wish is Wish.CPU):
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise UserError("--device cuda was asked for, but torch finds no GPU; use --device cpu or install a CUDA build")
    if wish is Wish.GPU:
        raise UserError("models from the hub want a GPU, and torch finds none; say --device cpu to go on without one")
    return "cpu"
