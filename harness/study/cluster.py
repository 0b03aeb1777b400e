"""The cells of a study on a Ray cluster: each takes the resources it needs on whatever node has them free.

A cell is the same worker process as on one machine, so it has the same bits on the same kind of machine. Where a worker
or a node is lost, the cell goes on elsewhere from its last checkpoint, which all nodes see in the study's folder.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import socket
from pathlib import Path
from typing import Any, Self

from stepcredit.harness.errors import UserError
from stepcredit.harness.progress import Report
from stepcredit.harness.record import manifest
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.study.pool import Ended, Event, Resources, Said, begin_worker, hear, job_of
from stepcredit.harness.study.worker import BAD_INPUT, Job

ADDRESS = "RAY_ADDRESS"
_RETRIES = 20
_PATIENCE_S = 1.0
_KNOCKS_S = 10.0


def require_ray() -> None:
    """Refuse to go on without it.

    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError("--ray needs the package ray: pip install 'ray>=2.40', or leave it out")


class RayPool:
    """See `stepcredit.harness.study.pool.Pool`."""

    def __init__(self, resources: Resources, *, examines: bool) -> None:
        self._resources, self._examines = resources, examines
        self._cells: dict[Any, Cell] = {}

    def __enter__(self) -> Self:
        """Join the cluster at $RAY_ADDRESS, or start one on this machine.

        Raises:
            UserError: it does not answer, or has another Python or Ray.
        """
        import ray
        from ray.util.queue import Queue

        address = os.environ.get(ADDRESS)
        try:
            _require_answer(address)
            ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            what = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
            raise UserError(f"{what} cannot be used: {str(error).strip().splitlines()[0]}; set {ADDRESS}") from error
        self._said = Queue()
        self._work = ray.remote(_work).options(
            num_cpus=self._resources.threads * self._resources.processes,
            num_gpus=0 if self._resources.device == "cpu" else self._resources.processes,
            max_retries=_RETRIES,
        )
        return self

    def __exit__(self, *details: object) -> None:
        import ray

        for task in self._cells:
            ray.cancel(task, force=True)
        ray.shutdown()

    @property
    def running(self) -> int:
        return len(self._cells)

    def start(self, cell: Cell) -> None:
        job = job_of(cell, self._resources, examines=self._examines)
        task = self._work.remote(job.encode(), manifest.versions(), self._said)
        self._cells[task] = cell

    def forget(self, cell: Cell) -> None:
        self._cells = {task: other for task, other in self._cells.items() if other != cell}

    def next_event(self) -> Event:
        from ray.util.queue import Empty

        while True:
            try:
                folder, report = self._said.get(timeout=_PATIENCE_S)
            except Empty:
                if (ended := self._ended()) is not None:
                    return ended
            else:
                cell = next((own for own in self._cells.values() if str(own.folder.resolve()) == folder), None)
                if cell is not None:
                    return Said(cell, Report(**report))

    def _ended(self) -> Ended | None:
        import ray

        done, _ = ray.wait(list(self._cells), num_returns=1, timeout=0)
        if not done:
            return None
        try:
            code, error = ray.get(done[0])
        except ray.exceptions.RayError as failure:
            code, error = BAD_INPUT, f"Ray gave up on it after {_RETRIES} tries: {str(failure).strip().splitlines()[0]}"
        return Ended(self._cells[done[0]], code, error)


def _require_answer(address: str | None) -> None:
    """Ray itself knocks for minutes.

    Raises:
        OSError: nobody listens at HOST:PORT.
    """
    host, _, port = (address or "").rpartition("//")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCKS_S).close()


def _work(encoded: str, versions: dict[str, str], said: Any) -> tuple[int, str]:
    """On a node: do the job in a process of its own, and pass on what it reports."""
    from dataclasses import asdict

    job = Job.decode(encoded)
    if (why := _unfit(job, versions)) is not None:
        return BAD_INPUT, why
    folder = str(job.cell.folder.resolve())
    code, error = hear(begin_worker(job, os.environ), lambda report: said.put((folder, asdict(report))))
    return code, f"{error}\non node {platform.node()}" if code > BAD_INPUT else error


def _unfit(job: Job, versions: dict[str, str]) -> str | None:
    """Why this node cannot do the job; None if it can."""
    here = manifest.versions()
    if here != versions:
        differing = "; ".join(manifest.differences(versions, here))
        return f"node {platform.node()} has other versions ({differing}); install the same on all nodes"
    if not Path(job.study).is_dir():
        return f"node {platform.node()} does not see {job.study}; put the study on a file system that all nodes share"
    return None
