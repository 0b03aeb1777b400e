"""Atomic writing: a reader sees the old file or the new one, never a part."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from stepcredit.paper.errors import PaperError


def write_atomic(path: Path, content: str | bytes) -> Path:
    """Write `content` to a temporary file beside `path`, then rename it over `path`.

    Raises:
        PaperError: the folder cannot be made or written, or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
    except OSError as error:
        raise PaperError(f"cannot write {path}: {_advice(error)}") from error
    return path


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return "a file stands where a folder is needed; choose another folder"
    if error.errno == errno.EISDIR:
        return "a folder of that name stands there; name a file"
    return f"{error.strerror}; free space or choose another folder"


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
