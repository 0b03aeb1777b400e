"""How commands end and what listings say: numbers with n and interval, the next command, the state of each run."""

import json
import re
import shlex
import shutil
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from stepcredit import __version__
from stepcredit.harness.cli.app import run
from stepcredit.harness.cli.study import Choice
from stepcredit.harness.record import files
from stepcredit.methods.registry import registered

ROOT = Path(__file__).resolve().parents[3]
SMALL = ("updates=1", "rollout.tasks=2", "rollout.group=2", "rollout.max_turns=3", "evaluation.size=3")
GRPO = "alfworld-mini-tiny-grpo-s0"


def said(*words: str) -> tuple[str, str]:
    """What a command that ends well prints on standard output and standard error."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert run(list(words)) == 0, err.getvalue()
    return out.getvalue(), err.getvalue()


def small(*words: str) -> list[str]:
    return ["train", *(word for setting in SMALL for word in ("--set", setting)), *words]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("endings") / "my study"


@pytest.fixture(scope="module")
def trained(study: Path) -> tuple[str, str]:
    return said(*small("--method", "GRPO", "--set", "optim.lr=2e-6", "--out", str(study)))


def test_training_ends_with_numbers_and_the_next_command(trained: tuple[str, str], study: Path) -> None:
    out, _ = trained
    lines = out.splitlines()
    header = next(line for line in lines if line.startswith("run"))
    assert header.split() == ["run", "before", "after", "n", "95%", "interval"]
    row = next(line for line in lines if line.startswith(GRPO))
    assert re.search(r" \d+\.\d% +\d+\.\d% +12 +\d+\.\d to \d+\.\d", row)
    command = shlex.split(lines[lines.index("next:") + 1])
    assert command == ["stepcredit", "paper", str(study)]
    assert said(*command[1:])[0] == f"paper: {study / 'paper'}\n"


def test_a_rate_made_for_another_model_is_said(trained: tuple[str, str], study: Path) -> None:
    _, err = trained
    (note,) = (line for line in err.splitlines() if line.startswith("note: optim.lr"))
    assert note == (
        "note: optim.lr is 2e-06, 250 times below the usual 0.0005 of model tiny; "
        "if it is meant for another model, add --model"
    )


@pytest.mark.parametrize(("model", "rate", "said"), [(None, "1e-3", 0), (None, "1e-5", 1), ("qwen2.5-3b", "2e-6", 0)])
def test_a_rate_that_is_near_is_not(model: str | None, rate: str, said: int) -> None:
    assert len(Choice(model, None, None, ("grpo",), (0, 1), (f"optim.lr={rate}",)).notes()) == said


@pytest.mark.parametrize("name", registered())
def test_methods_are_known_as_tables_spell_them(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = registered()[name].label
    for spelling in (label, label.upper(), label.lower()):
        assert run(["train", "--method", spelling, "--method", name, "--out", str(tmp_path)]) == 2
        assert "asked for twice" in capsys.readouterr().err


def status_of(folder: Path) -> str:
    (record,) = json.loads(said("runs", str(folder.parent), "--json")[0])
    return str(record["status"])


def test_a_run_is_complete_running_or_interrupted(tmp_path: Path) -> None:
    folder = tmp_path / "study" / GRPO
    shutil.copytree(ROOT / "results" / "reference" / GRPO, folder)
    assert status_of(folder) == "complete"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    assert status_of(folder) == "interrupted"
    (folder / "checkpoints").mkdir(exist_ok=True)
    with files.exclusive(folder / "checkpoints"):
        assert status_of(folder) == "running"
    assert status_of(folder) == "interrupted"


def test_runs_have_percentages_with_n(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    out, _ = said("runs", str(ROOT / "results" / "reference"))
    row = next(line for line in out.splitlines() if f"/{GRPO} " in line)
    assert re.search(r"complete +100/100 +48\.9% +75\.7% +960 +71\.5 to 79\.5", row)


@pytest.fixture
def reproduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The committed study as both the reference and what was made, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("reference", "reproduce"):
        shutil.copytree(ROOT / "results" / "reference", tmp_path / "results" / name)
    return tmp_path / "results" / "reproduce"


def test_only_what_was_asked_for_is_compared(reproduced: Path) -> None:
    out, _ = said("reproduce", "--method", "grpo", "--seed", "0")
    compared = [line for line in out.splitlines() if re.match(r"alfworld-mini-tiny-\S+: ", line)]
    assert [line.partition(":")[0] for line in compared] == [GRPO]
    lines = out.splitlines()
    following = [shlex.split(line) for line in lines[lines.index("next:") + 1 :]]
    assert following[0] == ["less", "results/reproduce/paper/REPORT.md"]
    assert (Path.cwd() / following[0][1]).is_file()
    assert following[1] == ["stepcredit", "evaluate", f"results/reproduce/{GRPO}"]


def test_the_version_is_printed() -> None:
    assert said("--version")[0] == f"stepcredit {__version__}\n"


def test_bare_it_prints_help_alone() -> None:
    out, err = said()
    assert "Commands" in out
    assert err == ""


def test_the_shell_can_complete() -> None:
    assert "--install-completion" in said("--help")[0]


def test_a_warm_start_needs_a_place_and_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["warmstart"]) == 2
    assert "Missing option '--out'" in capsys.readouterr().err
    shipped = ROOT / "harness" / "policies" / "tiny"
    before = files.sha256_of(shipped / "model.safetensors")
    assert run(["warmstart", "--out", str(shipped)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds a policy already; choose another folder with --out" in line
    assert files.sha256_of(shipped / "model.safetensors") == before


def test_a_dense_retriever_without_its_encoder_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # as the variable sets it at a start
    engine = ["--set", "env_options.retriever.engine=dense"]
    assert run(["train", "--benchmark", "searchqa", "--out", str(tmp_path / "out"), *engine]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "intfloat/e5-base-v2" in line


LISTINGS = (
    "methods",
    "runs results/reference",
    "panel alfworld",
    "recipe list",
    "recipe show gigpo-alfworld",
    "recipe diff sdar-alfworld stepopsd-alfworld",
)


@pytest.mark.parametrize("command", LISTINGS)
def test_a_narrow_terminal_shows_the_same_words(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is split or cut, and no line is longer than the terminal but for an address."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "400")
    wide, _ = said(*command.split())
    monkeypatch.setenv("COLUMNS", "80")
    narrow, _ = said(*command.split())
    heading = {"run"}  # of the values that then stand on lines of their own
    assert set(wide.replace(",", " ").split()) - heading <= set(narrow.replace(",", " ").split())
    assert [line for line in narrow.splitlines() if len(line) > 80 and "https://" not in line] == []
