"""Small runs in which the nth write, fsync, rename, mkdir, lock, opening or deletion of a file fails."""

import errno
import io
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from stepcredit.harness.errors import UserError
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.setup.settings import build_spec
from stepcredit.harness.spec import RunSpec
from tests.harness.cells import run_here

SETTINGS = (
    *("updates=2", "checkpoint_every=1", "rollout.tasks=1", "rollout.group=4"),
    *("evaluation.size=2", "evaluation.samples=1", "evaluation.every=2"),
)
SPEC = build_spec(
    model="tiny", benchmark="diagnostic", suite="bandit_tree", method="stepopsd", seed=0, overrides=SETTINGS
)


class Call(StrEnum):
    """What fails."""

    OPEN = "open"
    WRITE = "write"
    FSYNC = "fsync"
    RENAME = "os.rename"
    MKDIR = "os.mkdir"
    REMOVE = "os.remove"
    LOCK = "fcntl.flock"


class Fault(NamedTuple):
    """The `nth` call of the kind, counted from 1, fails with an error number; none fails where that is 0."""

    call: Call
    nth: int
    number: int


class Outcome(NamedTuple):
    """How a process ended: `said` is its one sentence, `calls` how often each call was made."""

    ended: bool
    said: str
    calls: dict[Call, int]


def run_with(study: Path, fault: Fault | None = None, spec: RunSpec = SPEC) -> Outcome:
    """Run the cell in a process of its own, with that fault."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.harness.warm", "tests.harness.faults"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(study, fault, spec, theirs))
    process.start()
    theirs.close()
    found: Outcome = ours.recv()
    process.join()
    return found


def _run(study: Path, fault: Fault | None, spec: RunSpec, answer: Connection) -> None:
    calls = _watched(Cell(study, spec).folder, fault)
    try:
        run_here(study, spec.model_dump(mode="json"))
    except UserError as error:
        answer.send(Outcome(False, str(error), dict(calls)))
    else:
        answer.send(Outcome(True, "", dict(calls)))


def _watched(folder: Path, fault: Fault | None) -> Counter[Call]:
    """Count the calls on files of a folder from now on, and let one of them fail."""
    calls: Counter[Call] = Counter()

    def meet(call: Call) -> None:
        calls[call] += 1
        if fault is not None and (call, calls[call]) == fault[:2]:
            raise OSError(fault.number, os.strerror(fault.number))

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event in (Call.RENAME, Call.MKDIR, Call.REMOVE) and str(arguments[0]).startswith(str(folder)):
            meet(Call(event))
        elif event == Call.LOCK:
            meet(Call.LOCK)
        elif event == Call.OPEN and str(arguments[0]).startswith(str(folder)) and "w" in (arguments[1] or ""):
            meet(Call.OPEN)

    sys.addaudithook(hear)
    os.fsync = _after(lambda: meet(Call.FSYNC), os.fsync)
    Path.open = _writing(Path.open, lambda: meet(Call.WRITE))  # type: ignore[method-assign]
    return calls


def _after(act: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    def both(*arguments: Any, **named: Any) -> Any:
        act()
        return function(*arguments, **named)

    return both


def _writing(opening: Callable[..., Any], act: Callable[[], None]) -> Callable[..., Any]:
    """As it opens files, but that writing to them is noticed."""

    def opened(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        return _Writer(path, act) if mode == "wb" else opening(path, mode, *arguments, **named)

    return opened


class _Writer(io.BufferedWriter):
    """A file that is opened for writing."""

    def __init__(self, path: Path, act: Callable[[], None]) -> None:
        super().__init__(io.FileIO(path, "w"))
        self._act = act

    def write(self, data: Any) -> int:
        self._act()
        return super().write(data)


def faults(calls: Mapping[Call, int]) -> list[Fault]:
    """Every one there can be, first each call with its first number: a full disk, a folder or lock that is refused."""
    numbers = {Call.LOCK: (errno.EIO,), Call.REMOVE: (errno.EIO,), Call.MKDIR: (errno.ENOSPC, errno.EACCES)}
    usual = (errno.ENOSPC, errno.EIO)
    return [
        Fault(call, nth, numbers.get(call, usual)[turn])
        for turn in range(len(usual))
        for call, count in sorted(calls.items())
        for nth in range(1, count + 1)
        if turn < len(numbers.get(call, usual))
    ]
