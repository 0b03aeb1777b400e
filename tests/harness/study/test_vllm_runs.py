"""Runs whose episodes vLLM draws: the same tokens as with the reference engine, and the same bits after a kill."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stepcredit.harness.cli.app import run
from stepcredit.harness.engine import vllm
from stepcredit.harness.engine.vllm import vllm_version
from stepcredit.harness.record import manifest
from stepcredit.harness.record.cell import EPISODES, UPDATES
from stepcredit.harness.record.manifest import Manifest

SMALL = ("updates=3", "checkpoint_every=1", "rollout.tasks=2", "evaluation.size=4", "evaluation.every=3")
there = pytest.mark.skipif(vllm_version() is None, reason="vLLM is not installed; make test-vllm installs it")


def start(out: Path, engine: str) -> subprocess.Popen[str]:
    settings = [word for setting in (*SMALL, f"engine={engine}") for word in ("--set", setting)]
    return subprocess.Popen(
        [sys.executable, "-m", "stepcredit.harness.cli", "train", "--out", str(out), *settings],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def trained(out: Path, engine: str) -> Manifest:
    begun = start(out, engine)
    _, said = begun.communicate()
    assert begun.returncode == 0, said
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    found = manifest.read(folder)
    assert found is not None
    return found


@there
def test_a_run_repeats_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", "vllm")
    begun = start(tmp_path / "killed", "vllm")
    while not list((tmp_path / "killed").glob("*/checkpoints/update-000001.ckpt")):
        assert begun.poll() is None
        time.sleep(0.01)
    begun.kill()
    begun.communicate()
    again = trained(tmp_path / "killed", "vllm")
    assert again.resumed_at == [1]
    assert again.final_weights_sha256 == whole.final_weights_sha256
    assert {name: again.files[name] for name in (EPISODES, UPDATES)} == {
        name: whole.files[name] for name in (EPISODES, UPDATES)
    }


@there
def test_a_run_draws_what_the_reference_engine_draws(tmp_path: Path) -> None:
    ours, reference = trained(tmp_path / "vllm", "vllm"), trained(tmp_path / "transformers", "transformers")
    assert ours.spec_sha256 != reference.spec_sha256
    assert ours.files[EPISODES] == reference.files[EPISODES]


@pytest.mark.parametrize(
    ("found", "told"),
    [(None, "needs the package vllm, which is not installed here"), ("0.5.1", "0.5.1 is installed")],
)
def test_without_a_tested_vllm_the_engine_is_refused(
    found: str | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "vllm_version", lambda: found)
    assert run(["train", "--out", str(tmp_path / "out"), "--set", "engine=vllm"]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "engine=transformers" in said
    assert not (tmp_path / "out").exists()
