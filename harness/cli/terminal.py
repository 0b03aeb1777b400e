"""Standard output and error: written to whatever they are, and no failure of theirs stops the work."""

from __future__ import annotations

import errno
import os
import sys
from io import TextIOWrapper


class Patient(TextIOWrapper):
    """A standard stream that replaces what its encoding lacks, and leads nowhere once it cannot be written."""

    def __init__(self, stream: TextIOWrapper) -> None:
        encoding, lines, through = stream.encoding, stream.line_buffering, stream.write_through
        super().__init__(stream.detach(), encoding, "backslashreplace", None, lines, through)
        self.fault: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.fault = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def prepare() -> None:
    """Make standard output and error patient, open what is closed, and forget a width that leaves no room."""
    _open_closed()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout = Patient(sys.stdout)
    if isinstance(sys.stderr, TextIOWrapper):
        sys.stderr = Patient(sys.stderr)
    for name in ("COLUMNS", "LINES"):
        if os.environ.get(name, "1").strip().lstrip("-0") == "":
            del os.environ[name]


def lost() -> str | None:
    """Why a part of standard output was not written; None where all was, or where its reader went away."""
    sys.stdout.flush()
    fault = sys.stdout.fault if isinstance(sys.stdout, Patient) else None
    return None if fault is None or fault.errno == errno.EPIPE else fault.strerror


def _open_closed() -> None:
    """Closed standard streams lead nowhere; otherwise the next file that is opened would take their number."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)
    os.close(handle)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
