"""Is this machine ready? Versions, memory, data, weights, write permission."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from stepcredit.envs import benchmark_names, family_of, load_benchmark, places
from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.retrieval.jvm import find_toolchain
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import load_policy
from stepcredit.harness.model.presets import PRESETS, Source
from stepcredit.harness.record import files, manifest
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
    machine = [_python(), *_packages(), _source(), _cores(), _memory(), _accelerator()]
    return [*machine, _disk(folder), _writing(folder), _promises(folder), *_caches(), *_data()]


def _python() -> Finding:
    version = platform.python_version()
    return Finding("python", version.rsplit(".", 1)[0] in _PYTHONS, f"{version} (needs {' or '.join(_PYTHONS)})")


def _packages() -> Iterator[Finding]:
    for name, version in manifest.versions().items():
        if name != "python":
            yield Finding(name, version != "absent" and not manifest.is_unknown(version), version)


def _source() -> Finding:
    commit, dirty = manifest.source_commit()
    if commit is None:
        return Finding("source", True, f"stepcredit {manifest.stepcredit_version()}, not a git checkout")
    if manifest.is_unknown(commit):
        return Finding("source", False, f"commit {commit}; runs record it so")
    state = {True: "changed since", False: "unchanged", None: "git does not say whether changed since"}[dirty]
    return Finding("source", True, f"commit {commit[:12]}, {state}")


def _cores() -> Finding:
    vectors = torch.backends.cpu.get_cpu_capability()
    return Finding("cores", True, f"{_usable_cores()} ({vectors}); one torch thread per run")


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not every system lets a process ask
        return os.cpu_count() or 1


def _memory() -> Finding:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError) as error:
        return Finding("memory", True, f"unknown: {error}")
    return Finding("memory", total >= _MEMORY_GB, f"{total:.1f} GB (two runs at a time need {_MEMORY_GB:.0f})")


def _accelerator() -> Finding:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            name = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        except RuntimeError as error:
            return Finding("gpu", False, f"there, but not usable: {_line(error)}")
    if name is None and said:
        return Finding("gpu", False, f"none usable: {_line(said[0].message)}")
    return Finding("gpu", True, name or "none; `tiny` needs none")


def _line(message: object) -> str:
    return (str(message).splitlines() or ["no reason given"])[0]


def _disk(folder: Path) -> Finding:
    try:
        free = shutil.disk_usage(folder).free / 2**30
    except OSError as error:
        return Finding("disk", True, f"unknown: {error.strerror}")
    return Finding("disk", free >= _DISK_GB, f"{free:.1f} GB free in {folder} (a study needs up to {_DISK_GB:.0f})")


def _writing(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Finding("writing", True, f"{folder} can be written")
    except OSError as error:
        return Finding("writing", False, f"{folder} cannot be written: {error.strerror}")


def _promises(folder: Path) -> Finding:
    """A weaker file system is no fault: runs go on, and their manifests say so."""
    try:
        weaker = files.weaker_promises(folder)
    except UserError as error:
        return Finding("file system", False, str(error))
    told = "; ".join(f"{name}: {why}" for name, why in weaker.items())
    return Finding("file system", True, f"weaker: {told}" if told else "locks, fsync of files and of folders")


def _caches() -> Iterator[Finding]:
    try:
        for name, detail in places.in_use(os.environ).items():
            yield Finding(name, True, detail)
    except EnvError as error:
        yield Finding("cache", False, str(error))


def _data() -> Iterator[Finding]:
    for preset in (preset for preset in PRESETS.values() if preset.source is Source.EMBEDDED):
        for name, recipe in preset.recipes.items():
            look = partial(_parameters, preset.name, name, recipe.suite)
            yield _attempt(f"policy {preset.name}, {name}", look, needed=True)
    for name in benchmark_names():
        family = family_of(name)
        for suite, facts in family.suites.items():
            needed = not facts.variables or any(os.environ.get(variable) for variable in facts.variables)
            yield _attempt(f"{name} {suite}", partial(_tasks, name, suite, family.held_out), needed=needed)
    yield _attempt("lucene", _lucene, needed=False)


def _parameters(model: str, benchmark: str, suite: str) -> str:
    return f"{load_policy(model, load_benchmark(benchmark, suite)).parameters:,} parameters"


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
