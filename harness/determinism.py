"""Every switch that makes a run the same bits twice, in one place."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.utils.deterministic

_KEPT_BYTES = 2**30  # what malloc gets from the system below this size it keeps and hands out again


@dataclass(frozen=True, slots=True)
class Determinism:
    """What was switched on; written to the manifest."""

    threads: int
    device: str
    deterministic_algorithms: bool
    tf32: bool
    cpu_capability: str

    def dump(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def environment(threads: int) -> dict[str, str]:
    """Variables that a worker process must have before it imports torch."""
    count = str(threads)
    return {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "TOKENIZERS_PARALLELISM": "false",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTHONHASHSEED": "0",
        # Else glibc maps and unmaps every large tensor of an update: half of the time spent in the system.
        "MALLOC_MMAP_THRESHOLD_": str(_KEPT_BYTES),
        "MALLOC_TRIM_THRESHOLD_": str(2 * _KEPT_BYTES),
    }


def switch_on(threads: int, device: str) -> Determinism:
    """Fix thread counts and kernels of this process. Sums are reordered when the thread count changes."""
    os.environ.update(environment(threads))
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Filling would only show a kernel that reads what it never wrote; a replicate's different bits show that as well.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    return Determinism(
        threads=torch.get_num_threads(),
        device=device_name(device),
        deterministic_algorithms=torch.are_deterministic_algorithms_enabled(),
        tf32=torch.backends.cuda.matmul.allow_tf32,
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
    )


def device_name(device: str) -> str:
    """`cpu`, or the GPU's name."""
    return device if device == "cpu" else torch.cuda.get_device_name(device)
