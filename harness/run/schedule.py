"""When what happens in a run: the tasks of each update, the updates with an evaluation, the episodes of it all."""

from __future__ import annotations

from collections.abc import Sequence

from stepcredit.envs.panel import Panel, Task
from stepcredit.harness.seeds import seed_for
from stepcredit.harness.spec import RunSpec


def tasks_of_update(panel: Panel, count: int, run_seed: int, update: int) -> Sequence[Task]:
    """The update's tasks, the same for every method: each epoch walks its own seeded permutation of the panel.

    The tail of an epoch that does not fill an update is left out, so that no update meets a task twice.
    """
    epoch, index = divmod(update, len(panel.tasks) // count)
    order = panel.permuted(seed_for("epoch", run_seed, epoch))
    return order[index * count : (index + 1) * count]


def evaluation_updates(spec: RunSpec) -> list[int]:
    """After how many updates the run is evaluated: 0, every so many, and the last."""
    return sorted({*range(0, spec.updates + 1, spec.evaluation.every), spec.updates})


def episodes_of(spec: RunSpec, eval_tasks: int) -> int:
    """Episodes of the whole run, training and evaluation."""
    trained = spec.updates * spec.rollout.tasks * spec.rollout.group
    return trained + len(evaluation_updates(spec)) * eval_tasks
