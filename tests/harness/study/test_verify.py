"""`stepcredit verify`: a run that comes out again, one that does not, and what cannot be verified."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stepcredit.harness.cli.app import run
from stepcredit.harness.record import files
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.record.rows import EpisodeRow, UpdateRow, read_rows, write_rows
from tests.harness.cells import run_here, small_spec


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study, spec = tmp_path_factory.mktemp("recorded"), small_spec("updates=2", "evaluation.samples=2")
    run_here(study, spec.model_dump(mode="json"))
    return Cell(study, spec).folder


@pytest.fixture
def folder(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to do with as one likes."""
    monkeypatch.setenv("STEPCREDIT_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(recorded, tmp_path / recorded.name))


def said(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, str]:
    code, told = run(["verify", str(folder), *words]), capsys.readouterr()
    return code, told.out + told.err


def forge(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = files.read_json(folder / "manifest.json")
    change(content)
    files.write_json(folder / "manifest.json", content)


def vouched(folder: Path, name: str) -> None:
    """Make the manifest vouch for the file as it is now."""
    forge(folder, lambda content: content["files"].update({name: files.sha256_of(folder / name)}))


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ((), "2 of 2 updates made again, 42 recorded rows and the last weights compared: equal, bit for bit"),
        (("--updates", "1"), "1 of 2 updates made again, 21 recorded rows compared: equal, bit for bit"),
        (("--updates", "0"), "0 of 2 updates made again, 8 recorded rows compared: equal, bit for bit"),
        (("--updates", "9"), "2 of 2 updates made again, 42 recorded rows and the last weights compared: equal"),
    ],
)
def test_a_run_comes_out_again(
    folder: Path, words: tuple[str, ...], answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = said(capsys, folder, *words)
    assert code == 0
    assert told.startswith(answer)
    assert not list((folder.parent / "cache" / "verify").iterdir()), "nothing is left lying about"


def test_a_last_bit_that_differs_is_told_and_where(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read_rows(folder / "updates.parquet", UpdateRow)
    rows[1] = replace(rows[1], grad_norm=math.nextafter(rows[1].grad_norm, math.inf))
    write_rows(folder / "updates.parquet", rows, UpdateRow)
    vouched(folder, "updates.parquet")
    assert said(capsys, folder, "--updates", "1")[0] == 0, "the first update is as it was"
    code, told = said(capsys, folder)
    assert code == 1
    assert "they differ" in told
    assert "1 of 2 updates, first at update 1: grad_norm: " in told
    assert "versions and settings are the same" in told


def test_an_episode_that_differs_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read_rows(folder / "episodes.parquet", EpisodeRow)
    rows[3] = replace(rows[3], rollout_sha256="0" * 64)
    write_rows(folder / "episodes.parquet", rows, EpisodeRow)
    vouched(folder, "episodes.parquet")
    forge(folder, lambda content: content["versions"].update(torch="1.0"))
    code, told = said(capsys, folder, "--updates", "0")
    assert code == 1
    assert f"first at update 0, eval episode {rows[3].trajectory} of {rows[3].task_id}: rollout_sha256: 0000" in told
    assert "the run was made with other versions or on another machine: versions.torch: 1.0 there" in told


def test_what_cannot_be_verified_is_one_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> str:
        code, told = said(capsys, folder)
        assert code == 2
        assert told.count("\n") == 1
        return told

    assert "holds no run" in said(capsys, folder.parent)[1]
    forge(folder, lambda content: content.update(status="running"))
    assert "is not complete, so there is nothing to compare with yet" in refused()
    forge(folder, lambda content: content.update(status="complete"))
    forge(folder, lambda content: content["policy"].update(weights_sha256="0" * 64))
    assert "started from other weights or data than are here (policy.weights_sha256: 0000" in refused()
    (folder / "probes.parquet").write_bytes(b"")
    assert "probes.parquet is damaged" in refused()


def test_an_interrupted_call_goes_on_where_it_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stepcredit.harness.record.manifest.source_commit", lambda: ("c" * 40, False))
    with monkeypatch.context() as patch:
        patch.setattr("stepcredit.harness.study.verify.Rows.of", interrupted)
        assert run(["verify", str(folder)]) == 130
    (scratch,) = (folder.parent / "cache" / "verify").iterdir()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("stepcredit.harness.run.train.rollout", interrupted)
        assert said(capsys, folder)[0] == 0, "no episode was played again"
    assert not scratch.exists()


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt
