"""Whatever standard output and error are, finished work ends without a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMMAND = f"{sys.executable} -m stepcredit.harness.cli"
TRAIN = (
    f"{COMMAND} train --seed 0 --jobs 1 --set updates=1 --set rollout.tasks=1 --set rollout.group=2 "
    "--set evaluation.size=2 --set rollout.max_turns=2 --out"
)


def shell(script: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(["bash", "-c", script], env=settings, capture_output=True, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252:strict", "utf-8"])
def test_what_the_terminal_cannot_write_is_replaced(encoding: str, tmp_path: Path) -> None:
    folder = tmp_path / "été中"
    asked = shell(f"{COMMAND} runs '{folder}' 2>&1", PYTHONIOENCODING=encoding)
    shown = asked.stdout.decode(encoding.partition(":")[0])
    assert "Traceback" not in shown
    assert asked.returncode == 2
    assert {"ascii": r"\xe9t\xe9\u4e2d", "utf-8": "été中"}.get(encoding, r"été\u4e2d") in "".join(shown.split())


@pytest.mark.parametrize("command", ["--help", "train --help", "methods", "train --nöpe"])
def test_tables_and_help_on_an_ascii_terminal(command: str) -> None:
    asked = shell(f"{COMMAND} {command} 2>&1", PYTHONIOENCODING="ascii")
    assert b"Traceback" not in asked.stdout
    assert asked.stdout.isascii()
    assert asked.stdout


@pytest.mark.parametrize(
    ("streams", "code"),
    [("> /dev/full 2>&-", 2), ("2>&1 | true; exit ${PIPESTATUS[0]}", 0)],
)
def test_work_is_finished_whatever_the_streams_are(streams: str, code: int, tmp_path: Path) -> None:
    done = shell(f"{TRAIN} {tmp_path}/out {streams}")
    assert done.returncode == code
    assert b"Traceback" not in done.stderr
    assert '"status": "complete"' in next(tmp_path.glob("out/*/manifest.json")).read_text()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_was_lost_is_said(unbuffered: str) -> None:
    done = shell(f"{COMMAND} methods > /dev/full", PYTHONUNBUFFERED=unbuffered)
    said = b"stepcredit: standard output cannot be written (No space left on device); the work is kept\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_a_reader_that_leaves_is_no_fault() -> None:
    done = shell(f"{COMMAND} methods | head -n 1; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, b"")
