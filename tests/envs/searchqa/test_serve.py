"""`stepcredit serve-retriever` as a process: it says when it is ready, serves, and ends without a traceback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest

from stepcredit.envs.searchqa.retrieval.contract import Hit
from stepcredit.envs.searchqa.retrieval.server import create_app
from stepcredit.harness.cli.app import run
from tests.envs.searchqa.engines import FOUR, Listed
from tests.envs.searchqa.serving import free_port, serving

COMMAND = [sys.executable, "-m", "stepcredit.harness.cli", "serve-retriever"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "four.jsonl"
    path.write_text("".join(json.dumps(asdict(passage)) + "\n" for passage in FOUR.passages))
    return path


@contextmanager
def started(cache: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    environ = {name: value for name, value in os.environ.items() if name != "STEPCREDIT_DATA"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [*COMMAND, "--port", "0", *arguments]
    with subprocess.Popen(command, env=environ | {"STEPCREDIT_CACHE": str(cache)}, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command with bad input prints."""
    assert run(["serve-retriever", "--port", "0", *arguments]) == 2
    out, complaint = capsys.readouterr()
    assert (out, complaint.count("\n")) == ("", 1)
    return complaint


@pytest.mark.parametrize("interrupts", [1, 2])
def test_it_serves_until_ctrl_c(tmp_path: Path, corpus: Path, interrupts: int) -> None:
    with started(tmp_path, "--corpus", str(corpus), "--set", "k1=1.2") as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        url, rest = ready.split(" ", 1)
        assert rest == f"serves bm25s over corpus {FOUR.sha256[:12]}\n"
        info = httpx.get(f"{url}/info", timeout=60).json()
        assert (info["k1"], info["corpus_sha256"]) == ("1.2", FOUR.sha256)
        answer = httpx.post(f"{url}/retrieve", json={"query": "grass"}, timeout=60).json()
        assert answer["result"][0][0]["id"] == "cow"
        for _ in range(interrupts):
            process.send_signal(signal.SIGINT)
        out, complaint = process.communicate(timeout=60)
    assert process.returncode in (0, 130)
    assert (out, complaint) == ("stopped\n", "")


def test_shards_are_served_behind_one_address(tmp_path: Path) -> None:
    parts = [Listed({"cat": [Hit(FOUR[place], score)]}, part(place)) for place, score in enumerate((1.0, 2.0))]
    with serving(create_app(parts[0])) as one, serving(create_app(parts[1])) as other:
        with started(tmp_path, "--shards", one, other) as process:
            assert process.stdout is not None
            url, rest = process.stdout.readline().split(" ", 1)
            answer = httpx.post(f"{url}/retrieve", json={"query": "cat"}, timeout=60).json()
        assert rest.startswith("serves dense over corpus ")
        assert [document["id"] for document in answer["result"][0]] == ["dog", "cat"]


def part(place: int) -> dict[str, str]:
    return {"engine": "dense", "corpus_sha256": str(place)}


def test_a_shard_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert f"retrieval server {url} gave no answer in 1 try" in refusal(capsys, "--shards", url)


def test_an_index_that_does_not_belong_is_one_sentence(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--corpus", str(corpus), "--index", str(tmp_path / "missing")]
    assert "there is no index at" in refusal(capsys, "--engine", "lucene", *arguments)
    assert "engine bm25 has no setting index" in refusal(capsys, *arguments)
    (tmp_path / "missing").write_text("no index of anything")
    encoder = ["--set", f"encoder={tmp_path}"]  # holds none
    assert "is no FAISS index" in refusal(capsys, "--engine", "dense", *arguments, *encoder)


def test_a_port_in_use_is_one_sentence(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        complaint = refusal(capsys, "--corpus", str(corpus), "--port", port)
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in complaint


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--engine", "tantivy"], "retriever.engine: "),
        (["--engine", "http"], "--engine http has no passages of its own to serve"),
        (["--set", "k1"], "--set 'k1' lacks a value"),
        (["--set", "k1=1", "--set", "k1=2"], "--set k1 is given twice ('1', '2'); leave one of them out"),
        (["--set", "k2=1"], "unknown setting of a retriever 'k2'"),
        (["--corpus", "missing.jsonl"], "missing.jsonl cannot be read"),
        (["--host", "256.1.1.1"], "cannot listen on 256.1.1.1:0"),
        (["http://host:1"], "'http://host:1' has no effect without --shards"),
        (["--shards"], "there are no shards to ask"),
        (["--shards", "http://host:1", "--engine", "dense"], "--engine has no effect beside --shards"),
        (["--shards", "http://host:1", "--corpus", "some.jsonl"], "--corpus has no effect beside --shards"),
        (["--shards", "http://host:1", "--set", "k1=1"], "engine http has no setting k1"),
        (["--shards", "http://host:1", "--set", "url=http://host:2"], "--set url has no effect beside --shards"),
        (["--engine", "lucene", "--index", "a", "--set", "index=b"], "--set index has no effect beside --index"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint in refusal(capsys, *arguments)
