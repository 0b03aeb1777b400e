"""Files: written whole or not at all, read with errors that say what to do."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from stepcredit.envs import disk, plain_json
from stepcredit.harness.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_SUFFIX = ".tmp"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_A_FOLDER = {errno.ENOTDIR, errno.EEXIST}


def explain(error: OSError, path: Path) -> UserError:
    """The sentence for an operating-system error while `path` was being written or read."""
    if error.errno in _FULL:
        return UserError(
            f"the disk is full: {path} could not be written; free some space and run the same command again, "
            "nothing finished is lost"
        )
    if error.errno in _REFUSED:
        return UserError(f"no permission for {path} ({error.strerror}); choose another folder or change its owner")
    if error.errno in _NOT_A_FOLDER:
        return UserError(f"{path} cannot be used: a file stands where a folder is needed; choose another folder")
    if error.errno == errno.EISDIR:
        return UserError(f"{path} cannot be used: a folder stands where a file is needed; choose another, or remove it")
    return UserError(f"{path}: {error.strerror or error}; check the path and run the same command again")


def make_folder(path: Path) -> None:
    """Create the folder and its parents.

    Raises:
        UserError: it cannot be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, path) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise explain(PermissionError(errno.EACCES, "not writable"), path)


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only once it is complete and on disk.

    Raises:
        UserError: disk full, no permission, no such folder.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{_SUFFIX}")
    try:
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                disk.sync_file(file)
            temporary.replace(path)
            disk.sync_folder(path.parent)
        except BaseException:
            with suppress(UserError):  # what failed first is what counts; whoever comes next clears it away
                discard(temporary)
            raise
    except OSError as error:
        raise explain(error, path) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write the file atomically."""
    with atomic(path) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with sorted keys, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def write_table(path: Path, table: pd.DataFrame) -> None:
    """A data frame as parquet, atomically.

    Raises:
        UserError: disk full or no permission.
    """
    with atomic(path) as file:
        table.to_parquet(file, index=False)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: missing, unreadable, not JSON or not an object.
    """
    try:
        value = plain_json.parse(path.read_bytes())
    except OSError as error:
        raise explain(error, path) from error
    except plain_json.JsonError as error:
        raise UserError(f"{path} is not valid JSON ({error}); restore it or delete its folder") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a JSON {type(value).__name__}, not an object; restore it or delete its folder")
    return value


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes.

    Raises:
        UserError: missing or unreadable.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise explain(error, path) from error


def remove_leftovers(folder: Path) -> None:
    """Delete the half-written files that a killed process left."""
    for leftover in folder.rglob(f"*{_SUFFIX}"):
        discard(leftover)


@contextmanager
def exclusive(folder: Path, wait_s: float = 5.0) -> Iterator[None]:
    """Hold the folder's lock, so that two processes never write one run.

    A file system without locks gives none, and the run goes on: `weaker_promises` tells.

    Raises:
        UserError: another process still holds it after `wait_s` seconds.
    """
    path = folder / ".lock"
    try:
        file = path.open("wb")
    except OSError as error:
        raise explain(error, path) from error
    with file:
        try:
            free = _locked(file, wait_s)
        except OSError as error:
            raise explain(error, path) from error
        if not free:
            raise UserError(f"another process is writing {folder}; wait for it or stop it first")
        yield


def held(folder: Path) -> bool | None:
    """Whether a process holds the folder's lock; None where the file system does not tell."""
    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def weaker_promises(folder: Path) -> dict[str, str]:
    """What the folder's file system does not promise, and why; see `stepcredit.envs.disk`.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        return disk.weaker_promises(folder)
    except OSError as error:
        raise explain(error, folder) from error


def _locked(file: BinaryIO, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            disk.lock(file, wait=False)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        else:
            return True


def discard(path: Path) -> None:
    """Delete the file, if it is there.

    Raises:
        UserError: it cannot be deleted.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise explain(error, path) from error
