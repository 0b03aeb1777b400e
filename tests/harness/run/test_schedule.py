"""Which tasks an update sees, and when a run is evaluated."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from stepcredit.envs.panel import Panel, Task
from stepcredit.harness.run.schedule import (
    episodes_of,
    evaluation_samples,
    evaluation_updates,
    learning_rate,
    tasks_of_update,
)
from stepcredit.harness.spec import EvalSpec, RolloutSpec, RunSpec


def panel(size: int) -> Panel:
    return Panel.of("toy", "mini", "train", [Task(f"t{index:03d}", "Pick", "0") for index in range(size)])


@given(size=st.integers(1, 40), data=st.data(), seed=st.integers(0, 5))
def test_an_epoch_meets_no_task_twice(size: int, data: st.DataObject, seed: int) -> None:
    count = data.draw(st.integers(1, size))
    epoch = [task for update in range(size // count) for task in tasks_of_update(panel(size), count, seed, update)]
    assert len(epoch) == len(set(epoch)) == size // count * count


def test_order_depends_on_seed_and_epoch_alone() -> None:
    tasks = panel(20)
    first = tasks_of_update(tasks, 20, 0, 0)
    assert first == tasks_of_update(panel(20), 20, 0, 0)
    assert first != tasks_of_update(tasks, 20, 0, 1)
    assert first != tasks_of_update(tasks, 20, 1, 0)
    assert set(first) == set(tasks.tasks)


def test_evaluations_bracket_the_run() -> None:
    spec = RunSpec(updates=10, evaluation=EvalSpec(every=4), rollout=RolloutSpec(tasks=2, group=3))
    assert evaluation_updates(spec) == [0, 4, 8, 10]
    assert evaluation_updates(spec.model_copy(update={"updates": 0})) == [0]
    assert episodes_of(spec, eval_tasks=5) == 10 * 2 * 3 + 4 * 5


def test_only_what_tables_compare_is_sampled_several_times() -> None:
    spec = RunSpec(updates=10, evaluation=EvalSpec(every=4, samples=3), rollout=RolloutSpec(tasks=2, group=3))
    assert [evaluation_samples(spec, update) for update in evaluation_updates(spec)] == [3, 1, 1, 3]
    assert episodes_of(spec, eval_tasks=5) == 10 * 2 * 3 + 8 * 5


@pytest.mark.parametrize("option", [{"samples": 2}, {"luck": "by_seed"}])
def test_greedy_evaluations_are_drawn_once(option: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"evaluation.{next(iter(option))}=.* has no effect at evaluation.temperature"):
        EvalSpec.model_validate({"temperature": 0.0, **option})


CURVES = {
    "constant": lambda optimizer, rising, total: get_constant_schedule_with_warmup(optimizer, rising),
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
}


@pytest.mark.parametrize("schedule", CURVES)
@pytest.mark.parametrize("warmup", [0.0, 0.285, 1.0])
def test_learning_rates_are_those_of_transformers(schedule: str, warmup: float) -> None:
    spec = RunSpec.model_validate({"updates": 20, "optim": {"lr": 0.5, "schedule": schedule, "warmup": warmup}})
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    oracle = CURVES[schedule](optimizer, int(warmup * 20), 20)
    for update in range(20):
        assert learning_rate(spec, update) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        oracle.step()
