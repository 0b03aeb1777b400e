"""Trackers: what they are told is what the result files say, and nothing that they do changes a run."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from stepcredit.harness import determinism, tracking
from stepcredit.harness.cli.app import run
from stepcredit.harness.progress import Report
from stepcredit.harness.record import manifest
from stepcredit.harness.record.cell import EPISODES, UPDATES, Cell
from stepcredit.harness.record.checkpoint import RunState
from stepcredit.harness.record.rows import EpisodeRow, TimingRow, UpdateRow, read_rows
from stepcredit.harness.run.train import train
from stepcredit.harness.setup.parts import assemble
from stepcredit.harness.tracking import KINDS, Kind, Numbers, numbers_of
from tests.harness.cells import run_here, small_spec

SPEC = small_spec("updates=2", "evaluation.every=2")


def installed(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = tmp_path_factory.mktemp("untracked")
    run_here(study, SPEC.model_dump(mode="json"))
    return Cell(study, SPEC).folder


def tracked(study: Path, *names: str) -> tuple[Path, list[Report]]:
    cell, reports = Cell(study, SPEC), list[Report]()
    train(cell, assemble(SPEC, "cpu"), determinism.switch_on(1, "cpu"), reports.append, names)
    return cell.folder, reports


def hashes(folder: Path) -> dict[str, str]:
    found = manifest.read(folder)
    assert found is not None
    return {name: hashed for name, hashed in found.files.items() if name != "timings.parquet"} | {
        "weights": str(found.final_weights_sha256)
    }


def success(folder: Path, update: int) -> float:
    rows = [r for r in read_rows(folder / EPISODES, EpisodeRow) if r.phase == "eval" and r.update == update]
    return sum(row.success for row in rows) / len(rows)


@installed("tensorboard")
def test_tensorboard_shows_what_the_files_say(tmp_path: Path, untracked: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = tracked(tmp_path, "tensorboard")
    assert hashes(folder) == hashes(untracked)
    found = EventAccumulator(str(folder / tracking.FOLDER)).Reload()
    values = {point.step: point.value for point in found.Scalars("eval/success")}
    assert values == pytest.approx({0: success(folder, 0), 2: success(folder, 2)})
    entropy = {row.update + 1: row.entropy for row in read_rows(folder / UPDATES, UpdateRow)}
    told = [(point.step, point.value) for point in found.Scalars("train/entropy")]
    assert len(told) == len(entropy), "each update is told once"
    assert dict(told) == pytest.approx(entropy)
    names = set(found.Tags()["scalars"])
    assert {"train/kl", "train/mixed_groups", "train/grad_norm", "train/invalid_rate", "seconds/rollout"} <= names
    assert {"speed/rollout_tokens_per_s", "speed/update_tflops", "tokens/rescored", "length/drawn"} <= names


@installed("trackio")
def test_trackio_has_the_run_and_its_settings(tmp_path: Path, untracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    import trackio

    folder, reports = tracked(tmp_path / "study", "trackio")
    assert hashes(folder) == hashes(untracked)
    assert [report.warning for report in reports if report.warning] == []
    (one,) = trackio.Api().runs("stepcredit")
    assert one.name == f"study/{folder.name}"


@installed("wandb")
def test_weights_and_biases_keeps_the_run_off_line(
    tmp_path: Path, untracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder, reports = tracked(tmp_path, "wandb")
    assert hashes(folder) == hashes(untracked)
    assert [report.warning for report in reports if report.warning] == []
    (kept,) = (folder / tracking.FOLDER).glob("wandb/offline-run-*/run-*.wandb")
    assert kept.stem == f"run-{SPEC.sha256[:16]}"
    assert b"train/entropy" in kept.read_bytes()


class _Dying:
    """A tracker whose server goes away."""

    def __init__(self, dies_at: int) -> None:
        self.dies_at, self.heard = dies_at, list[int]()

    def log(self, update: int, numbers: Numbers) -> None:
        self.heard.append(update)
        if update == self.dies_at:
            raise ConnectionError("connection refused\nand a long story")

    def close(self) -> None:
        raise AssertionError("it was let go before")


@pytest.mark.parametrize("dies_at", [0, 1])
def test_a_tracker_that_is_down_is_said_once_and_the_run_goes_on(
    tmp_path: Path, untracked: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    dying = _Dying(dies_at)
    monkeypatch.setattr(tracking, "KINDS", {**KINDS, "theirs": Kind("json", lambda cell: dying)})
    folder, reports = tracked(tmp_path, "theirs")
    assert dying.heard[-1] == dies_at
    assert hashes(folder) == hashes(untracked)
    (said,) = [report.warning for report in reports if report.warning]
    assert said == "theirs is down (connection refused); the run goes on without it"


def test_one_that_cannot_begin_is_let_go(tmp_path: Path, untracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(_: Cell) -> tracking.Tracker:
        raise OSError("no key")

    monkeypatch.setattr(tracking, "KINDS", {"theirs": Kind("json", begin)})
    folder, reports = tracked(tmp_path, "theirs")
    assert hashes(folder) == hashes(untracked)
    assert [report.warning for report in reports if report.warning] == [
        "theirs is down (no key); the run goes on without it"
    ]


def test_what_is_not_there_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(name: str) -> str:
        assert run(["train", "--out", str(tmp_path / "runs"), "--track", name]) == 2
        assert not (tmp_path / "runs").exists()
        return capsys.readouterr().err

    monkeypatch.setattr(tracking, "KINDS", {**KINDS, "theirs": Kind("nobody_has_this", KINDS["wandb"].begin)})
    assert "--track theirs needs the package nobody_has_this; pip install it, or leave it out" in refused("theirs")
    assert "unknown tracker 'tensorbord': did you mean 'tensorboard'?" in refused("tensorbord")


def test_numbers_of_speed_are_those_of_the_row(untracked: Path) -> None:
    """800 tokens in 4 s; what is not known is not told."""
    rows, updates = read_rows(untracked / EPISODES, EpisodeRow), read_rows(untracked / UPDATES, UpdateRow)
    spent = TimingRow(2, 4.0, 1.0, 2.0, 0.5, 800, 300, 500, 100, update_tflops=98.9, update_mfu=0.1)
    numbers = numbers_of(RunState(2, rows, updates, [spent]))
    assert numbers["speed/rollout_tokens_per_s"] == pytest.approx(200.0)
    assert (numbers["seconds/credit"], numbers["tokens/rescored"], numbers["tokens/gradient"]) == (1.0, 300, 500)
    assert (numbers["speed/update_tflops"], numbers["speed/update_mfu"]) == (98.9, 0.1)
    assert "speed/update_mfu" not in numbers_of(RunState(2, rows, updates, [replace(spent, update_mfu=None)]))
    assert numbers["train/mixed_share"] == updates[-1].mixed_groups / updates[-1].groups
    drawn = [row.response_tokens for row in rows if row.phase == "train" and row.update == 1]
    assert numbers["length/drawn"] == pytest.approx(sum(drawn) / len(drawn))
    assert numbers["eval/success"] == pytest.approx(success(untracked, 2))


def test_workers_tell_the_terminal_what_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A note of a worker's gets through to who typed the command."""
    from stepcredit.harness.progress import decode, display_for, encode

    told = decode(encode(Report("a-run", 1, 2, "", "theirs is down (gone); the run goes on without it")))
    assert told is not None
    with display_for({"a-run": 2}, 0) as display:
        display.show(told)
    assert "note: a-run: theirs is down (gone); the run goes on without it" in capsys.readouterr().err
