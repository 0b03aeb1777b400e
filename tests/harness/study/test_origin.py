"""The command that makes a study is kept in its folder, whoever typed it: a person or make."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from stepcredit.harness.cli.app import run
from tests.harness.cells import SMALL

ROOT = Path(__file__).resolve().parents[3]


def train(study: Path, *more: str) -> str:
    words = ["train", "--out", str(study), *(word for setting in SMALL for word in ("--set", setting)), *more]
    assert run(words) == 0
    return shlex.join(["stepcredit", *words])


def commands(study: Path) -> list[str]:
    content = json.loads((study / "study.json").read_text())
    assert content["folder"] == str(study)
    return list(content["commands"])


def test_each_command_that_makes_runs_is_kept_once(tmp_path: Path) -> None:
    study = tmp_path / "my study"
    first = train(study)
    second = train(study, "--seed", "1")
    assert "'" in first
    assert commands(study) == [first, second]
    shutil.rmtree(next(study.glob("*-s0")))
    train(study)
    train(study, "--seed", "0", "--seed", "1")  # both are there
    assert commands(study) == [first, second]


def test_a_command_that_is_told_to_stand_for_another_does(tmp_path: Path) -> None:
    train(tmp_path, "--made-by", "make methods")
    assert commands(tmp_path) == ["make methods"]


def test_a_damaged_record_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.json").write_text("{")
    assert run(["train", "--out", str(tmp_path)]) == 2
    assert "study.json is no record of a study's commands" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("reproduce", "make reproduce"),
        ("reproduce JOBS=1 OUT=results/reference", "make reproduce OUT=results/reference"),
        ("reproduce OUT=a METHODS='grpo opd'", "make reproduce METHODS='grpo opd' OUT=a"),
        ("methods OUT=results/methods", "make methods OUT=results/methods"),
        ("demo", "make demo"),
    ],
)
def test_make_hands_on_what_was_typed(typed: str, kept: str) -> None:
    words = ["make", "-n", "-o", "setup", *shlex.split(typed)]
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(words, cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    shown = done.stdout.replace("\\\n", "")
    recorded = [shlex.split(line) for line in shown.splitlines() if "--made-by" in line]
    assert recorded
    assert {words[words.index("--made-by") + 1] for words in recorded} == {kept}
