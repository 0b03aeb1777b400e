"""The tokens that a run kept of a few training episodes, with their credit: `credits.parquet`, checked."""

from __future__ import annotations

import pandas as pd
from pandas.api.types import is_numeric_dtype

from stepcredit.paper import checks
from stepcredit.paper.errors import PaperError
from stepcredit.paper.parquet import read_columns
from stepcredit.paper.results import Run

CREDITS = "credits.parquet"
PLACE = ("update", "trajectory", "turn", "position")
TOLD = ("task_id", "success", "reward", "hint", "read", "action", "valid", "text", "span")
NUMBERS = ("credit", "gap", "teacher", "student", "distill", "target")


def kept_tokens(run: Run) -> pd.DataFrame:
    """A row a token, in order; a number is NaN where the method has none.

    Raises:
        PaperError: the file is missing, damaged, or has text or gaps where there are none.
    """
    path = run.folder / CREDITS
    rows = read_columns(path, run.manifest.files.get(CREDITS), (*PLACE, *TOLD, *NUMBERS))
    checks.require_no_nulls(path, rows[[*PLACE, *TOLD]])
    for name in NUMBERS:
        known = rows[name].dropna()
        if not known.empty and not is_numeric_dtype(known.infer_objects()):
            raise PaperError(f"{path}, column {name!r}: {known.iloc[0]!r} is no number; run the cell again")
    numbers = {name: pd.to_numeric(rows[name]).astype(float) for name in NUMBERS}
    return rows.assign(**numbers).sort_values(list(PLACE), kind="stable")
