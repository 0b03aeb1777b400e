"""Where a policy runs."""

from __future__ import annotations

import os
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


def require_devices(processes: int, device: str) -> None:
    """Whether there is a GPU, or a core, for each of the processes that share a run.

    Raises:
        UserError: there are fewer.
    """
    import torch

    kind, found = ("GPU", torch.cuda.device_count()) if device == "cuda" else ("core", os.cpu_count() or 1)
    if processes > found:
        raise UserError(
            f"--processes {processes} wants a {kind} for each, and this machine has {found}; use --processes {found}"
        )
