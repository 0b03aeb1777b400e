"""A run in inspect_ai's format: numbers as in the run's files, the same bytes, and read back by that package."""

import json
from pathlib import Path

import pandas as pd
import pytest

from stepcredit.harness.cli.app import run
from stepcredit.paper.inspect_log import EVALUATION, TRAINING, export_inspect
from tests.paper.support import write_run

RUN = Path(__file__).parents[2] / "results/ablations/diagnostic-null_causal/hindsight=peer_traj"
RUN = RUN / "diagnostic-null_causal-tiny-opd-s0"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    assert len(export_inspect(RUN, folder)) == 2
    return folder


def log_of(logs: Path, kind: str) -> Path:
    (path,) = logs.glob(f"*-{kind}_*.json")
    return path


def test_an_evaluation_is_that_of_the_run(logs: Path) -> None:
    log = json.loads(log_of(logs, EVALUATION).read_text())
    rows = pd.read_parquet(RUN / "episodes.parquet").query("phase == 'eval' and update == 60")
    assert len(log["samples"]) == len(rows)
    assert log["results"]["scores"][0]["metrics"]["mean"]["value"] == pytest.approx(rows["success"].mean())
    won = {sample["id"] for sample in log["samples"] if sample["scores"]["success"]["value"]}
    assert won == set(rows[rows["success"]]["task_id"])


def test_turns_carry_what_was_said_and_its_credit(logs: Path) -> None:
    samples = json.loads(log_of(logs, TRAINING).read_text())["samples"]
    rows = pd.read_parquet(RUN / "credits.parquet")
    assert len(samples) == len(rows.groupby(["update", "trajectory"]))
    first = rows.query("update == 0 and trajectory == 0")
    said = [message for message in samples[0]["messages"] if message["role"] == "assistant"]
    for message, (_, turn) in zip(said, first.groupby("turn"), strict=True):
        assert message["content"] == "".join(turn["text"])
        assert message["metadata"]["credit"] == pytest.approx(turn["credit"].sum(), abs=1e-5)


def test_equal_runs_have_equal_logs(logs: Path, tmp_path: Path) -> None:
    for path in export_inspect(RUN, tmp_path):
        assert path.read_bytes() == (logs / path.name).read_bytes()


def test_inspect_reads_them_back(logs: Path) -> None:
    log = pytest.importorskip("inspect_ai.log", reason="inspect_ai is not installed")
    assert len(log.list_eval_logs(str(logs))) == 2, "the viewer shows what this lists"
    for kind in (EVALUATION, TRAINING):
        read = log.read_eval_log(str(log_of(logs, kind)))
        assert read.status == "success"
        assert len(read.samples) == read.results.total_samples > 0


def test_what_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(RUN)]) == 2
    assert "knows one: --inspect" in capsys.readouterr().err
    assert run(["export", str(tmp_path), "--inspect"]) == 2
    assert "holds no complete run" in capsys.readouterr().err
    (tmp_path / "taken").write_text("")
    assert run(["export", str(RUN), "--inspect", "--out", str(tmp_path / "taken")]) == 2
    assert "a file stands where a folder is needed; choose another folder" in capsys.readouterr().err
    begun = write_run(tmp_path, changes={"status": "running"})
    assert run(["export", str(begun), "--inspect"]) == 2
    assert "is not finished" in capsys.readouterr().err
