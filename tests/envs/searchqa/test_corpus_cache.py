"""Corpora in the cache: read once, checked when they are opened, whole or not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa import records
from stepcredit.envs.searchqa.corpus import Corpus, Passage, read_corpus
from stepcredit.envs.searchqa.records import Records, write_records

CITY, TOWN = Passage("1", "Oslo", "a city"), Passage("1", "Oslo", "a town")
OTHER = Passage("2", "Ærø", "")

texts = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=4) | st.just("\ud800")
passages = st.builds(Passage, id=texts, title=texts, text=texts)
corpora = st.lists(passages, min_size=1, max_size=6, unique_by=lambda passage: passage.id)


def write(path: Path, content: Sequence[Passage]) -> Path:
    path.write_text("".join(json.dumps(asdict(passage)) + "\n" for passage in content))
    return path


def kept(cache: Path) -> list[str]:
    """What lies in the cache, but for locks."""
    return [path.name for path in cache.iterdir() if path.suffix != ".lock"] if cache.is_dir() else []


@settings(max_examples=60, deadline=None)
@given(corpora, st.slices(6))
def test_a_corpus_of_a_file_is_like_one_in_memory(content: list[Passage], part: slice) -> None:
    held = Corpus.of(content)
    with tempfile.TemporaryDirectory() as name:
        path = write(Path(name) / "corpus.jsonl", content)
        for read in (read_corpus(path, Path(name) / "cache"), read_corpus(path, Path(name) / "cache")):
            assert (len(read), read.sha256, list(read.passages)) == (len(held), held.sha256, content)
            assert read == held
            assert tuple(read.passages[part]) == held.passages[part]
            assert [read.by_id(passage.id) for passage in content] == content
            assert [read[at] for at in range(-len(content), len(content))] == content * 2
            with pytest.raises(IndexError):
                read[len(content)]
            with pytest.raises(EnvError, match=r"corpus\.jsonl has no passage 'nobody'"):
                read.by_id("nobody")


def test_the_file_is_read_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, cache = write(tmp_path / "corpus.jsonl", [CITY]), tmp_path / "cache"
    before = read_corpus(path, cache)
    status = path.stat()
    os.utime(write(path, [TOWN]), ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "link.jsonl").symlink_to(path)
    assert read_corpus(tmp_path / "link.jsonl", cache)[0] == CITY
    assert capsys.readouterr() == ("", "")

    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert read_corpus(path, cache)[0] == TOWN
    assert capsys.readouterr().err == f"{path} changed after it was read into the cache; reading it again\n"
    assert len(kept(cache)) == 1
    assert list(before.passages) == [CITY], "a corpus that is open stays what it was"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "records.bin").write_bytes(b""), "is damaged (records.bin is not as it was written)"),
        (lambda folder: (folder / "starts.npy").unlink(), "is damaged (its files are not those"),
        (lambda folder: (folder / "manifest.json").unlink(), "is damaged (no readable manifest.json)"),
    ],
)
def test_what_was_damaged_in_the_cache_is_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[Path], object], said: str
) -> None:
    path, cache = write(tmp_path / "corpus.jsonl", [CITY, OTHER]), tmp_path / "cache"
    read_corpus(path, cache)
    harm(cache / kept(cache)[0])
    assert list(read_corpus(path, cache).passages) == [CITY, OTHER]
    message = capsys.readouterr().err
    assert said in message
    assert message.endswith("; reading it again\n")


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems have names in UTF-8 alone")
def test_a_file_may_be_called_anything(tmp_path: Path) -> None:
    path = write(tmp_path / os.fsdecode(b"c\xff.jsonl"), [CITY])
    for _ in range(2):
        assert list(read_corpus(path, tmp_path / "cache").passages) == [CITY]


def test_a_broken_file_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    path, cache = write(tmp_path / "corpus.jsonl", [CITY, OTHER]), tmp_path / "cache"
    path.write_text(path.read_text() + "{")
    with pytest.raises(EnvError, match="line 3 is not JSON"):
        read_corpus(path, cache)
    assert kept(cache) == []


def test_of_two_faults_the_first_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "corpus.jsonl", [CITY, OTHER, TOWN])
    path.write_text(path.read_text() + "{")
    with pytest.raises(EnvError, match="has the id '1' at line 1 and at line 3"):
        read_corpus(path, tmp_path / "cache")


def test_a_process_that_is_killed_while_it_reads_is_no_hindrance(tmp_path: Path) -> None:
    path, cache = tmp_path / "corpus.jsonl", tmp_path / "cache"
    os.mkfifo(path)
    code = "import sys; from pathlib import Path; from stepcredit.envs.searchqa.corpus import read_corpus;"
    call = "read_corpus(Path(sys.argv[1]), Path(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", code + call, str(path), str(cache)])
    with path.open("w") as pipe:
        pipe.write('{"id": "1", "title": "", "text": ""}\n')
        pipe.flush()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [name for name in kept(cache) if not name.endswith(".building")] == []
    path.unlink()
    assert list(read_corpus(write(path, [CITY]), cache).passages) == [CITY]
    assert len(kept(cache)) == 1


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvError, match=r"cache .*file cannot be written .*set STEPCREDIT_CACHE"):
        read_corpus(write(tmp_path / "corpus.jsonl", [CITY]), tmp_path / "file")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abc", max_size=2), min_size=1, max_size=8), st.integers(1, 3))
def test_keys_whose_hashes_are_equal_are_told_apart(keys: list[str], hashes: int) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(records, "_hash", lambda key: len(key) % hashes)
        write_records(Path(folder), [(key, "") for key in keys])
        found = Records(Path(folder))
        assert [found.find(key) for key in keys] == [keys.index(key) for key in keys]
        assert found.find("d") is None
        second = next((at for at, key in enumerate(keys) if keys.index(key) < at), None)
        assert found.first_repeated() == (None if second is None else (keys.index(keys[second]), second))
