"""JSON lines and JSON documents, plain or gzipped."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from stepcredit.envs import plain_json
from stepcredit.envs.contract import EnvError

_SHOWN = 60
_BOM = b"\xef\xbb\xbf"
_PLACEHOLDER = b"version https://git-lfs"

Row = Mapping[str, Any]


class PlaceholderError(EnvError):
    """Git LFS has left a few words where the file belongs."""


def jsonl_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """The objects of a .jsonl or .jsonl.gz file, each with where it stands; blank lines are passed over.

    Raises:
        EnvError: the file is missing, truncated or not UTF-8, or a line is no JSON object.
    """
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            if number == 1:
                line = _start(line, path)
            if line.strip():
                where = f"{path} line {number}"
                yield where, _object(_parsed(line, where), where, line, "give one object a line")


def json_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """The rows of a .json or .json.gz file, each with where it stands.

    It holds a list of objects, a mapping from ids to objects, {"data": list}, a mapping from column names to columns,
    or JSON lines after all.

    Raises:
        EnvError: the file is missing, truncated or not UTF-8, or holds something else.
    """
    with _opened(path) as file:
        data = _start(file.read(), path)
    if not data.strip():
        return
    try:
        value = plain_json.parse(data.decode("utf-8", "surrogatepass"))
    except ValueError:
        yield from _lines_or_error(data, path)
        return
    for number, row in enumerate(_rows_in(value), 1):
        where = f"{path} row {number}"
        yield where, _object(row, where, str(row).encode(), "give a list of objects")


def require_data(path: Path) -> None:
    """Check that the file is not a placeholder of Git LFS; a file that cannot be opened is another's business.

    Raises:
        PlaceholderError: it is one.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_PLACEHOLDER))
    except OSError:
        return
    if start == _PLACEHOLDER:
        raise PlaceholderError(
            f"{path} is a placeholder that Git LFS has not filled; run `git lfs pull` where it is from"
        )


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


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        require_data(path)
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise EnvError(f"{path} is truncated or damaged ({error}); copy it again") from error
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> EnvError:
    """What to say of a file that cannot be opened or read."""
    return EnvError(f"{path} cannot be read ({error.strerror}); check that it is a readable file")


def _start(data: bytes, path: Path) -> bytes:
    """The file's beginning without UTF-8's mark.

    Raises:
        EnvError: it is in UTF-16 or UTF-32, which have NUL among the first four bytes or a mark of their own.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or (b"\0" in data[:4] and data[:4].strip(b"\0")):
        raise EnvError(f"{path} is in UTF-16 or UTF-32 ({data[:4]!r}), expected UTF-8; save it as UTF-8")
    return data.removeprefix(_BOM)


def _parsed(line: bytes, where: str) -> Any:
    if b"\0" in line:
        raise EnvError(f"{where} holds NUL bytes, so it is damaged: {line[:_SHOWN]!r}; copy the file again")
    try:
        return plain_json.parse(line.decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError as error:
        raise EnvError(f"{where} is not JSON in UTF-8 ({error}): {line[:_SHOWN]!r}; save it as UTF-8") from error
    except plain_json.JsonError as error:
        raise EnvError(f"{where} is not JSON ({error}): {line[:_SHOWN]!r}; copy the file again") from error


def _object(value: Any, where: str, seen: bytes, advice: str) -> Row:
    if not isinstance(value, dict):
        raise EnvError(f"{where} is not a JSON object: {seen[:_SHOWN]!r}; {advice}")
    return value


def _lines_or_error(data: bytes, path: Path) -> Iterator[tuple[str, Row]]:
    """JSON lines that are called .json; where the first line is no object, what is wrong with the document."""
    lines = data.split(b"\n")
    placed = [(f"{path} line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    if len(placed) < 2 or not _is_object(placed[0][1]):
        _parsed(data, str(path))
    for where, line in placed:
        yield where, _object(_parsed(line, where), where, line, "give one object a line")


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(plain_json.parse(line), dict)
    except ValueError:
        return False


def _rows_in(value: Any) -> list[Any]:
    match value:
        case {"question": list() | dict()}:
            return _rows_of_columns(value)
        case dict() if value and all(isinstance(row, dict) for row in value.values()):
            return [{"id": name} | row for name, row in value.items()]
        case dict():
            lists = [rows for rows in value.values() if isinstance(rows, list) and rows and isinstance(rows[0], dict)]
            return lists[0] if len(lists) == 1 and "question" not in value else [value]
    return value if isinstance(value, list) else [value]


def _rows_of_columns(columns: Mapping[str, Any]) -> list[Any]:
    """pandas writes a table as its columns, each a list or a mapping from row names."""
    by_name = {name: _column(column) for name, column in columns.items() if isinstance(column, list | dict)}
    return [{name: column.get(row) for name, column in by_name.items()} for row in by_name["question"]]


def _column(column: list[Any] | dict[str, Any]) -> Mapping[Any, Any]:
    return column if isinstance(column, dict) else dict(enumerate(column))
