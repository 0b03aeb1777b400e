"""Runs the cells of a study that are missing, a few at a time, each in a worker process."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import stepcredit
from stepcredit.harness import determinism
from stepcredit.harness.errors import UserError
from stepcredit.harness.progress import Display, Report, decode, display_for
from stepcredit.harness.record import checkpoint, files, manifest
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.record.manifest import Inputs
from stepcredit.harness.spec import RunSpec
from stepcredit.harness.study.order import Order
from stepcredit.harness.study.worker import BAD_INPUT, Job
from stepcredit.harness.words import counted

_LINES_KEPT = 60
_ROOT = Path(stepcredit.__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Resources:
    """What the machine gives: cells at a time, threads each, device; and which trackers are told."""

    jobs: int
    threads: int
    device: str
    track: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is there and what is left to do."""

    finished: tuple[Cell, ...]
    missing: tuple[Cell, ...]

    @property
    def resumed(self) -> tuple[Cell, ...]:
        """The missing cells that have a checkpoint to continue from."""
        return tuple(cell for cell in self.missing if checkpoint.available(cell.folder))

    def title(self, cell: Cell) -> str:
        """What the cell is called on the screen: by its study too, where there are several."""
        studies = {own.study for own in (*self.finished, *self.missing)}
        return cell.name if len(studies) == 1 else f"{cell.study.name}/{cell.name}"


@dataclass(frozen=True, slots=True)
class _Ended:
    """A worker's end, in the queue of events."""

    cell: Cell
    code: int
    error: str


def cells_of(study: Path, specs: Sequence[RunSpec], *, copy: bool = False) -> list[Cell]:
    """One cell a spec; `copy` makes replicates beside the originals.

    Raises:
        UserError: two specs share a cell's name.
    """
    cells = [Cell(study, spec, copy) for spec in specs]
    names = [cell.name for cell in cells]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"cell {repeated[0]} is asked for twice; give each method and seed once")
    return cells


def plan(cells: Sequence[Cell], inputs_of: Callable[[RunSpec], Inputs]) -> Plan:
    """Sort the cells into finished and missing, before anything is started.

    Args:
        cells: the matrix.
        inputs_of: the weights and data that a spec starts from now.

    Raises:
        UserError: a folder was written by another spec, from other weights or data, or is damaged.
    """
    finished = []
    for cell in cells:
        inputs, found = inputs_of(cell.spec), manifest.read(cell.folder)
        if found is not None:
            manifest.require_same_spec(found, cell.spec, cell.folder)
            manifest.require_same_inputs(found, inputs, cell.folder)
        if cell.complete():
            finished.append(cell)
    return Plan(tuple(finished), tuple(cell for cell in cells if cell not in finished))


def run(plan: Plan, resources: Resources, episodes_of: Callable[[RunSpec], int], *, examines: bool = False) -> None:
    """Run the missing cells; on an error or Ctrl-C end all workers, which lose at most their last few updates.

    Args:
        plan: what is missing.
        resources: what may be used.
        episodes_of: how many episodes a spec asks for.
        examines: whether a worker examines its run outside the environment right after training.

    Raises:
        UserError: a worker met bad input, a full disk, or was killed.
    """
    for cell in plan.missing:
        files.make_folder(cell.folder)
    totals = {plan.title(cell): episodes_of(cell.spec) for cell in plan.missing}
    order = Order(plan.missing, plan.finished)
    with display_for(totals, len(plan.finished)) as display, _Pool(resources, plan.title, examines=examines) as pool:
        while order.waiting or pool.running:
            while order.waiting and pool.running < resources.jobs:
                pool.start(order.next())
            ended = _take_in(pool.next_event(), pool, display)
            if ended is not None:
                order.learn(ended)


def _take_in(event: Report | _Ended, pool: _Pool, display: Display) -> Cell | None:
    """Show a report, or the end of a cell; the cell, if it is complete."""
    if isinstance(event, Report):
        display.show(event)
        return None
    pool.ended(event.cell)
    if event.code == BAD_INPUT:
        raise UserError(event.error.strip().splitlines()[-1])
    if event.code < 0:
        raise UserError(
            f"the worker of {pool.title(event.cell)} was killed by {signal.Signals(-event.code).name} "
            "(out of memory, perhaps: try --jobs 1); run the same command again to resume"
        )
    if event.code > 0:
        raise RuntimeError(f"the worker of {pool.title(event.cell)} failed\n{event.error}")
    display.finish(pool.title(event.cell), summary(event.cell.folder))
    return event.cell


def summary(folder: Path) -> str:
    """One line on a complete run."""
    found = manifest.read(folder)
    if found is None:
        raise UserError(f"{folder} holds no manifest; run its command again")
    return f"{found.cell}: {counted(found.spec.updates, 'update')} in {found.wall_s:.0f} s, {found.peak_rss_mb:.0f} MB"


def _environment(threads: int) -> dict[str, str]:
    """The worker's variables: fixed threads, this process's source tree, and UTF-8 on its pipes."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    spoken = {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8:backslashreplace"}
    return {**os.environ, **determinism.environment(threads), **spoken}


class _Pool:
    """The worker processes, and the queue of what they report."""

    def __init__(self, resources: Resources, title: Callable[[Cell], str], *, examines: bool) -> None:
        self._resources, self._examines, self.title = resources, examines, title
        self._events: queue.Queue[Report | _Ended] = queue.Queue()
        self._workers: dict[Path, subprocess.Popen[str]] = {}

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *details: object) -> None:
        for worker in self._workers.values():
            worker.kill()
        for worker in self._workers.values():
            worker.wait()

    @property
    def running(self) -> int:
        """Workers at work."""
        return len(self._workers)

    def start(self, cell: Cell) -> None:
        """Start a worker for the cell."""
        resources = self._resources
        job = Job(
            str(cell.study.resolve()),
            cell.spec.model_dump(mode="json"),
            cell.copy,
            resources.threads,
            resources.device,
            self._examines,
            resources.track,
        )
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "stepcredit.harness.study.worker"],
            env=_environment(resources.threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
        )
        self._workers[cell.folder] = worker
        threading.Thread(target=self._listen, args=(cell, worker), daemon=True).start()
        assert worker.stdin is not None
        worker.stdin.write(job.encode() + "\n")
        worker.stdin.flush()

    def ended(self, cell: Cell) -> None:
        """Forget a worker that has ended."""
        del self._workers[cell.folder]

    def next_event(self) -> Report | _Ended:
        """Wait for the next report or end."""
        while True:
            try:
                return self._events.get(timeout=1.0)
            except queue.Empty:
                continue

    def _listen(self, cell: Cell, worker: subprocess.Popen[str]) -> None:
        """Turn the worker's lines into reports; the last of the others say what went wrong, if something did."""
        assert worker.stdout is not None
        said: deque[str] = deque(maxlen=_LINES_KEPT)
        for line in worker.stdout:
            report = decode(line)
            if report is None:
                said.append(line)
            else:
                self._events.put(replace(report, cell=self.title(cell)))
        self._events.put(_Ended(cell, worker.wait(), "".join(said)))
