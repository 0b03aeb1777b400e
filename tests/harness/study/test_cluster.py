"""Cells on a real Ray cluster of this machine: the bits of local runs, also where their workers are killed."""

import importlib.util
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from stepcredit.harness.errors import UserError
from stepcredit.harness.progress import Report
from stepcredit.harness.record import manifest
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.study import cluster, matrix
from stepcredit.harness.study.pool import Ended, Event, Resources, Said
from tests.harness.cells import run_here, small_spec

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
SPECS = [small_spec(method="grpo", seed=seed) for seed in (0, 1)]
GIVEN = Resources(1000, 1, "cpu", ray=True)
KILLS = int(os.environ.get("STEPCREDIT_RAY_KILLS", "1"))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = tmp_path_factory.mktemp("local")
    for spec in SPECS:
        run_here(study, spec.model_dump(mode="json"))
    return study


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of this machine alone, with room for two cells however many cores there are."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    yield nodes.address
    nodes.shutdown()


@pytest.fixture(autouse=True)
def joined(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cluster.ADDRESS, address)


def bits(study: Path) -> list[tuple[object, ...]]:
    found = [manifest.read(Cell(study, spec).folder) for spec in SPECS]
    names = ("episodes.parquet", "updates.parquet", "credits.parquet", "probes.parquet")
    return [(m.final_weights_sha256, *(m.files[name] for name in names)) for m in found if m is not None]


def worked(study: Path, specs: Sequence[object] = SPECS) -> None:
    plan = matrix.Plan((), tuple(matrix.cells_of(study, SPECS)))
    matrix.run(plan, GIVEN, lambda spec: 28)


def test_a_cluster_makes_the_bits_of_one_machine(tmp_path: Path, local: Path) -> None:
    worked(tmp_path)
    assert bits(tmp_path) == bits(local)


@pytest.mark.parametrize("moment", range(KILLS))
def test_a_worker_that_is_killed_is_replaced(tmp_path: Path, local: Path, moment: int) -> None:
    """Ray's own process, with ours below it; Ray starts another, which goes on from the last checkpoint.

    The first moment is as soon as both cells have one; others are later, when one of them may have ended.
    """
    killed: list[int] = []
    patience = random.Random(f"ray kill {moment}").random() if moment else 0.0

    def kill() -> None:
        while not killed:
            time.sleep(0.05)
            if len({path.parent for path in tmp_path.rglob("update-*.ckpt")}) == len(SPECS):
                time.sleep(patience)
                killed.extend(ray_workers()[:1])
                for process in killed:
                    os.kill(process, signal.SIGKILL)

    hunter = threading.Thread(target=kill)
    hunter.start()
    worked(tmp_path)
    hunter.join()
    assert len(killed) == 1
    assert bits(tmp_path) == bits(local)
    found = [manifest.read(Cell(tmp_path, spec).folder) for spec in SPECS]
    assert moment or any(m.resumed_at for m in found if m is not None)


def ray_workers() -> list[int]:
    """Processes in which Ray does a task of ours."""
    named = {path: path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()}
    return [int(path.parent.name) for path, words in named.items() if words.startswith(b"ray::_work")]


def ended(pool: cluster.RayPool) -> Ended:
    while True:
        event: Event = pool.next_event()
        if not isinstance(event, Said):
            return event


def test_what_a_node_lacks_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = manifest.versions()
    with cluster.RayPool(GIVEN, examines=False) as pool:
        pool.start(Cell(tmp_path / "nowhere", SPECS[0]))
        first = ended(pool)
        pool.forget(first.cell)
        monkeypatch.setattr(manifest, "versions", lambda: {**there, "torch": "1.0"})
        pool.start(Cell(tmp_path, SPECS[0]))
        second = ended(pool)
        pool.forget(second.cell)
    assert (first.code, second.code) == (2, 2)
    assert "does not see" in first.error
    assert "put the study on a file system that all nodes share" in first.error
    assert "has other versions (" in second.error
    assert "torch: 1.0 there" in second.error


def test_a_cluster_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cluster.ADDRESS, "127.0.0.1:1")
    with pytest.raises(UserError, match=r"the Ray cluster at 127.0.0.1:1 cannot be used: .*; set RAY_ADDRESS"):
        cluster.RayPool(GIVEN, examines=False).__enter__()


def test_reports_arrive_by_cell(tmp_path: Path) -> None:
    seen: list[Report] = []
    with cluster.RayPool(GIVEN, examines=False) as pool:
        pool.start(Cell(tmp_path, SPECS[0]))
        while True:
            event = pool.next_event()
            if isinstance(event, Ended):
                break
            seen.append(event.report)
    assert event.code == 0, event.error
    assert seen[-1].note.startswith("update 3/3")
