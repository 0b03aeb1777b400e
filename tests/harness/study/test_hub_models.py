"""A model from the hub, end to end: the path that `make reproduce MODEL=qwen2.5-3b` takes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from stepcredit.harness.cli.app import run
from stepcredit.harness.record import manifest
from stepcredit.harness.record.cell import UPDATES
from stepcredit.harness.record.manifest import Manifest
from tests.harness.hub import QWEN, QWEN_7B, SPARE_ROWS_7B, put_qwen

SMALL = (
    *("updates=2", "checkpoint_every=1", "rollout.tasks=2", "rollout.group=2", "rollout.max_turns=2"),
    *("rollout.max_response_tokens=24", "evaluation.size=2", "evaluation.every=2"),
)


DECAY = ("optim.lr=0.05", "optim.weight_decay=1", "objective.importance=sequence_mask")


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture
def commit(home: Path) -> str:
    return put_qwen(home)


def start(home: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stepcredit.harness.cli", "train", "--model", "qwen2.5-3b", "--suite", "mini"]
    settings = [word for setting in SMALL for word in ("--set", setting)]
    return subprocess.Popen(
        [*command, "--device", "cpu", "--out", str(out), *settings, *words],
        env=os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(home: Path, out: Path, *words: str) -> str:
    """What it says."""
    begun = start(home, out, *words)
    _, said = begun.communicate()
    assert begun.returncode == 0, said
    return said


def kill_after_first_update(begun: subprocess.Popen[str], out: Path) -> None:
    while not list(out.glob("*/checkpoints/update-000001.ckpt")):
        assert begun.poll() is None
        time.sleep(0.01)
    begun.kill()
    begun.communicate()


def run_of(out: Path) -> tuple[Path, Manifest]:
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    found = manifest.read(folder)
    assert found is not None
    return folder, found


def diagnostics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in pq.read_table(folder / UPDATES).column("diagnostics").to_pylist()]


def test_it_trains_in_bfloat16_and_resumes_to_the_same_bits(home: Path, commit: str, tmp_path: Path) -> None:
    """A random policy has no success to learn from: that its weights decay shows that they move."""
    words = [word for setting in DECAY for word in ("--set", setting)]
    assert "note: disk: up to " in train(home, tmp_path / "whole", *words)
    folder, whole = run_of(tmp_path / "whole")
    assert whole.policy.provenance == f"{QWEN}@{commit}"
    assert whole.final_weights_sha256 != whole.policy.weights_sha256
    for numbers in diagnostics(folder):
        assert 0 < numbers["engine_gap_mean"] < 0.2
        assert numbers["engine_gap_mean"] <= numbers["engine_gap_max"]

    killed = tmp_path / "killed"
    kill_after_first_update(start(home, killed, *words), killed)
    train(home, killed, *words)
    _, again = run_of(killed)
    assert again.resumed_at == [1]
    assert again.final_weights_sha256 == whole.final_weights_sha256
    assert again.files[UPDATES] == whole.files[UPDATES]


@pytest.mark.parametrize("divergence", ["sampled", "jsd"])
def test_a_larger_sibling_teaches(home: Path, commit: str, tmp_path: Path, divergence: str) -> None:
    """As Qwen2.5-7B may teach 3B: the same tokens, more layers, and more rows in its output than the student has."""
    assert commit
    put_qwen(home, QWEN_7B, spare=SPARE_ROWS_7B, layers=3)
    options = {"teacher": "checkpoint", "checkpoint": "qwen2.5-7b", "hindsight": "none", "divergence": divergence}
    settings = [f"method_options.{name}={value}" for name, value in options.items()]
    train(home, tmp_path, "--method", "opd", *(word for setting in settings for word in ("--set", setting)))
    folder, found = run_of(tmp_path)
    assert found.teacher is not None
    assert found.teacher.provenance is not None
    assert found.teacher.provenance.startswith(f"{QWEN_7B}@")
    assert found.final_weights_sha256 != found.policy.weights_sha256
    rows = pq.read_table(folder / UPDATES).to_pylist()
    assert any(row["credit_abs_mean"] > 0 or row["distill_loss"] != 0 for row in rows)


def test_importance_without_effect_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for setting in (*SMALL, "objective.importance=token_mask") for word in ("--set", setting)]
    assert run(["train", "--out", str(tmp_path), *words]) == 2
    assert "objective.importance is token_mask, but the engine of model 'tiny'" in capsys.readouterr().err
