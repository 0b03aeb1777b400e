"""The credit study end to end, on tasks whose truth is known exactly."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stepcredit.envs.diagnostic.benchmark import DiagnosticBenchmark
from stepcredit.harness.cli.app import run
from stepcredit.harness.credit_study.cases import cases_of
from stepcredit.harness.errors import UserError

SMALL = ("--benchmark", "diagnostic", "--set", "rollout.group=6", "--precision", "0.06")
CASES = ("--method", "grpo", "--method", "opd", "--method", "vineppo", "--arm", "peer_traj", "--arm", "foreign")

ALTERNATIVES = ("--alternatives", "48", "--gradients")


def studied(out: Path, *words: str) -> int:
    return run(["credit-study", "--out", str(out), *SMALL, *CASES, *words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    assert studied(out, "--tasks", "6", *ALTERNATIVES) == 0
    return out


def test_the_truth_names_the_critical_step(folder: Path) -> None:
    """Where one step of five has an effect, the largest |A*| is that step's, in nearly every episode."""
    steps, benchmark = pd.read_parquet(folder / "steps.parquet"), DiagnosticBenchmark("critical_step")
    valid = steps[steps["valid"]].copy()
    valid["room"] = valid.groupby(["task_id", "trajectory"]).cumcount()
    found = []
    for (task, _), rows in valid.groupby(["task_id", "trajectory"]):
        process = benchmark.process(str(task))
        critical = int(process.task.partition("room ")[2][0]) - 1
        found.append(int(rows.loc[rows["advantage"].abs().idxmax(), "room"]) == critical)
        idle = rows[rows["room"] != critical]
        assert (idle["advantage"].abs() <= 5 * idle["stderr"]).all()
    assert len(found) >= 20
    assert np.mean(found) >= 0.95


def test_after_the_critical_door_a_state_is_worth_what_comes_of_it(folder: Path) -> None:
    """1 or 0, but for episodes that stumble into the turn limit."""
    steps, benchmark = pd.read_parquet(folder / "steps.parquet"), DiagnosticBenchmark("critical_step")
    for (task, _), rows in steps[steps["valid"]].groupby(["task_id", "trajectory"]):
        later = rows.iloc[int(benchmark.process(str(task)).task.partition("room ")[2][0]) :]
        assert (later["value"] - later["success"]).abs().max() < 0.25 or later.empty


