"""Files appear whole or not at all, and every failure is one sentence."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from stepcredit.harness.errors import UserError
from stepcredit.harness.record import files


def test_writes_whole_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "a.bin", b"123")
    files.write_json(tmp_path / "b.json", {"z": 1, "a": [2]})
    assert (tmp_path / "a.bin").read_bytes() == b"123"
    assert json.loads((tmp_path / "b.json").read_text()) == {"z": 1, "a": [2]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "b.json"]


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")
    with pytest.raises(TypeError), files.atomic(path) as file:
        file.writelines([b"new", "no bytes"])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="a file stands where a folder is needed"):
        files.make_folder(tmp_path / "taken" / "study")


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").mkdir()
    with pytest.raises(UserError, match=r"rows\.parquet cannot be used: a folder stands where a file is needed"):
        files.write_bytes(tmp_path / "rows.parquet", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that refuses new folders")
def test_folder_that_cannot_be_made() -> None:
    with pytest.raises(UserError, match="/proc/study"):
        files.make_folder(Path("/proc/study"))


def test_full_disk_is_one_sentence_and_keeps_the_old_file(small_disk: Path) -> None:
    path = small_disk / "rows.parquet"
    files.write_bytes(path, b"old")
    with pytest.raises(UserError, match="the disk is full") as caught:
        files.write_bytes(path, bytes(1_000_000))
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(small_disk.iterdir()) == [path]


def test_full_device_is_reported_with_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"the disk is full: .*a\.bin.*nothing finished is lost"):
        files.write_bytes(tmp_path / "a.bin", b"1")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b'{"a": 1', "not valid JSON"), (b"[1]", "a JSON list"), (b"\xff\xfe", "not valid JSON")],
)
def test_damaged_json_names_the_file(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=complaint) as caught:
        files.read_json(path)
    assert str(path) in str(caught.value)


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    leftover = tmp_path / "checkpoints" / "update-000001.ckpt.4711.tmp"
    leftover.write_bytes(b"half")
    (tmp_path / "episodes.parquet").write_bytes(b"whole")
    files.remove_leftovers(tmp_path)
    assert not leftover.exists()
    assert (tmp_path / "episodes.parquet").exists()


def _lock_in_vain(folder: Path, answers: "multiprocessing.SimpleQueue[str]") -> None:
    try:
        with files.exclusive(folder, wait_s=0.2):
            answers.put("locked")
    except UserError as error:
        answers.put(str(error))


def test_two_processes_cannot_write_one_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    with files.exclusive(tmp_path):
        other = context.Process(target=_lock_in_vain, args=(tmp_path, answers))
        other.start()
        other.join()
    assert "another process is writing" in answers.get()
    with files.exclusive(tmp_path, wait_s=0.2):
        pass
