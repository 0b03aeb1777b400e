"""The one exception that means: the user can mend this."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input: one sentence that says what, where, the value seen and what to do. The CLI exits with 2."""
