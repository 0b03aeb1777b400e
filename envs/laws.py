"""What a benchmark promises, tried on some of its tasks with random actions: for ours and for those of other packages.

One test a promise, in a test file of your own: `test_promises = benchmark_tests(MyBenchmark, "train")`. Needs `pytest`
for `benchmark_tests`; nothing else in `envs` imports this.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from stepcredit.envs.contract import Benchmark, Chance, Env, EnvError, StepResult

_TASKS, _TURNS = 12, 12
_ODD = ("", "dance wildly", "\x00 ü")


class PromiseBroken(AssertionError):
    """A benchmark does not do what its contract says: what, and for which task."""


Check = Callable[[Benchmark, str], None]


def panels_repeat(benchmark: Benchmark, split: str) -> None:
    """A split is the same panel each time, and its tasks belong to subsets that the benchmark knows."""
    panel, again = benchmark.panel(split), benchmark.panel(split)
    _require(panel.sha256 == again.sha256, f"split {split} has the hash {panel.sha256}, then {again.sha256}")
    for task in panel.tasks:
        _require(task.subset in benchmark.subsets, f"{task.id} is of subset {task.subset!r}, which is not in `subsets`")


def episodes_repeat(benchmark: Benchmark, split: str) -> None:
    """Equal actions are answered equally, and lead to states with equal keys."""
    for task_id in _tasks(benchmark, split):
        one, other = benchmark.make(task_id), benchmark.make(task_id)
        _require(one.reset() == other.reset(), f"{task_id} begins in two ways")
        for action, result in _walk(one, task_id):
            again = other.step(action)
            _require(result == again, f"{task_id} answers {action!r} with {result}, then with {again}")
            _require(one.state_key == other.state_key, f"{task_id} has two state keys after {action!r}")


def clones_go_their_own_way(benchmark: Benchmark, split: str) -> None:
    """A clone acts as the episode that it was made from would, and changes nothing in it."""
    for task_id in _tasks(benchmark, split):
        env = benchmark.make(task_id)
        env.reset()
        here, twin = env.state_key, env.clone()
        _require(twin.state_key == here, f"{task_id}: a clone has another state key")
        taken = list(_walk(twin, task_id))
        _require(env.state_key == here, f"{task_id}: what a clone does changes the state of the original")
        for action, result in taken:
            _require(env.step(action) == result, f"{task_id}: a clone was answered differently after {action!r}")


def chance_repeats(benchmark: Benchmark, split: str) -> None:
    """Where consequences depend on chance, equal actions with equal seeds have equal ones."""
    for task_id in _tasks(benchmark, split):
        one, other = benchmark.make(task_id), benchmark.make(task_id)
        one.reset()
        other.reset()
        for seed, (action, result) in enumerate(_walk(one, task_id, seeded=True)):
            _draw(other, seed)
            again = other.step(action)
            _require(result == again, f"{task_id} answers {action!r} with {result}, then with {again}, by one seed")


def references_succeed(benchmark: Benchmark, split: str) -> None:
    """Where there is a reference episode, its actions are admitted, and the last one ends in success."""
    for task_id in _tasks(benchmark, split):
        try:
            actions = benchmark.solution(task_id)
        except EnvError:
            continue
        env = benchmark.make(task_id)
        env.reset()
        results = [env.step(action) for action in actions]
        _require(all(result.valid for result in results), f"{task_id}: an action of its reference is not admitted")
        ends = [result.done for result in results]
        _require(ends == [False] * (len(ends) - 1) + [True], f"{task_id}: its reference does not end the episode")
        _require(results[-1].success, f"{task_id}: its reference does not succeed")


def tasks_are_in_the_first_text(benchmark: Benchmark, split: str) -> None:
    """The words that say what is to be done are words that the agent reads first."""
    for task_id in _tasks(benchmark, split):
        first = benchmark.make(task_id).reset()
        _require(first.task in first.text, f"{task_id}: its task {first.task!r} is not in its first text")


def metrics_have_the_same_names(benchmark: Benchmark, split: str) -> None:
    """The numbers of an episode have the same names for every task, from its beginning to its end."""
    names = set()
    for task_id in _tasks(benchmark, split):
        env = benchmark.make(task_id)
        env.reset()
        names.add(tuple(sorted(env.metrics)))
        for _ in _walk(env, task_id):
            names.add(tuple(sorted(env.metrics)))
    _require(len(names) == 1, f"metrics have the names {' or '.join(str(list(found)) for found in sorted(names))}")


PROMISES: tuple[Check, ...] = (
    panels_repeat,
    episodes_repeat,
    clones_go_their_own_way,
    chance_repeats,
    references_succeed,
    tasks_are_in_the_first_text,
    metrics_have_the_same_names,
)


def benchmark_tests(open_benchmark: Callable[[], Benchmark], *splits: str) -> Callable[[Check, str], None]:
    """A pytest function with one test for each promise and split."""
    import pytest

    @pytest.mark.parametrize("split", splits)
    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    def test_promise(promise: Check, split: str) -> None:
        promise(open_benchmark(), split)

    return test_promise


def _tasks(benchmark: Benchmark, split: str) -> Sequence[str]:
    """Some of them, from all over the split."""
    ids = [task.id for task in benchmark.panel(split).tasks]
    return ids[:: max(1, len(ids) // _TASKS)][:_TASKS]


def _draw(env: Env, seed: int) -> None:
    if isinstance(env, Chance):
        env.chance(seed)


def _walk(env: Env, task_id: str, *, seeded: bool = False) -> Iterator[tuple[str, StepResult]]:
    """Random actions, now and then one that nobody offers, until the episode ends or is long enough."""
    rng, actions = random.Random(f"promise:{task_id}"), tuple[str, ...]()
    for turn in range(_TURNS):
        offered = actions if turn and actions and rng.random() < 0.8 else _ODD
        action = rng.choice(offered)
        if seeded:
            _draw(env, turn)
        result = env.step(action)
        yield action, result
        if result.done:
            return
        actions = result.observation.actions


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise PromiseBroken(complaint)
