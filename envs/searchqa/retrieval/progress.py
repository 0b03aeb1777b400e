"""How far the reading or writing of a large file is."""

from __future__ import annotations

import math
import sys
import time

_GB = 10**9
_EVERY_S = 15.0


class Progress:
    """A line on standard error at first, and another every quarter of a minute.

    Args:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._shown = -math.inf

    def add(self, doing: str, count: int) -> None:
        """So many bytes more are about to be done; `doing` says of what."""
        now = time.monotonic()
        if now - self._shown >= _EVERY_S:
            done = f"{self._done / _GB:.1f} of {self._total / _GB:.1f} GB"
            print(f"stepcredit: {doing}: {done}", file=sys.stderr, flush=True)
            self._shown = now
        self._done += count
