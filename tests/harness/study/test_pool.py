"""Workers of this machine: what they say is passed on, and their end is always told."""

import subprocess
import threading
from pathlib import Path

import pytest

from stepcredit.harness.progress import Report, encode
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.study import pool
from stepcredit.harness.study.pool import Ended, Event, LocalPool, Resources, Said, begin_worker, hear, job_of
from tests.harness.cells import small_spec

GIVEN = Resources(jobs=1, threads=1, device="cpu")
REPORT = Report("cell", done=3, total=8, note="update 1/2")
TALKS = f"import sys; sys.stdin.readline(); print({encode(REPORT)!r}); print('[' * 9999); sys.exit('no room')"


def events(cell: Cell, program: str) -> list[Event]:
    with LocalPool(GIVEN, examines=False, program=("-c", program)) as workers:
        workers.start(cell)
        heard = [workers.next_event()]
        while not isinstance(heard[-1], Ended):
            heard.append(workers.next_event())
        workers.forget(cell)
        assert workers.running == 0
    return heard


def test_reports_are_passed_on_and_the_other_lines_tell_of_the_end(tmp_path: Path) -> None:
    cell = Cell(tmp_path, small_spec())
    said, ended = events(cell, TALKS)
    assert said == Said(cell, REPORT)
    assert ended == Ended(cell, 1, "[" * 9999 + "\nno room\n")


def test_pipes_are_closed_once_a_worker_has_ended(tmp_path: Path) -> None:
    job = job_of(Cell(tmp_path, small_spec()), GIVEN, examines=False)
    worker = begin_worker(job, {}, program=("-c", TALKS))
    hear(worker, lambda report: None)
    assert worker.stdin is not None
    assert worker.stdin.closed
    assert worker.stdout is not None
    assert worker.stdout.closed


def test_a_worker_that_cannot_be_heard_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(worker: subprocess.Popen[str], say: object) -> tuple[int, str]:
        raise OSError("the pipe broke")

    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(pool, "hear", deaf)
    monkeypatch.setattr(threading, "excepthook", told.append)
    cell = Cell(tmp_path, small_spec())
    (ended,) = events(cell, TALKS)
    assert ended == Ended(cell, 1, "what its worker said could not be read to its end\n")
    assert str(told[0].exc_value) == "the pipe broke"
