"""The panels that runs are evaluated on, whole or in part."""

from __future__ import annotations

from stepcredit.envs.contract import Benchmark
from stepcredit.envs.panel import Panel
from stepcredit.harness.errors import UserError
from stepcredit.harness.spec import EvalSpec
from stepcredit.harness.words import counted


def held_out_panel(wanted: EvalSpec, benchmark: Benchmark) -> Panel:
    """The fixed held-out panel that a run is evaluated on.

    Raises:
        UserError: the split has fewer tasks than asked for.
    """
    return sub_panel(benchmark.panel(wanted.split), wanted.size, wanted.panel_seed, per_subset=wanted.per_subset)


def sub_panel(panel: Panel, size: int | None, seed: int, *, per_subset: int | None = None) -> Panel:
    """The whole panel, or its seeded prefix of `size` tasks, or of `per_subset` tasks of each subset.

    Raises:
        UserError: the panel is shorter than that, `size` is not positive, both are given, or a seed alone.
    """
    if size is not None and per_subset is not None:
        raise UserError(f"a sub-panel has a size ({size}) or a size of each subset ({per_subset}), not both")
    if per_subset is not None:
        return panel.stratified(per_subset, seed)
    if size is None:
        if seed != 0:
            raise UserError(f"panel seed {seed} has no effect on a whole split; leave it out, or ask for a size too")
        return panel
    if not 1 <= size <= len(panel.tasks):
        raise UserError(
            f"panel size {size} is out of range: split {panel.split} of {panel.benchmark}-{panel.suite} has "
            f"{counted(len(panel.tasks), 'task')}"
        )
    return panel.prefix(size, seed)
