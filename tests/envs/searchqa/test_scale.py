"""The command that measures BM25 by size, and the text that it measures with."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from stepcredit.envs.searchqa.corpus import Passage, read_corpus
from stepcredit.envs.searchqa.retrieval import scale
from stepcredit.envs.searchqa.retrieval.scale_text import write_passages
from stepcredit.envs.searchqa.synthetic import synthetic_corpus


def written(path: Path, passages: int) -> list[Passage]:
    write_passages(path, synthetic_corpus().passages, passages)
    return [Passage(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def vocabulary(passages: list[Passage]) -> int:
    return len({word for passage in passages for word in re.findall(r"\w+", passage.text)})


def sentences(passages: list[Passage]) -> Counter[str]:
    return Counter(sentence for passage in passages for sentence in re.split(r"(?<=[.!?]) +", passage.text))


def test_the_text_is_the_sources_in_another_order_and_its_vocabulary_goes_on_growing(tmp_path: Path) -> None:
    source = list(synthetic_corpus().passages)
    several = written(tmp_path / "several.jsonl", 4 * len(source))
    once, rest = several[: len(source)], several[len(source) :]
    assert sentences(once) == sentences(source)
    assert once != source
    assert vocabulary(once) < vocabulary(once + rest[: len(source)]) < vocabulary(several)
    power = vocabulary(source) / vocabulary(source[::2])
    assert vocabulary(several) == pytest.approx(vocabulary(source) * power**2, rel=0.02), "Heaps: twice twice the text"
    assert len(read_corpus(tmp_path / "several.jsonl", tmp_path / "cache")) == len(several), "ids are unique"


def test_a_smaller_corpus_is_the_beginning_of_a_larger_one(tmp_path: Path) -> None:
    larger = written(tmp_path / "larger.jsonl", 5000)
    assert written(tmp_path / "smaller.jsonl", 100) == larger[:100]


def test_the_line_is_the_one_through_the_points() -> None:
    assert scale.line([1, 2, 4], [5, 7, 11]) == pytest.approx((3, 2, 0))
    assert scale.line([0, 1, 2], [0, 3, 0])[2] == pytest.approx(2)


def table(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, dict[str, float]]]:
    header, *rows = capsys.readouterr().out.replace(",", "").splitlines()
    return [(row[:12].strip(), dict(zip(header.split(), map(float, row[12:].split()), strict=True))) for row in rows]


def test_the_command_measures_a_size(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    questions = [f"who wrote {passage.title}?" for passage in synthetic_corpus().passages[:50]]
    monkeypatch.setattr(scale, "data", lambda: (synthetic_corpus(), questions))
    scale.main(["bm25", "300"])
    ((_, found),) = table(capsys)
    assert found["passages"] == 300
    assert 0 < found["file_gb"] < found["disk_gb"] <= found["build_disk_gb"]
    assert 0 < found["private_gb"] < found["resident_gb"]
    assert 0 < found["median_ms"] <= found["p99_ms"]


def test_lines_are_drawn_through_several_sizes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(_: str, passages: int) -> dict[str, float]:
        return dict.fromkeys(scale.MEASURED, 2 + passages / 1e6) | {"passages": float(passages)}

    monkeypatch.setattr(scale, "measure", measured)
    scale.main([])
    *sizes, none, million, off, wikipedia = table(capsys)
    assert [row["passages"] for _, row in sizes] == list(scale.SIZES)
    assert (none[0], none[1]["disk_gb"]) == ("at none", pytest.approx(2))
    assert (million[0], million[1]["disk_gb"]) == ("a million", pytest.approx(1))
    assert (off[0], off[1]["disk_gb"]) == ("off by", pytest.approx(0, abs=1e-6))
    assert (wikipedia[0], wikipedia[1]["disk_gb"]) == ("Wikipedia", pytest.approx(23.02, abs=0.01))
