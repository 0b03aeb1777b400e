"""A method of one's own, in a package outside the repository: the README's commands, as they stand."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stepcredit.harness.cli.app import run
from stepcredit.methods.registry import METHODS

ROOT = Path(__file__).resolve().parents[2]
PIP = f"{sys.executable} -m pip install --quiet --no-index --no-deps --no-build-isolation --target site"
SMALL = ("updates=1", "rollout.tasks=2", "rollout.group=2", "rollout.max_turns=3", "evaluation.size=2")


def readme_commands() -> str:
    section = (ROOT / "README.md").read_text().partition("\n## Adding a method\n")[2]
    return section.partition("```sh\n")[2].partition("```")[0]


def shell(commands: str, folder: Path) -> str:
    """Run them as a user would, who has a `site` folder in place of an environment to install into."""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": paths, "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(ROOT)])}
    done = subprocess.run(
        ["bash", "-e", "-c", commands], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_readmes_commands_make_a_method_that_passes_its_laws_and_trains(tmp_path: Path) -> None:
    new, test_it, train_it = readme_commands().splitlines()
    out = shell(f"{new}\n{test_it.replace('pip install', PIP)}", tmp_path)
    written, install, test = out.splitlines()[:3]
    assert written.startswith("written: late_credit/late_credit.py")
    assert f"{install.strip()} && {test.strip()}" == test_it
    assert (tmp_path / "site" / "late_credit.py").is_file()
    (passed,) = re.findall(r"(\d+) passed", out)
    assert int(passed) > 10

    listed = json.loads(shell("stepcredit methods --json", tmp_path))
    assert [method["method"] for method in listed] == [*METHODS, "late_credit"]
    assert listed[-1]["options"] == {"late": 0.5}
    assert listed[-1]["traits"]["tilt"] == "late"

    settings = " ".join(f"--set {setting}" for setting in SMALL)
    shell(f"{train_it} {settings}", tmp_path)
    manifests = list((tmp_path / "results" / "runs").glob("*/manifest.json"))
    assert len(manifests) == train_it.count("--seed")
    for recorded in (json.loads(manifest.read_text()) for manifest in manifests):
        assert (recorded["status"], recorded["spec"]["method_options"]) == ("complete", {"late": 0.5})


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("LateCredit", "method name 'LateCredit' is no lower-case Python identifier"),
        ("late-credit", "is no lower-case Python identifier; write it like 'late_credit'"),
        ("2late", "is no lower-case Python identifier"),
        ("lambda", "is no lower-case Python identifier"),
        ("_late", "is no lower-case Python identifier"),
        ("../late", "is no lower-case Python identifier"),
        ("stepopsd", "method name 'stepopsd' is taken"),
        ("numpy", "method name 'numpy' is the name of an installed module"),
        ("there", "there exists already; choose another name, or another place with --out"),
    ],
)
def test_unfit_names_are_one_sentence_and_write_nothing(
    name: str,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert run(["new-method", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["new-method", "late_credit", "--out", str(tmp_path / "file")]) == 2
    assert "a file stands where a folder is needed" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_it_is_written_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new-method", "late_credit", "--out", str(tmp_path / "my work")]) == 0
    folder = tmp_path / "my work" / "late_credit"
    assert sorted(path.name for path in folder.iterdir()) == [
        "late_credit.py",
        "pyproject.toml",
        "test_late_credit.py",
    ]
    assert capsys.readouterr().out.splitlines()[1:] == [f"  pip install '{folder}'", f"  pytest '{folder}'"]


def test_methods_do_not_load_what_only_their_laws_need() -> None:
    code = "import sys, stepcredit.methods.registry, stepcredit.methods.checks; sys.exit('hypothesis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
