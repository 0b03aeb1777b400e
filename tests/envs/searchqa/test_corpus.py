"""Corpora: the two layouts, what identifies them, and every way in which a file can be broken."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.corpus import Corpus, Passage, contents, read_corpus

ROWS = [
    {"id": "p1", "title": "Oslo", "text": "Oslo is the capital of Norway."},
    {"id": "p2", "title": "Ærø", "text": "An island.\nOf Denmark."},
    {"id": "p3", "title": "", "text": ""},
]
PASSAGES = [Passage(**row) for row in ROWS]

passages = st.builds(Passage, id=st.text(max_size=3), title=st.text(max_size=3), text=st.text(max_size=3))
corpora = st.lists(passages, min_size=1, max_size=4, unique_by=lambda passage: passage.id)


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def complaint(path: Path) -> str:
    with pytest.raises(EnvError) as caught:
        read_corpus(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_a_corpus_is_what_the_file_says_in_its_order(tmp_path: Path, name: str) -> None:
    corpus = read_corpus(write(tmp_path / name, ROWS))
    assert list(corpus.passages) == PASSAGES
    assert corpus[1] == corpus.by_id("p2") == corpus[-2] == PASSAGES[1]
    assert len(corpus) == 3


def test_the_hash_is_of_the_content_not_of_the_file(tmp_path: Path) -> None:
    plain = read_corpus(write(tmp_path / "a.jsonl", ROWS))
    packed = read_corpus(write(tmp_path / "b.jsonl.gz", [dict(reversed(row.items())) for row in ROWS]))
    wiki = read_corpus(
        write(tmp_path / "c.jsonl", [{"id": passage.id, "contents": contents(passage)} for passage in PASSAGES])
    )
    assert plain.sha256 == packed.sha256 == wiki.sha256 == Corpus.of(PASSAGES).sha256


def test_the_hash_is_the_same_on_every_machine() -> None:
    """What sha256sum says of the lengths 1 1 2, a line break and the three fields in UTF-8."""
    expected = "7f75e7e039571aa61f82d1d00cc5a222a772b384cc143b0159f34a906e69c004"
    assert Corpus.of([Passage("a", "b", "é")]).sha256 == expected


@settings(max_examples=50, deadline=None)
@given(corpora, corpora)
def test_corpora_that_differ_have_different_hashes(one: list[Passage], other: list[Passage]) -> None:
    assert (Corpus.of(one).sha256 == Corpus.of(other).sha256) == (one == other)


def test_wiki18_lines_are_read(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": 7, "contents": '"The "Old" Mill"\nFirst line.\nSecond line.'},
        {"id": "8", "contents": "No quotes\nText"},
        {"id": "9", "contents": "One line only"},
    ]
    assert tuple(read_corpus(write(tmp_path / "wiki.jsonl", rows)).passages) == (
        Passage("7", 'The "Old" Mill', "First line.\nSecond line."),
        Passage("8", "No quotes", "Text"),
        Passage("9", "One line only", ""),
    )


def test_half_a_surrogate_pair_is_kept(tmp_path: Path) -> None:
    rows = [{"id": "1", "title": "\ud800", "text": "dog"}]
    assert read_corpus(write(tmp_path / "c.jsonl", rows))[0].title == "\ud800"


def _append(line: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes() + line)


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (Path.unlink, "cannot be read (No such file or directory)"),
        (lambda path: path.write_bytes(b"\n\n"), "holds no passages"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "line 3 is not JSON"),
        (_append(b'{"id": "p4"}\n'), "line 4 has no field 'title' (its fields: id)"),
        (_append(b'{"title": "", "text": ""}\n'), "line 4 has no field 'id'"),
        (_append(b'{"id": "p4", "title": null, "text": ""}\n'), "line 4 has title 'None', expected a string"),
        (_append(b'{"id": true, "title": "", "text": ""}\n'), "line 4 has id 'True', expected a string"),
        (_append(b"[1]\n"), "line 4 is not a JSON object"),
        (_append(b"\xff\xfe\n"), "line 4 is not JSON"),
        (_append(b'\n{"id": "p2", "title": "", "text": ""}\n'), "has the id 'p2' at line 2 and at line 5"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, harm: Callable[[Path], object], expected: str) -> None:
    path = write(tmp_path / "corpus.jsonl", ROWS)
    harm(path)
    assert expected in complaint(path)


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[:-12],
        lambda data: data[:40],
        lambda data: b"not gzip",
        lambda data: data[:20] + bytes(20) + data[40:],
        lambda data: data[:-8] + bytes(8),
    ],
)
def test_a_truncated_or_damaged_gzip_is_refused(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path / "corpus.jsonl.gz", ROWS)
    path.write_bytes(harm(path.read_bytes()))
    assert "is truncated or damaged" in complaint(path)


def test_passages_at_hand_obey_the_same_rules() -> None:
    with pytest.raises(EnvError, match="the corpus has the id 'p1' at passage 1 and at passage 2"):
        Corpus.of([PASSAGES[0], PASSAGES[0]])
    with pytest.raises(EnvError, match="the corpus holds no passages"):
        Corpus.of([])
    with pytest.raises(EnvError, match="has no passage 'p9'"):
        Corpus.of(PASSAGES).by_id("p9")
