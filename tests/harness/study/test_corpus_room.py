"""What doctor says of a corpus before its index is built."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from stepcredit.envs.searchqa.corpus import read_corpus
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.needs import CorpusSize, Needs
from stepcredit.envs.searchqa.retrieval.opening import RetrieverSpec
from stepcredit.harness.cli.app import run
from tests.envs.searchqa.engines import DATA, needs_data


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, str]]:
    code = run(["doctor", *arguments, "--json"])
    findings = json.loads(capsys.readouterr().out)
    assert code == (0 if all(finding["ok"] for finding in findings) else 1)
    return code, {finding["name"]: finding["detail"] for finding in findings}


def passages(path: Path, count: int) -> Path:
    rng = random.Random("passages")
    rows = ({"id": str(n), "title": "", "text": str(rng.random()) * rng.randint(1, 9)} for n in range(count))
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEPCREDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_small_corpus_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    code, findings = told(capsys, "--corpus", str(passages(tmp_path / "c.jsonl", 3)))
    assert code == 0
    assert findings["corpus"].startswith("3 passages")
    assert f"{cache} has" in findings["disk"]
    assert not cache.exists(), "nothing is built"


@pytest.mark.parametrize("engine", ["bm25", "lucene"])
def test_what_does_not_fit_is_one_sentence(capsys: pytest.CaptureFixture[str], engine: str) -> None:
    code, findings = told(capsys, "--corpus", str(10**12), "--engine", engine)
    assert code == 1
    assert findings["disk"].startswith("needs ")
    assert findings["disk"].endswith(" GiB free: set STEPCREDIT_CACHE to a folder on a larger disk")


def test_hours_of_an_encoder_are_not_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 384, "num_attention_heads": 12}')
    asked = ("--corpus", "1000000", "--engine", "dense", "--set", f"encoder={tmp_path}")
    _, findings = told(capsys, *asked)
    assert findings["serving"].startswith("1.4 GiB of memory"), "a million vectors of 384 numbers of 4 bytes"
    assert "as long as its device takes" in findings["building"]
    _, lists = told(capsys, *asked, "--set", "index=ivf")
    assert lists["disk"] != findings["disk"]


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz"])
def test_a_large_file_is_estimated_from_its_beginning(tmp_path: Path, name: str) -> None:
    size = CorpusSize.of_file(passages(tmp_path / name, 20_000))
    assert not size.exact
    assert size.passages == pytest.approx(20_000, rel=0.03)
    assert size.content == pytest.approx(passages(tmp_path / "plain.jsonl", 20_000).stat().st_size, rel=0.03)


@needs_data
def test_the_disk_is_what_an_index_takes(tmp_path: Path, cache: Path) -> None:
    with gzip.open(DATA / "corpus.jsonl.gz", "rb") as lines:
        (tmp_path / "c.jsonl").write_bytes(b"".join([*lines][::4]))
    needs = Needs.of(CorpusSize.of_file(tmp_path / "c.jsonl"), RetrieverSpec())
    Bm25Retriever(read_corpus(tmp_path / "c.jsonl"))
    taken = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    assert needs.disk == pytest.approx(taken, rel=0.15)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--corpus", "/nowhere.jsonl"], "/nowhere.jsonl cannot be read (No such file or directory)"),
        (["--corpus", "3", "--gpu", "40"], "--gpu has no effect beside --corpus; leave it out"),
        (["--engine", "bm25"], "--engine has no effect alone; add --model or --corpus, or leave it out"),
        (["--corpus", "3", "--engine", "http"], "engine http has its index where its server is"),
        (["--corpus", "3", "--set", "k1=much"], "retriever.k1: input should be a valid number"),
        (["--corpus", "3", "--engine", "dense", "--set", "encoder=/nowhere"], "sentence encoder '/nowhere' cannot be"),
    ],
)
def test_what_makes_no_sense_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert run(["doctor", *arguments]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("corpus", ["0", "-5"])
def test_no_passages_are_no_corpus(corpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--corpus", corpus]) == 2
    assert f"--corpus {corpus} has no passage; give a file that has some" in capsys.readouterr().err
