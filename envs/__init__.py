"""Environments: tasks, panels, episodes. Knows nothing of models, methods or result files.

Our own benchmarks stand in one literal dict; others come through the entry-point group `stepcredit.benchmarks`, where
each name leads to a `Family`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from stepcredit.envs.contract import Benchmark, EnvError
from stepcredit.envs.family import Copies, Family, Suite
from stepcredit.envs.naming import unknown
from stepcredit.envs.replayed import Replaying

GROUP = "stepcredit.benchmarks"

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
    "alfworld": Family(
        _load_alfworld,
        _no_options,
        {
            # Generated rooms of at most ten receptacles: a good search ends in 14 turns, the warm start's often does
            # not.
            "mini": Suite(max_turns=14, max_context_tokens=1024),
            "full": Suite(max_turns=50, max_context_tokens=2048),
            "real": Suite(max_turns=50, max_context_tokens=2048, variables=("ALFWORLD_DATA", "STEPCREDIT_DATA")),
        },
        held_out="valid_unseen",
        study="",
    ),
    "searchqa": Family(
        _load_searchqa,
        _searchqa_options,
        {
            "synthetic": Suite(max_turns=5, max_context_tokens=1024, max_observation_tokens=192),
            # Passages of a hundred words in place of generated sentences; Search-R1 cuts them at 500 tokens.
            "real": Suite(
                max_turns=5, max_context_tokens=4096, max_observation_tokens=500, variables=("STEPCREDIT_DATA",)
            ),
        },
        closed_book=True,
    ),
}
"""Our own benchmarks by name."""


def benchmark_names() -> list[str]:
    """All names: our own first, then those that installed packages register.

    Raises:
        EnvError: an entry point takes a name that is taken.
    """
    return [*BENCHMARKS, *_outside()]


def family_of(name: str) -> Family:
    """What is known of a benchmark; of the packages that register some only the one asked for is imported.

    Raises:
        EnvError: there is no such benchmark, or its package cannot be used.
    """
    outside = _outside()
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    if name not in outside:
        raise unknown("benchmark", name, [*BENCHMARKS, *outside])
    return _loaded(outside[name])


def load_benchmark(name: str, suite: str, options: Mapping[str, Any] | None = None) -> Benchmark:
    """The benchmark called `name`, in the variant `suite`.

    Raises:
        EnvError: there is no such benchmark, suite or option, or its data cannot be used.
    """
    family = family_of(name)
    loaded = family.load(suite, options or {})
    return Replaying(loaded) if family.copies is Copies.REPLAY else loaded


def complete_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The benchmark's options, as JSON values, with its defaults for whatever is left open.

    Raises:
        EnvError: there is no such benchmark or option, or a value is out of range.
    """
    return family_of(name).complete(options)


def _outside() -> dict[str, EntryPoint]:
    """The entry points by name, not yet loaded."""
    holders = dict.fromkeys(BENCHMARKS, "stepcredit itself")
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        if point.name in holders:
            raise EnvError(
                f"entry point {point.value!r} registers the benchmark {point.name!r}, but that name is taken by "
                f"{holders[point.name]}; rename one of them, or uninstall its package"
            )
        holders[point.name], found[point.name] = repr(point.value), point
    return found


def _loaded(point: EntryPoint) -> Family:
    where = f"benchmark {point.name!r} of entry point {point.value!r}"
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise EnvError(f"{where} cannot be loaded: {error}; repair or uninstall its package") from error
    if not isinstance(found, Family):
        raise EnvError(f"{where} is a {type(found).__name__}, not a stepcredit.envs.family.Family; give it one")
    if not found.suites:
        raise EnvError(f"{where} has no suite; name at least one")
    return found