def test_what_is_said(folder: Path) -> None:
    found = json.loads((folder / "study.json").read_text())["found"]
    assert found["verdict"].startswith("this policy can")
    rows = {row["case"]: row for row in found["measured"]}
    assert list(rows) == ["grpo", "opd:peer_traj", "opd:foreign", "vineppo"]
    assert rows["grpo"]["rank"]["value"] is None
    assert rows["grpo"]["top"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert rows["vineppo"]["rank"]["value"] > 0.3
    assert rows["vineppo"]["idle"]["value"] < rows["grpo"]["idle"]["value"]
    cosines = {row["case"]: row["cosine"]["value"] for row in found["gradients"]}
    assert cosines["vineppo"] > 0.5
    assert all(-1.0 <= cosine < cosines["vineppo"] for case, cosine in cosines.items() if case != "vineppo")


def test_actions_of_a_state_are_worth_what_the_process_says(folder: Path) -> None:
    """At the critical door the right one leads out and the others do not; at any other all are worth the same."""
    rows, benchmark = pd.read_parquet(folder / "choices.parquet"), DiagnosticBenchmark("critical_step")
    steps = pd.read_parquet(folder / "steps.parquet").set_index(["task_id", "trajectory", "step"]).sort_index()
    rows = rows[rows["arm"] == "peer_traj"]
    assert len(rows) > 20
    for (task, trajectory, step), options in rows.groupby(["task_id", "trajectory", "step"]):
        critical = int(benchmark.process(str(task)).task.partition("room ")[2][0]) - 1
        room = int(steps.loc[(task, trajectory)].loc[: step - 1, "valid"].sum())
        apart = options["value"].max() - options["value"].min()
        noise = float(np.hypot(*options["stderr"].nlargest(2)))
        assert apart <= 5 * noise or room == critical
        assert len(options["action"].unique()) == len(options)


def test_a_teacher_is_the_student_and_its_gap(folder: Path) -> None:
    choices = {row["arm"]: row for row in json.loads((folder / "study.json").read_text())["found"]["choices"]}
    assert list(choices) == ["peer_traj", "foreign"]
    assert choices["peer_traj"]["student"] == choices["foreign"]["student"]
    rows = pd.read_parquet(folder / "choices.parquet")
    np.testing.assert_allclose(rows["teacher"] - rows["student"], rows["gap"], atol=1e-9)


def test_a_study_goes_on_where_it_stopped_and_repeats(folder: Path, tmp_path: Path) -> None:
    """Cut short after its first task, the second try gives the same bytes; other cases take the truth over."""
    kept = sorted((folder / "truth").iterdir())
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / kept[0].name).write_bytes(kept[0].read_bytes())
    (tmp_path / "truth.json").write_bytes((folder / "truth.json").read_bytes())
    assert studied(tmp_path, "--tasks", "6", *ALTERNATIVES, "--jobs", "1") == 0, "one process in place of two"
    for name in ("steps.parquet", "credits.parquet", "choices.parquet", "study.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_bad_input(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert studied(folder, "--tasks", "5") == 2
    assert "holds the credit study of other episodes, tasks or weights; choose another --out" in capsys.readouterr().err
    assert studied(tmp_path, "--tasks", "1", "--set", "rollout.group=2", "--set", "rollout.max_turns=1") == 2
    assert "of 1 group none has both successes and failures (0 episodes succeeded)" in capsys.readouterr().err
    assert studied(tmp_path, "--arm", "peers") == 2
    assert "unknown hindsight 'peers'" in capsys.readouterr().err
    assert studied(tmp_path, "--tasks", "100000") == 2
    assert "--tasks 100000 is out of range: the held-out panel has" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["manifest.json", "study.json"])
def test_a_folder_of_other_results_stays_as_it_is(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("{}")
    assert studied(tmp_path, "--tasks", "1") == 2
    assert f"holds other results (it has a {name} of theirs); choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_a_method_does_not_take_is_left_out_and_said() -> None:
    cases, refused = cases_of(["opd", "gigpo"], ["self", "none"])
    assert [case.name for case in cases] == ["opd:self", "opd:none", "gigpo"]
    assert refused == []
    cases, refused = cases_of(["opd"], ["skills", "self"])
    assert [case.name for case in cases] == ["opd:self"]
    assert "needs the option skills" in refused[0]
    with pytest.raises(UserError, match="no method can be studied under these arms"):
        cases_of(["opd"], ["skills"])


def test_a_method_with_options_is_a_case_of_its_own() -> None:
    cases, _ = cases_of(["stepopsd", "stepopsd[budget=false, taught=all]", "vineppo[continuations=3]"], ["peer_traj"])
    assert [case.name for case in cases] == [
        "stepopsd:peer_traj",
        "stepopsd[budget=false, taught=all]:peer_traj",
        "vineppo[continuations=3]",
    ]
    assert cases[1].method.options()["budget"] is False
    assert cases[1].method.options()["taught"] == "all"
    assert cases[2].method.needs.continuations == 3


@pytest.mark.parametrize("asked", ["stepopsd[budget]", "stepopsd[", "step opsd", "stepopsd[=1]"])
def test_a_method_that_is_spelled_otherwise(asked: str) -> None:
    with pytest.raises(UserError, match="is not understood; write NAME, or NAME"):
        cases_of([asked], ["peer_traj"])


def test_an_option_that_a_method_has_not_is_left_out_and_said() -> None:
    _, refused = cases_of(["grpo", "stepopsd[budgets=1]"], ["peer_traj"])
    assert "budgets" in refused[0]
