"""Is this machine ready? Versions, memory, data, weights, write permission."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from stepcredit.envs import benchmark_names, family_of, load_benchmark
from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.retrieval.jvm import find_toolchain
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import load_policy
from stepcredit.harness.model.presets import PRESETS
from stepcredit.harness.record import manifest
from stepcredit.harness.words import counted

_MEMORY_GB = 4.0
_DISK_GB = 2.0
_PYTHONS = ("3.11", "3.12")


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what it looked at, whether it is as needed, and what it saw."""

    name: str
    ok: bool
    detail: str


def examine(folder: Path) -> list[Finding]:
    """All checks; results are going to be written below `folder`."""
    return [_python(), *_packages(), _cores(), _memory(), _accelerator(), _disk(folder), _writing(folder), *_data()]


def _python() -> Finding:
    version = platform.python_version()
    return Finding("python", version.rsplit(".", 1)[0] in _PYTHONS, f"{version} (needs {' or '.join(_PYTHONS)})")


def _packages() -> Iterator[Finding]:
    for name, version in manifest.versions().items():
        if name != "python":
            yield Finding(name, version != "absent", version)


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("cores", True, f"{cores} ({torch.backends.cpu.get_cpu_capability()}); one torch thread a run")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Finding("memory", total >= _MEMORY_GB, f"{total:.1f} GB (two runs at a time need {_MEMORY_GB:.0f})")


def _accelerator() -> Finding:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; `tiny` needs none"
    return Finding("gpu", True, name)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    return Finding("disk", free >= _DISK_GB, f"{free:.1f} GB free in {folder} (a study needs up to {_DISK_GB:.0f})")


def _writing(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Finding("writing", True, f"{folder} can be written")
    except OSError as error:
        return Finding("writing", False, f"{folder} cannot be written: {error.strerror}")


def _data() -> Iterator[Finding]:
    for name, recipe in PRESETS["tiny"].recipes.items():
        yield _attempt(f"policy tiny, {name}", partial(_parameters, name, recipe.suite), needed=True)
    for name in benchmark_names():
        family = family_of(name)
        for suite, facts in family.suites.items():
            needed = not facts.variables or any(os.environ.get(variable) for variable in facts.variables)
            yield _attempt(f"{name} {suite}", partial(_tasks, name, suite, family.held_out), needed=needed)
    yield _attempt("lucene", _lucene, needed=False)


def _parameters(benchmark: str, suite: str) -> str:
    return f"{load_policy('tiny', load_benchmark(benchmark, suite)).parameters:,} parameters"


def _tasks(benchmark: str, suite: str, split: str) -> str:
    return f"{counted(len(load_benchmark(benchmark, suite).panel(split).tasks), 'task')} in {split}"


def _lucene() -> str:
    found = find_toolchain(os.environ)
    return found.jar.name


def _attempt(name: str, look: Callable[[], str], *, needed: bool) -> Finding:
    try:
        return Finding(name, True, look())
    except (UserError, EnvError) as error:
        return Finding(name, not needed, str(error) if needed else f"not found, and not needed by default: {error}")
