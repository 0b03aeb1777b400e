"""Fixtures that several tests of the harness use."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stepcredit.harness.record.cell import Cell
from stepcredit.harness.setup.settings import build_spec
from tests.harness.cells import LEAST, run_here

# As in runs: sums that are split over threads otherwise have other bits, and a test may run after one that trains.
torch.set_num_threads(1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(scope="session")
def household_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one small update, to be read or copied; it keeps the checkpoints of updates 0 and 1."""
    return _least_run(tmp_path_factory.mktemp("household"), "alfworld")


@pytest.fixture(scope="session")
def search_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on Search-QA."""
    return _least_run(tmp_path_factory.mktemp("search"), "searchqa")


def _least_run(study: Path, benchmark: str) -> Path:
    spec = build_spec(model="tiny", benchmark=benchmark, suite=None, method="grpo", seed=0, overrides=LEAST)
    run_here(study, spec.model_dump(mode="json"))
    return Cell(study, spec).folder
