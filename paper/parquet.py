"""A result file -> a frame of the columns that are needed, if the file is the one that its manifest vouches for."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stepcredit.paper import checks
from stepcredit.paper.errors import PaperError
from stepcredit.paper.manifest import MANIFEST


def read_table(path: Path, recorded: str | None, needed: Sequence[str], wanted: Sequence[str] = ()) -> pd.DataFrame:
    """The columns `needed`, and those `wanted` that there are.

    Args:
        recorded: the file's sha256 in its run's manifest.

    Raises:
        PaperError: the file is missing, not the recorded one, no parquet, without a needed column, or has nulls.
    """
    frame = read_columns(path, recorded, needed, wanted)
    checks.require_no_nulls(path, frame)
    return frame


def read_columns(path: Path, recorded: str | None, needed: Sequence[str], wanted: Sequence[str] = ()) -> pd.DataFrame:
    """The same of a file that may have numbers missing.

    Raises:
        PaperError: the file is missing, not the recorded one, no parquet, or without a needed column.
    """
    data = _vouched_for(path, recorded)
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        names = file.schema_arrow.names
        frame: pd.DataFrame = file.read([name for name in (*needed, *wanted) if name in names]).to_pandas()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PaperError(f"{path} is no readable parquet file ({reason}); restore it or run the cell again") from error
    missing = [column for column in needed if column not in names]
    if missing:
        raise PaperError(f"{path} lacks the column {missing[0]!r}; it is of another version: run the cell again")
    return frame


def _vouched_for(path: Path, recorded: str | None) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PaperError(f"cannot read {path}: {error.strerror}; restore it or run the cell again") from error
    seen = hashlib.sha256(data).hexdigest()
    if recorded != seen:
        raise PaperError(
            f"{path} has sha256 {seen[:12]}, but {MANIFEST} records {str(recorded)[:12]}; "
            "the file was changed or cut short: restore it or run the cell again"
        )
    return data
