"""Workers, each with one cell: started, listened to, ended together."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, Self

import stepcredit
from stepcredit.harness import determinism
from stepcredit.harness.progress import Report, decode
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.study.worker import Job

ROOT = Path(stepcredit.__file__).resolve().parents[1]
WORKER = ("-m", "stepcredit.harness.study.worker")
_LINES_KEPT = 60
_UNHEARD = 1


@dataclass(frozen=True, slots=True)
class Resources:
    """What may be used.

    Attributes:
        jobs: cells at a time.
        threads: of each.
        device: of each.
        track: trackers that are told.
        ray: whether a Ray cluster runs the cells, and not this machine.
        processes: that share the updates of each.
    """

    jobs: int
    threads: int
    device: str
    track: tuple[str, ...] = ()
    ray: bool = False
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Said:
    """A worker's report."""

    cell: Cell
    report: Report


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker's end: its exit code, and what it said last besides reports."""

    cell: Cell
    code: int
    error: str


Event = Said | Ended


class Pool(Protocol):
    """Workers at work; leaving it ends them all."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *details: object) -> None: ...

    @property
    def running(self) -> int:
        """How many there are."""
        ...

    def start(self, cell: Cell) -> None:
        """Start one for the cell."""
        ...

    def forget(self, cell: Cell) -> None:
        """Its worker has ended."""
        ...

    def next_event(self) -> Event:
        """Wait for the next report or end."""
        ...


class LocalPool:
    """Processes of this machine.

    Args:
        changed: variables that they have instead of this process's and of those that fix bits.
        program: what they run, as words for Python.
    """

    def __init__(
        self,
        resources: Resources,
        *,
        examines: bool,
        changed: Mapping[str, str] = MappingProxyType({}),
        program: Sequence[str] = WORKER,
    ) -> None:
        self._resources, self._examines = resources, examines
        self._changed, self._program = changed, program
        self._events: queue.Queue[Event] = queue.Queue()
        self._workers: dict[Path, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        for worker in self._workers.values():
            worker.kill()
        for worker in self._workers.values():
            worker.wait()

    @property
    def running(self) -> int:
        return len(self._workers)

    def start(self, cell: Cell) -> None:
        job = job_of(cell, self._resources, examines=self._examines)
        worker = begin_worker(job, os.environ, self._changed, self._program)
        self._workers[cell.folder] = worker
        threading.Thread(target=self._listen, args=(cell, worker), daemon=True).start()

    def forget(self, cell: Cell) -> None:
        del self._workers[cell.folder]

    def next_event(self) -> Event:
        while True:
            try:
                return self._events.get(timeout=1.0)
            except queue.Empty:
                continue

    def _listen(self, cell: Cell, worker: subprocess.Popen[str]) -> None:
        ended = Ended(cell, _UNHEARD, "what its worker said could not be read to its end\n")
        try:
            ended = Ended(cell, *hear(worker, lambda report: self._events.put(Said(cell, report))))
        finally:
            self._events.put(ended)


def job_of(cell: Cell, resources: Resources, *, examines: bool) -> Job:
    """What a worker of the cell is told."""
    return Job(
        str(cell.study.resolve()),
        cell.spec.model_dump(mode="json"),
        cell.copy,
        resources.threads,
        resources.device,
        examines,
        resources.track,
        resources.processes,
    )


def begin_worker(
    job: Job,
    environ: Mapping[str, str],
    changed: Mapping[str, str] = MappingProxyType({}),
    program: Sequence[str] = WORKER,
) -> subprocess.Popen[str]:
    """A process that does the job; it ends when this one does."""
    worker = subprocess.Popen(
        [sys.executable, "-P", *program],
        env={**_environment(job.threads, environ), **changed},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="backslashreplace",
    )
    assert worker.stdin is not None
    worker.stdin.write(job.encode() + "\n")
    worker.stdin.flush()
    return worker


def hear(worker: subprocess.Popen[str], say: Callable[[Report], None]) -> tuple[int, str]:
    """Its reports until it ends; then its exit code, and the last of its other lines, which say what went wrong."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    said: deque[str] = deque(maxlen=_LINES_KEPT)
    with worker.stdin, worker.stdout:
        for line in worker.stdout:
            report = decode(line)
            if report is None:
                said.append(line)
            else:
                say(report)
        return worker.wait(), "".join(said)


def _environment(threads: int, environ: Mapping[str, str]) -> dict[str, str]:
    """The worker's variables: fixed threads, this process's source tree, and UTF-8 on its pipes."""
    path = os.pathsep.join(filter(None, [str(ROOT), environ.get("PYTHONPATH")]))
    spoken = {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8:backslashreplace"}
    return {**environ, **determinism.environment(threads), **spoken}
