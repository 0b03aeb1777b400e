"""What a file system promises, and what is done where it promises less: some refuse locks, some fsync."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import BinaryIO

_UNSUPPORTED = {
    *(errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOTTY, errno.ENODEV),
    *(errno.EPERM, errno.EACCES),  # of sandboxes
}
_NO_FOLDER_HANDLE = _UNSUPPORTED | {errno.EBADF, errno.EISDIR}


def lock(file: BinaryIO, *, wait: bool) -> str | None:
    """Lock an open, writable file for this process; the system frees it when the process ends, however it ends.

    Where `flock` is refused, record locks are tried: they do not keep threads of one process apart.

    Returns:
        Why the file is not locked as well as usual; None where it is.

    Raises:
        BlockingIOError: another process holds it, and `wait` is off.
        OSError: a failure other than a call that is not supported.
    """
    flags = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
    try:
        fcntl.flock(file, flags)
        return None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        refused = f"flock is refused ({error.strerror})"
    try:
        fcntl.lockf(file, flags)
        return f"{refused}; record locks are used"
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return f"{refused}, and record locks too ({error.strerror}); two processes could write one folder"


def sync_file(file: BinaryIO) -> str | None:
    """Have an open file's bytes written to the disk; says why, where the file system has no such call.

    Raises:
        OSError: the bytes could not be written.
    """
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return f"refused ({error.strerror}); a power cut may lose what was written last"
    return None


def sync_folder(folder: Path) -> str | None:
    """Have the names in a folder written to the disk; says why, where the file system has no such call.

    Raises:
        OSError: the names could not be written.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_HANDLE:
            raise
        return f"refused ({error.strerror}); a power cut may lose the files that were written last"
    return None


def weaker_promises(folder: Path) -> dict[str, str]:
    """What a writable folder's file system does not promise, and why; empty where it does all that is asked of it.

    Raises:
        OSError: the folder cannot be written.
    """
    probe = folder / f".probe.{os.getpid()}.tmp"
    try:
        with probe.open("wb") as file:
            found = {"lock": lock(file, wait=False), "fsync of files": sync_file(file)}
    finally:
        probe.unlink(missing_ok=True)
    found["fsync of folders"] = sync_folder(folder)
    return {name: why for name, why in found.items() if why is not None}
