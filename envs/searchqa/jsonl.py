"""JSON lines, plain or gzipped."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stepcredit.envs.contract import EnvError

_SHOWN = 60


def jsonl_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of a .jsonl or .jsonl.gz file, each with where it stands; blank lines are passed over.

    Raises:
        EnvError: the file is missing or truncated, or a line is no JSON object.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    where = f"{path} line {number}"
                    yield where, _object(line, where)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise EnvError(f"{path} is truncated or damaged ({error}); copy it again") from error
    except OSError as error:
        raise EnvError(f"{path} cannot be read ({error.strerror}); check that it is a readable file") from error


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a .jsonl or .jsonl.gz file: whole, or not at all; equal rows give equal bytes.

    Raises:
        EnvError: the file cannot be written.
    """
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    partial = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
        partial.replace(path)
    except OSError as error:
        raise EnvError(f"{path} cannot be written ({error.strerror}); choose another place") from error


def _object(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise EnvError(f"{where} is not JSON ({error}): {line[:_SHOWN]!r}; copy the file again") from error
    if not isinstance(row, dict):
        raise EnvError(f"{where} is not a JSON object: {line[:_SHOWN]!r}; give one object a line")
    return row
