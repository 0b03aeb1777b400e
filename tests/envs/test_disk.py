"""File systems that refuse optional calls: what is promised less is told, and what is broken still fails."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from stepcredit.envs import disk

REFUSALS = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENOTTY]


def refuse(monkeypatch: pytest.MonkeyPatch, module: object, name: str, number: int) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, name, refused)


def test_a_usual_file_system_promises_all_and_keeps_no_trace(tmp_path: Path) -> None:
    assert disk.weaker_promises(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", REFUSALS)
def test_a_refused_call_is_told_with_its_reason(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((fcntl, "flock"), (fcntl, "lockf"), (os, "fsync")):
        refuse(monkeypatch, module, name, number)
    found = disk.weaker_promises(tmp_path)
    assert found.keys() == {"lock", "fsync of files", "fsync of folders"}
    assert all(os.strerror(number) in why for why in found.values())


def test_without_flock_another_process_is_kept_out_by_a_record_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, fcntl, "flock", errno.ENOSYS)
    with (tmp_path / "lock").open("wb") as held:
        assert "record locks are used" in str(disk.lock(held, wait=False))
        if (child := os.fork()) == 0:
            with (tmp_path / "lock").open("wb") as wanted:
                try:
                    disk.lock(wanted, wait=False)
                except BlockingIOError:
                    os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fails_is_no_weaker_promise(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, os, "fsync", number)
    with pytest.raises(OSError, match=os.strerror(number)), (tmp_path / "a").open("wb") as file:
        disk.sync_file(file)
    with pytest.raises(OSError, match=os.strerror(number)):
        disk.sync_folder(tmp_path)
