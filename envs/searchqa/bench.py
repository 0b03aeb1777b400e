"""How fast episodes are on this machine when the policy costs nothing and every query has been asked before."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

from stepcredit.envs.contract import Benchmark
from stepcredit.envs.searchqa.benchmark import SearchQaBenchmark

_ROUNDS = 20


def measure() -> dict[str, float]:
    """`turns_per_s`: flawless episodes of every test question, median over rounds; the first round fills the cache."""
    benchmark = SearchQaBenchmark("synthetic")
    solutions = {task.id: benchmark.solution(task.id) for task in benchmark.panel("test").tasks}
    turns = sum(len(actions) for actions in solutions.values())
    _play(benchmark, solutions)
    seconds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        _play(benchmark, solutions)
        seconds.append(time.perf_counter() - started)
    return {"turns": float(turns), "turns_per_s": turns / statistics.median(seconds)}


def _play(benchmark: Benchmark, solutions: Mapping[str, Sequence[str]]) -> None:
    for task_id, actions in solutions.items():
        env = benchmark.make(task_id)
        env.reset()
        for action in actions:
            env.step(action)


def main() -> None:
    """Print the numbers."""
    for name, value in measure().items():
        print(f"searchqa {name:24} {value:,.4g}")


if __name__ == "__main__":
    main()
