"""Whether runs have the memory and the disk that they need, asked before any weights are loaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import load_shape
from stepcredit.harness.model.presets import Source, preset_named
from stepcredit.harness.setup.teacher import teacher_shape
from stepcredit.harness.spec import RunSpec
from stepcredit.harness.study.budget import Budget, When, budget_of, changes_that_fit, gibibytes
from stepcredit.harness.study.pool import Resources


def require_room(out: Path, missing: Sequence[RunSpec], given: Resources) -> str | None:
    """What the missing runs need of the disk, in a sentence; None for embedded policies, which fit everywhere.

    Args:
        out: the study's folder, which may be yet to make.
        missing: the runs to be made.
        given: where they run, and how many at a time.

    Raises:
        UserError: too little memory or disk, or a sequence may be longer than a micro-batch.
    """
    if given.ray:
        return None  # a cluster's nodes have rooms of their own
    budgets = [_require_memory(spec, given) for spec in missing if preset_named(spec.model).source != Source.EMBEDDED]
    if not budgets:
        return None
    together = sorted((budget.disk_bytes for budget in budgets), reverse=True)[: given.jobs]
    needed = sum(together) + sum(budget.kept_bytes for budget in budgets)
    free = shutil.disk_usage(existing(out)).free
    told = f"{gibibytes(needed):.1f} GiB of checkpoints"
    if needed > free:
        raise UserError(
            f"the runs write up to {told}, and {out} has {gibibytes(free):.1f} GiB left; choose another --out"
        )
    return f"up to {told}, {gibibytes(free):.1f} GiB are free"


def _require_memory(spec: RunSpec, given: Resources) -> Budget:
    """On a GPU at the limits of all lengths; in host memory, which runs share, what is there at all times."""
    if spec.optim.token_budget < spec.rollout.max_context_tokens:
        raise UserError(
            f"optim.token_budget is {spec.optim.token_budget}, and a sequence may have rollout.max_context_tokens="
            f"{spec.rollout.max_context_tokens}, which is never divided; raise the one or lower the other"
        )
    shape = load_shape(spec.model)
    teacher = teacher_shape(spec)
    budget = budget_of(spec, shape, teacher, processes=given.processes)
    if given.device == "cuda":
        needed, available, where = budget.peak, torch.cuda.mem_get_info()[1], "the GPU"
    else:
        needed = given.jobs * given.processes * budget.at(When.ALWAYS)
        available, where = memory_of_this_machine(), "this machine"
    if needed > available:
        smaller = [text for text, _ in changes_that_fit(spec, shape, available, teacher, processes=given.processes)]
        advice = f"it would fit with --set {' or --set '.join(smaller)}" if smaller else "choose a smaller --model"
        raise UserError(
            f"{spec.method} on {spec.model} needs {gibibytes(needed):.1f} GiB, and {where} has "
            f"{gibibytes(available):.1f} GiB; {advice} (parts: stepcredit doctor --model {spec.model})"
        )
    return budget


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there already."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def memory_of_this_machine() -> int:
    """All of it, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
