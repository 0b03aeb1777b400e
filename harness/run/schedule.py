"""When what happens in a run: tasks and learning rate of each update, evaluations, the episodes of it all."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stepcredit.envs.panel import Panel, Task
from stepcredit.harness.seeds import seed_for
from stepcredit.harness.spec import RunSpec, Schedule


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


def evaluation_samples(spec: RunSpec, update: int) -> int:
    """Episodes of each task in the evaluation after that update: what tables compare gets more of them."""
    return spec.evaluation.samples if update in (0, spec.updates) else 1


def learning_rate(spec: RunSpec, update: int) -> float:
    """Of the update, counted from 0; the same for all its optimiser steps."""
    settings = spec.optim
    rising = int(settings.warmup * spec.updates)
    if update < rising:
        return settings.lr * update / rising
    done = (update - rising) / max(1, spec.updates - rising)
    match settings.schedule:
        case Schedule.CONSTANT:
            return settings.lr
        case Schedule.LINEAR:
            return settings.lr * (1.0 - done)
        case Schedule.COSINE:
            return settings.lr * 0.5 * (1.0 + math.cos(math.pi * done))


def episodes_of(spec: RunSpec, eval_tasks: int, updates: int | None = None) -> int:
    """Episodes of the run's first updates, or of the whole of it: training, and the evaluations up to there."""
    last = spec.updates if updates is None else updates
    evaluations = [update for update in evaluation_updates(spec) if update <= last]
    trained = last * spec.rollout.tasks * spec.rollout.group
    return trained + eval_tasks * sum(evaluation_samples(spec, update) for update in evaluations)
