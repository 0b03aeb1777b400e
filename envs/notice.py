"""What a user should know and nothing fails over: one line on standard error, once."""

from __future__ import annotations

import sys
from functools import cache


@cache
def say_once(sentence: str) -> None:
    """Print the sentence, the first time that this process says it."""
    print(f"stepcredit: {sentence}", file=sys.stderr)
