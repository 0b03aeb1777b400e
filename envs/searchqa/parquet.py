"""Rows of parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.jsonl import require_data

_BATCH = 1024


def parquet_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a parquet file, each with where it stands.

    Raises:
        EnvError: the file is missing, truncated, not parquet or not UTF-8.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_data(path)
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path} row {number}", row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise EnvError(f"{path} cannot be read as parquet ({reason}); copy it again") from error
