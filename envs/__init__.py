"""Environments: tasks, panels, episodes. Knows nothing of models, methods or result files."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from envs.contract import Benchmark
from envs.naming import unknown


def _alfworld(suite: str) -> Benchmark:
    # Imported on use: this package's other modules, the contract among them, must not depend on ALFWorld.
    from envs.alfworld.benchmark import AlfworldBenchmark

    return AlfworldBenchmark(suite)


BENCHMARKS: Mapping[str, Callable[[str], Benchmark]] = {
    "alfworld": _alfworld,
}
"""Benchmark names; each makes the benchmark in the suite that it is given."""


def load_benchmark(name: str, suite: str) -> Benchmark:
    """The benchmark called `name`, in the variant `suite`.

    Raises:
        EnvError: there is no such benchmark or suite, or its data cannot be used.
    """
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS)
    return BENCHMARKS[name](suite)
