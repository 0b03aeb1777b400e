"""Environments: tasks, panels, episodes. Knows nothing of models, methods or result files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stepcredit.envs.contract import Benchmark, EnvError
from stepcredit.envs.naming import unknown


class Family(NamedTuple):
    """A benchmark in all its variants."""

    load: Callable[[str, Mapping[str, Any]], Benchmark]
    complete: Callable[[Mapping[str, Any]], dict[str, Any]]


# Imported on use: this package's other modules, the contract among them, must not depend on any benchmark.


def _load_alfworld(suite: str, options: Mapping[str, Any]) -> Benchmark:
    from stepcredit.envs.alfworld.benchmark import AlfworldBenchmark

    _no_options(options)
    return AlfworldBenchmark(suite)


def _no_options(options: Mapping[str, Any]) -> dict[str, Any]:
    if options:
        raise EnvError(f"benchmark alfworld has no option {next(iter(options))!r}; leave env_options out")
    return {}


def _load_searchqa(suite: str, options: Mapping[str, Any]) -> Benchmark:
    from stepcredit.envs.searchqa.benchmark import SearchQaBenchmark
    from stepcredit.envs.searchqa.options import SearchOptions

    return SearchQaBenchmark(suite, SearchOptions.parse(options))


def _searchqa_options(options: Mapping[str, Any]) -> dict[str, Any]:
    from stepcredit.envs.searchqa.options import SearchOptions

    return SearchOptions.parse(options).model_dump(mode="json")


BENCHMARKS: Mapping[str, Family] = {
    "alfworld": Family(_load_alfworld, _no_options),
    "searchqa": Family(_load_searchqa, _searchqa_options),
}
"""Benchmarks by name."""


def load_benchmark(name: str, suite: str, options: Mapping[str, Any] | None = None) -> Benchmark:
    """The benchmark called `name`, in the variant `suite`.

    Raises:
        EnvError: there is no such benchmark, suite or option, or its data cannot be used.
    """
    return _family(name).load(suite, options or {})


def complete_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The benchmark's options, as JSON values, with its defaults for whatever is left open.

    Raises:
        EnvError: there is no such benchmark or option, or a value is out of range.
    """
    return _family(name).complete(options)


def _family(name: str) -> Family:
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS)
    return BENCHMARKS[name]
