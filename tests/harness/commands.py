"""Commands as a user types them, with their workers, in processes that start warm and can be killed at a drawn line."""

import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple, NoReturn, TextIO

import stepcredit
from stepcredit.envs import places
from stepcredit.harness.cli import app
from stepcredit.harness.episodes import rollout
from stepcredit.harness.run import learner, tokens, train
from stepcredit.harness.study import pool, worker
from stepcredit.harness.study.worker import Job

_SOURCE = str(Path(stepcredit.__file__).parent) + os.sep
_READY = 2
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.harness.warm"])


class Part(StrEnum):
    """What a run is at."""

    REST = "loading"
    ROLLOUT = "rollout"
    CREDIT = "credit"
    UPDATE = "update"
    CHECKPOINT = "checkpoint"
    EVALUATION = "evaluation"
    RECORD = "record"


class Victim(StrEnum):
    """Which process is killed; a worker whose parent is gone ends by itself."""

    WORKER = "worker"
    PARENT = "parent"


class Moment(NamedTuple):
    """The `nth` line of our code, counted from 1, that the first worker comes to in that part."""

    part: Part
    nth: int
    victim: Victim = Victim.WORKER


class Ended(NamedTuple):
    """How a command ended: its exit code, negative for a signal, and what it said."""

    code: int
    said: str


_PARTS: Mapping[CodeType, Part] = {
    rollout.rollout.__code__: Part.ROLLOUT,
    train.complete.__code__: Part.CREDIT,
    train.credits_of.__code__: Part.CREDIT,
    learner.Learner.update.__code__: Part.UPDATE,
    train._save.__code__: Part.CHECKPOINT,
    train._evaluate.__code__: Part.EVALUATION,
    tokens.keep.__code__: Part.RECORD,
    train._enter.__code__: Part.RECORD,
    train._finish.__code__: Part.RECORD,
}


class Lines:
    """Counts the lines of our code that this thread comes to, by the outermost part that they are in."""

    def __init__(self, reach: Callable[[Part, int], None] = lambda part, nth: None) -> None:
        self.counts: Counter[Part] = Counter()
        self._reach, self._part = reach, Part.REST
        self._outermost: FrameType | None = None

    def watch(self) -> None:
        """From now on."""
        sys.settrace(self._enter)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        code = frame.f_code
        if not code.co_filename.startswith(_SOURCE):
            return None
        if self._outermost is None and code in _PARTS:
            self._outermost, self._part = frame, _PARTS[code]
        return self._line

    def _line(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        if event == "line":
            self.counts[self._part] += 1
            self._reach(self._part, self.counts[self._part])
        elif event == "return" and frame is self._outermost:
            self._outermost, self._part = None, Part.REST
        return self._line


def command(
    folder: Path, *words: str, moment: Moment | None = None, line: int | None = None, counts: Path | None = None
) -> Ended:
    """Run `stepcredit` with these words in a process of its own, in that folder.

    Args:
        moment: of the first worker, when a process is killed.
        line: of our code, counted from 1, at which the command itself is killed.
        counts: where the first worker writes how many lines it came to, by part.
    """
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_command, args=(folder, words, moment, line, counts, theirs))
    process.start()
    theirs.close()
    with os.fdopen(os.dup(ours.fileno()), encoding="utf-8", errors="replace") as told:
        ours.close()
        said = told.read()
    process.join()
    assert process.exitcode is not None
    return Ended(process.exitcode, said)


def _command(
    folder: Path,
    words: Sequence[str],
    moment: Moment | None,
    line: int | None,
    counts: Path | None,
    said: Connection,
) -> None:
    _speak_into(said)
    os.chdir(folder)
    os.environ[places.CACHE] = str(folder / "cache")
    ready: list[_Worker] = []
    while len(ready) < _READY:
        ready.append(_Worker(ready, None if ready else moment, None if ready else counts))
    pool.begin_worker = lambda job, *how: ready.pop(0).begin(job)  # type: ignore[assignment,return-value]
    if line is not None:
        lines = Lines(lambda part, nth: _die() if sum(lines.counts.values()) == line else None)
        lines.watch()
    code = app.run(list(words))
    for idle in ready:
        idle.kill()
    sys.exit(code)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Worker:
    """What `subprocess.Popen` is to the pool, forked before there are threads: no new interpreter has to load torch."""

    def __init__(self, others: Sequence["_Worker"], moment: Moment | None, counts: Path | None) -> None:
        parent, (their_stdin, our_stdin), (our_stdout, their_stdout) = os.getpid(), os.pipe(), os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            for end in (our_stdin, our_stdout, *(own.fileno() for other in others for own in other.pipes)):
                os.close(end)
            _work(their_stdin, their_stdout, parent, moment, counts)
        os.close(their_stdin)
        os.close(their_stdout)
        self.stdin = os.fdopen(our_stdin, "w", encoding="utf-8")
        self.stdout = os.fdopen(our_stdout, encoding="utf-8", errors="replace")

    @property
    def pipes(self) -> tuple[TextIO, TextIO]:
        return self.stdin, self.stdout

    def begin(self, job: Job) -> "_Worker":
        self.stdin.write(job.encode() + "\n")
        self.stdin.flush()
        return self

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)


def _work(stdin: int, stdout: int, parent: int, moment: Moment | None, counts: Path | None) -> NoReturn:
    os.dup2(stdin, 0)
    sys.stdin = os.fdopen(0, encoding="utf-8")
    _speak_into(Connection(stdout))
    lines = Lines() if moment is None else Lines(_deadly(moment, parent))
    if counts is not None or moment is not None:
        lines.watch()
    code = worker.main()
    if counts is not None:
        counts.write_text(json.dumps(lines.counts))
    os._exit(code)


def _deadly(moment: Moment, parent: int) -> Callable[[Part, int], None]:
    victim = os.getpid() if moment.victim is Victim.WORKER else parent

    def reach(part: Part, nth: int) -> None:
        if (part, nth) == (moment.part, moment.nth):
            os.kill(victim, signal.SIGKILL)

    return reach


def _speak_into(pipe: Connection) -> None:
    """Make it standard output and error."""
    for number in (1, 2):
        os.dup2(pipe.fileno(), number)
    pipe.close()
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", buffering=1)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1)
