"""Hashes of large files: read once, read again when they changed, and never half remembered."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stepcredit.envs.searchqa.retrieval.contract import RetrievalError
from stepcredit.envs.searchqa.retrieval.fingerprints import fingerprint


@pytest.fixture
def index(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "some.index"
    path.parent.mkdir()
    path.write_bytes(b"vectors" * 1000)
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def overwrite_in_secret(path: Path, content: bytes) -> None:
    """Another content of the same size, with the old time of change: only who reads the file can tell."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_is_read_once_and_that_is_said(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fingerprint([index], tmp_path) == sha256(b"vectors" * 1000)
    said = capsys.readouterr().err
    assert said == f"stepcredit: reading {index} for its sha256, once: 0.0 of 0.0 GB\n"
    overwrite_in_secret(index, b"VECTORS" * 1000)
    assert fingerprint([index], tmp_path) == sha256(b"vectors" * 1000)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", [b"VECTORS" * 1000, b"vectors" * 1001])
def test_a_file_that_changed_is_read_again(index: Path, tmp_path: Path, content: bytes) -> None:
    fingerprint([index], tmp_path)
    index.write_bytes(content)
    os.utime(index, ns=(0, 0))
    assert fingerprint([index], tmp_path) == sha256(content)


def test_the_place_of_a_file_means_nothing(index: Path, tmp_path: Path) -> None:
    moved = index.with_name("elsewhere.index")
    moved.write_bytes(index.read_bytes())
    assert fingerprint([moved], tmp_path) == fingerprint([index], tmp_path)


def test_a_link_is_what_it_leads_to(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / "link.index"
    link.symlink_to(index)
    expected = fingerprint([index], tmp_path)
    capsys.readouterr()
    assert fingerprint([link], tmp_path) == expected
    assert capsys.readouterr().err == ""


def test_several_files_are_hashed_as_the_list_that_sha256sum_prints(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("b", "a")]
    for file in files:
        file.write_text(file.name)
    listed = f"{sha256(b'a')}  a\n{sha256(b'b')}  b\n"
    assert fingerprint(files, tmp_path) == fingerprint(files[::-1], tmp_path) == sha256(listed.encode())


def test_what_was_read_before_an_interruption_stays_read(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RetrievalError, match="missing cannot be read"):
        fingerprint([index, tmp_path / "missing"], tmp_path)
    unreadable = tmp_path / "folder"
    unreadable.mkdir()
    with pytest.raises(RetrievalError, match="folder cannot be read"):
        fingerprint([index, unreadable], tmp_path)
    capsys.readouterr()
    fingerprint([index], tmp_path)
    assert capsys.readouterr().err == ""


def test_who_asks_while_it_is_read_waits(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: fingerprint([index], tmp_path), range(8)))) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_damaged_note_is_no_hash(index: Path, tmp_path: Path) -> None:
    expected = fingerprint([index], tmp_path)
    (note,) = (tmp_path / "fingerprints").glob("*.json")
    for content in (b"", b"{", b"[]", note.read_bytes().replace(b'"sha256": "', b'"sha256": 1, "": "')):
        note.write_bytes(content)
        assert fingerprint([index], tmp_path) == expected


def test_a_cache_that_cannot_be_written_is_one_sentence(index: Path) -> None:
    with pytest.raises(RetrievalError, match=r"cannot be written .*; set STEPCREDIT_CACHE to a folder that can$"):
        fingerprint([index], index)
