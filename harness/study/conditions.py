"""Under what a run has the same bits and under what it has not: the conditions, as they can be tried on one machine."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import torch

from stepcredit.harness.engine.vllm import TESTED, vllm_version
from stepcredit.harness.setup.settings import build_spec
from stepcredit.harness.spec import RunSpec
from stepcredit.harness.study.pool import WORKER

_ONE_ROW = (
    "-c",
    "from stepcredit.harness.engine import cached; cached.CACHE_BYTES = 1\n"
    "import sys; from stepcredit.harness.study import worker; sys.exit(worker.main())",
)
"""A worker whose engine has room for one episode at a time."""


class Way(Enum):
    """How the run is made."""

    ALONE = auto()
    BESIDE_ANOTHER = auto()
    KILLED = auto()
    """After its first update, and resumed."""
    RAY = auto()


def _here() -> str | None:
    return None


def _nowhere() -> str | None:
    return "one environment has one version; compare `stepcredit verify` of a committed run in two"


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is other than in the baseline.

    Attributes:
        name: a word for it.
        what: in words.
        promised: whether the bits are to be the same under it.
        settings: of the spec, as texts of `--set`.
        variables: of the worker's environment.
        program: what the worker runs.
        lacking: why it cannot be had on this machine; None where it can.
    """

    name: str
    what: str
    promised: bool = False
    threads: int = 1
    device: str = "cpu"
    way: Way = Way.ALONE
    settings: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    track: tuple[str, ...] = ()
    program: Sequence[str] = WORKER
    lacking: Callable[[], str | None] = _here


def baseline() -> RunSpec:
    """A tiny run that uses every part: rollouts, a teacher's scores, updates, two evaluations."""
    return build_spec(
        model="tiny",
        benchmark="alfworld",
        suite=None,
        method="stepopsd",
        seed=0,
        overrides=(
            *("updates=2", "checkpoint_every=1", "rollout.tasks=3", "rollout.group=4", "rollout.max_turns=8"),
            *("evaluation.size=4", "evaluation.samples=1", "evaluation.every=2"),
        ),
    )


def conditions() -> tuple[Condition, ...]:
    """All of them, in the order of the table."""
    return (*_promised(), *_arithmetic(), *_instructions(), *_elsewhere())


def _promised() -> tuple[Condition, ...]:
    return (
        Condition("again", "the same once more", promised=True),
        Condition("killed", "killed after an update, and resumed", promised=True, way=Way.KILLED),
        Condition("jobs", "another run beside it (`--jobs 2`)", promised=True, way=Way.BESIDE_ANOTHER),
        Condition("ray", "on Ray (`--ray`)", promised=True, way=Way.RAY, lacking=lambda: _package("ray")),
        Condition(
            "tracking",
            "a tracker is told (`--track tensorboard`)",
            promised=True,
            track=("tensorboard",),
            lacking=lambda: _package("tensorboard"),
        ),
        Condition("hash-seed", "`PYTHONHASHSEED=1`", promised=True, variables={"PYTHONHASHSEED": "1"}),
        Condition("checkpoints", "`checkpoint_every=2`, not 1", promised=True, settings=("checkpoint_every=2",)),
    )


def _arithmetic() -> tuple[Condition, ...]:
    return (
        Condition("rollout-width", "one episode at a time in the engine, not all", program=_ONE_ROW),
        Condition("token-budget", "`optim.token_budget=1024`, not 8192", settings=("optim.token_budget=1024",)),
        Condition("recompute", "`optim.recompute=true`", settings=("optim.recompute=true",)),
        Condition("threads-2", "`--threads 2`, not 1", threads=2),
        Condition("threads-4", "`--threads 4`, not 1", threads=4),
    )


def _instructions() -> tuple[Condition, ...]:
    """What a processor without the newer instructions would compute."""
    return tuple(
        Condition(f"{name}-{value}".lower(), f"`{variable}={value}`", variables={variable: value}, lacking=lacking)
        for name, variable, value, lacking in (
            ("aten", "ATEN_CPU_CAPABILITY", "avx2", lambda: _instruction("AVX512")),
            ("aten", "ATEN_CPU_CAPABILITY", "default", _here),
            ("onednn", "ONEDNN_MAX_CPU_ISA", "AVX2", lambda: _library("oneDNN", torch.backends.mkldnn.is_available())),
            ("mkl", "MKL_CBWR", "AVX2", lambda: _library("MKL", torch.backends.mkl.is_available())),
            ("mkl", "MKL_CBWR", "COMPATIBLE", lambda: _library("MKL", torch.backends.mkl.is_available())),
        )
    )


def _elsewhere() -> tuple[Condition, ...]:
    return (
        Condition("vllm", "`engine=vllm`", settings=("engine=vllm",), lacking=_vllm),
        Condition("cuda", "`--device cuda`", device="cuda", lacking=_gpu),
        Condition("versions", "other versions of torch and transformers", lacking=_nowhere),
    )


def _package(name: str) -> str | None:
    return None if importlib.util.find_spec(name) else f"{name} is not installed"


def _instruction(capability: str) -> str | None:
    found = torch.backends.cpu.get_cpu_capability()
    return None if found == capability else f"torch uses {found} here, not {capability}"


def _library(name: str, there: bool) -> str | None:
    return None if there else f"this build of torch has no {name}"


def _vllm() -> str | None:
    return None if vllm_version() in TESTED else "vLLM is not installed"


def _gpu() -> str | None:
    return None if torch.cuda.is_available() else "there is no GPU"


def processor() -> str:
    """Its name, cores, and the instructions that torch uses."""
    cores, capability = os.cpu_count(), torch.backends.cpu.get_cpu_capability()
    return f"{_model_name()}, {cores} cores, {capability}"


def _model_name() -> str:
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            return next(named, platform.machine())
    except OSError:
        return platform.processor() or platform.machine()
