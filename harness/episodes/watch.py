"""Calls of an environment that are given up when they take too long.

An alarm signal interrupts the call where it stands, in Python code, a sleep, a lock or a read. A thread could only be
left behind, computing on; a process for each environment would make every step dearer, and most cannot be pickled. A
call that is stuck in compiled code which looks at no signals is not given up.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import ParamSpec, Self, TypeVar

from stepcredit.envs.contract import EnvFailure
from stepcredit.harness.errors import UserError

_AGAIN_S = 1.0
"""Between looks once the first call may be late, and between interruptions of one that goes on all the same."""

P = ParamSpec("P")
Answer = TypeVar("Answer")


class _Late(BaseException):
    """No `Exception`, so that an environment that handles its own errors does not handle this one."""


class Watch:
    """Over a block of calls, so that none of them pays for a timer of its own.

    Args:
        limit_s: seconds that a call may take; None watches nothing.
    """

    def __init__(self, limit_s: float | None) -> None:
        self._limit_s = limit_s
        self._began: float | None = None

    def __enter__(self) -> Self:
        """Begin to watch; the process's alarm is taken over until the block ends.

        Raises:
            UserError: this is not the main thread, where alone signals arrive.
        """
        if self._limit_s is not None:
            try:
                self._handler = signal.signal(signal.SIGALRM, self._look)
            except ValueError as error:
                raise UserError(
                    f"rollout.env_timeout_s={self._limit_s:g} needs the main thread, and episodes are played in "
                    "another one; set it to null there"
                ) from error
            self._timer = signal.setitimer(signal.ITIMER_REAL, self._limit_s, min(self._limit_s, _AGAIN_S))
        return self

    def __exit__(self, *details: object) -> None:
        if self._limit_s is not None:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, self._handler)
            signal.setitimer(signal.ITIMER_REAL, *self._timer)

    def call(self, task_id: str, function: Callable[P, Answer], *arguments: P.args, **named: P.kwargs) -> Answer:
        """What the function of the task's environment answers.

        Raises:
            EnvFailure: nothing, in time.
        """
        try:
            self._began = monotonic()
            try:
                return function(*arguments, **named)
            finally:
                self._began = None
        except _Late:
            self._began = None
            raise EnvFailure(
                f"the environment of {task_id} did not come back from {function.__name__}() in {self._limit_s:g} s and "
                "was given up (rollout.env_timeout_s)"
            ) from None

    def _look(self, number: int, frame: FrameType | None) -> None:
        """Interrupt the call that is waited for, if it is late."""
        assert self._limit_s is not None
        if self._began is not None and monotonic() - self._began >= self._limit_s:
            raise _Late
