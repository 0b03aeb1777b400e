"""One cell in a process of its own, told what to do by a JSON line on standard input.

Standard output carries progress, one JSON line a report. Standard input stays open while the parent lives; when
it closes, the worker ends, so that no orphan goes on writing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from stepcredit.envs.contract import EnvError
from stepcredit.harness.errors import UserError
from stepcredit.harness.progress import Report, encode
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.contract import MethodError

BAD_INPUT = 2
_ORPHANED = 3


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is asked to do."""

    study: str
    spec: dict[str, object]
    copy: bool
    threads: int
    device: str
    examines: bool
    track: Sequence[str] = ()
    processes: int = 1

    @property
    def cell(self) -> Cell:
        """The cell to run."""
        return Cell(Path(self.study), RunSpec.model_validate(self.spec), self.copy)

    def encode(self) -> str:
        """One JSON line."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, line: str) -> Job:
        """The inverse of `encode`."""
        return cls(**json.loads(line))


def main() -> int:
    """Run one cell; the exit code is 0, or 2 with a sentence on standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = Job.decode(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _run(job)
    except (UserError, EnvError, MethodError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    return 0


def _run(job: Job) -> None:
    from stepcredit.harness import determinism
    from stepcredit.harness.run.train import train
    from stepcredit.harness.setup.parts import assemble

    switches = determinism.switch_on(job.threads, job.device)
    train(job.cell, assemble(job.cell.spec, job.device), switches, _print, job.track, processes=job.processes)
    if job.examines:
        from stepcredit.harness.capability.runs import capability_of_run

        capability_of_run(job.cell.folder, threads=job.threads, device=job.device)


def _print(report: Report) -> None:
    print(encode(report), flush=True)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
