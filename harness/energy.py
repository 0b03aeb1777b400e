"""Energy, where the machine tells: counters of its processors (Linux powercap, RAPL) and of an NVIDIA GPU (NVML).

They count what the whole package or GPU takes, whoever uses it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")


class Counter(Protocol):
    """Counts joules."""

    @property
    def name(self) -> str:
        """What it counts for."""
        ...

    def read(self) -> float:
        """Joules so far."""
        ...

    def between(self, start: float, end: float) -> float:
        """Joules from one reading to the next."""
        ...


@dataclass(frozen=True, slots=True)
class Package:
    """A processor's package.

    Attributes:
        folder: of its counter, which starts again at nothing when it is full.
    """

    folder: Path

    @property
    def name(self) -> str:
        return (self.folder / "name").read_text(encoding="ascii").strip()

    def read(self) -> float:
        return int((self.folder / "energy_uj").read_text(encoding="ascii")) / 1e6

    def between(self, start: float, end: float) -> float:
        full = int((self.folder / "max_energy_range_uj").read_text(encoding="ascii")) / 1e6
        return end - start if end >= start else end - start + full


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, as NVML knows it."""

    nvml: Any
    handle: Any

    @property
    def name(self) -> str:
        return str(self.nvml.nvmlDeviceGetName(self.handle))

    def read(self) -> float:
        return float(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)) / 1e3

    def between(self, start: float, end: float) -> float:
        return end - start


@dataclass(slots=True)
class Meter:
    """Adds up what counters count while blocks run.

    Attributes:
        joules: None without counters.
    """

    counters: Sequence[Counter]
    joules: float | None = field(init=False)

    def __post_init__(self) -> None:
        self.joules = 0.0 if self.counters else None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count a block."""
        starts = [counter.read() for counter in self.counters]
        yield
        for counter, start in zip(self.counters, starts, strict=True):
            self.joules = (self.joules or 0.0) + counter.between(start, counter.read())


def counters_of(device: str, powercap: Path = POWERCAP) -> list[Counter]:
    """Those that can be read here: of every package, and of the GPU if that is the torch device.

    None at all where the GPU's cannot be read: what the rest of the machine takes would pass for the whole.
    """
    found: list[Counter] = [Package(folder) for folder in sorted(powercap.glob("*")) if _counts(folder)]
    if device == "cpu":
        return found
    gpu = _gpu()
    return [] if gpu is None else [*found, gpu]


def _counts(folder: Path) -> bool:
    """Whether it is a package's, and may be read; parts of packages are in those."""
    try:
        package = Package(folder)
        package.read()
        return package.name.startswith("package")
    except OSError:
        return False


def _gpu() -> Gpu | None:
    if importlib.util.find_spec("pynvml") is None:
        return None
    import torch

    pynvml = importlib.import_module("pynvml")
    try:
        pynvml.nvmlInit()
        own = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        gpu = Gpu(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{own}".encode()))
        gpu.read()
    except pynvml.NVMLError:
        return None
    return gpu
