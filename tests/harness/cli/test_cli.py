"""The command line: one line and the right exit code for everything that goes wrong."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stepcredit.harness.cli.app import run
from stepcredit.harness.record import files

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["train", "--model", "tinny"], "did you mean 'tiny'"),
        (["train", "--method", "grop"], "did you mean 'grpo'"),
        (["train", "--benchmark", "alfwold"], "did you mean 'alfworld'"),
        (["train", "--suite", "mni"], "did you mean 'mini'"),
        (["train", "--set", "rollout.task=3"], "did you mean 'rollout.tasks'"),
        (["train", "--set", "rollout.tasks=100000"], "rollout.tasks is 100000, but split train"),
        (["train", "--set", "evaluation.size=100000"], "panel size 100000 is out of range"),
        (["train", "--seed", "0", "--seed", "0"], "asked for twice"),
        (["train", "--sede", "0"], "No such option"),
        (["train", "--jobs", "0"], "Invalid value for '--jobs'"),
        (["train", "--device", "tpu"], "unknown device 'tpu'"),
        (["train", "--processes", "0"], "Invalid value for '--processes'"),
        (["train", "--processes", "100000"], "--processes 100000 wants a core for each, and this machine has "),
        (["train", "--processes", "2", "--set", "engine=vllm"], "--processes 2 does not go with engine=vllm"),
        (["trian"], "No such command"),
        (["determinism", "--markdown", "--json"], "--markdown has no effect beside --json"),
        (["methods", "--names", "--json"], "--json has no effect beside --names"),
        (["hindsight", "forein"], "did you mean 'foreign'"),
        (["hindsight", "foreign", "mini/train/Pick/9999"], "has no task 'mini/train/Pick/9999'"),
        (["hindsight", "peer_traj", "--method", "grpo"], "'grpo' has no option 'hindsight'"),
        (["hindsight", "golden_rollout", "--benchmark", "nowhere"], "unknown benchmark"),
        (["panel", "alfworld", "--split", "valid_unsen"], "did you mean 'valid_unseen'"),
        (["panel", "alfworld", "--size", "0"], "Invalid value for '--size'"),
        (["evaluate", "nowhere"], "holds no run"),
        (["runs", "nowhere"], "there is no folder nowhere"),
        (["paper", "nowhere"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_are_one_line_and_exit_code_2(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert complaint in lines[0]
    assert list(tmp_path.iterdir()) == []


COMMANDS = (
    "reproduce",
    "train",
    "evaluate",
    "demo",
    "paper",
    "methods",
    "panel",
    "runs",
    "doctor",
    "capability",
    "serve-retriever",
    "shard-index",
    "fetch-questions",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert command in capsys.readouterr().out


def test_help_is_quick_to_come() -> None:
    """Without torch: the command line of a shell user must not load it to print help."""
    code = "import sys; from stepcredit.harness.cli.app import run; run(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_methods_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "--json"]) == 0
    listed = {method["method"]: method for method in json.loads(capsys.readouterr().out)}
    assert {"grpo", "opd", "stepopsd"} <= listed.keys()
    assert listed["stepopsd"]["options"]["lambda_mix"] == 0.2


def test_panel_as_json_is_canonical(capsys: pytest.CaptureFixture[str]) -> None:
    panels = []
    for size in ([], ["--size", "20"]):
        assert run(["panel", "alfworld", "--split", "valid_unseen", "--json", *size]) == 0
        panels.append(json.loads(capsys.readouterr().out))
    whole, part = panels
    ids = [task["id"] for task in whole["tasks"]]
    assert ids == sorted(set(ids))
    assert whole["size"] == len(ids) == sum(whole["subsets"].values())
    assert part["size"] == 20
    assert {task["id"] for task in part["tasks"]} < set(ids)
    assert part["sha256"] != whole["sha256"]


def test_doctor_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["doctor", "--json"]) in (0, 1)
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["torch"]["ok"]
    assert findings["writing"]["ok"]
    assert findings["alfworld mini"]["ok"]
    assert {"source", "file system", "cache", "cache numba", "cache plots", "cache hub"} <= findings.keys()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the source to be a git checkout")
def test_doctor_tells_a_poor_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("STEPCREDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fcntl, "flock", refused)
    assert run(["doctor", "--json"]) == 1
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert (findings["file system"]["ok"], findings["source"]["ok"]) == (True, False)
    assert "lock: flock is refused (No locks available)" in findings["file system"]["detail"]
    assert "commit unknown: git is not installed" in findings["source"]["detail"]
    assert findings["cache"]["detail"] == str(tmp_path / "cache")


def test_no_runs_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_results_folder_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").write_text("")
    assert run(["train", "--out", str(tmp_path / "results")]) == 2
    assert "a file stands where a folder is needed" in capsys.readouterr().err.splitlines()[-1]


def _hear_ctrl_c() -> None:
    """A test suite that runs in the background of a shell ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_is_one_line_and_leaves_no_worker(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stepcredit.harness.cli", "train"]
    command += ["--out", str(tmp_path), "--set", "evaluation.size=2"]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=_hear_ctrl_c
    )
    deadline = time.monotonic() + 240
    while not list(tmp_path.rglob("*.ckpt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted; run the same command again to resume"
    (cell,) = (path for path in tmp_path.iterdir() if path.is_dir())
    with files.exclusive(cell / "checkpoints", wait_s=5.0):
        assert files.read_json(cell / "manifest.json")["status"] == "running"


def test_what_teachers_are_shown_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hindsight", "contrast", "--set", "rollout.tasks=4"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("trajectory ") >= 8
    assert shown.count("[shown]") == shown.count("[compared with]") > 0
    assert run(["hindsight", "outcome", "--json", "--set", "rollout.tasks=1"]) == 0
    contexts = json.loads(capsys.readouterr().out)["contexts"]
    assert {c["block"] for c in contexts} <= {"This episode succeeded.", "This episode failed."}
    assert all(("succeeded" in c["block"]) is c["success"] for c in contexts)
