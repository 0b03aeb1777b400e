"""The one exception that means: the results cannot be shown as they are."""

from __future__ import annotations


class PaperError(ValueError):
    """Bad results: one sentence that says what, which file, the value seen and what to do."""
