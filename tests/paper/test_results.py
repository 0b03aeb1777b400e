import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stepcredit.paper.errors import PaperError
from stepcredit.paper.report import markdown_report, report_of
from stepcredit.paper.results import load_study
from stepcredit.paper.tables import difference_table, learning_table, subset_table
from tests.paper.support import episode, simulated_episodes, spec, write_run, write_study


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_parquet(folder: Path, name: str, content: bytes) -> None:
    """Change a file and record its new hash, so that only its content is at fault."""
    (folder / name).write_bytes(content)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    edit_manifest(folder, files=files | {name: hashlib.sha256(content).hexdigest()})


def without_column(folder: Path) -> None:
    path = folder / "episodes.parquet"
    pd.read_parquet(path).drop(columns="turns").to_parquet(path)
    replace_parquet(folder, path.name, path.read_bytes())


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (
        lambda run: (run / "episodes.parquet").write_bytes((run / "episodes.parquet").read_bytes()[:-9]),
        r"episodes\.parquet has sha256 \w{12}, but manifest\.json records \w{12}",
    ),
    "other rows": (
        lambda run: pd.read_parquet(run / "updates.parquet").head(1).to_parquet(run / "updates.parquet"),
        r"updates\.parquet has sha256",
    ),
    "no parquet": (
        lambda run: replace_parquet(run, "updates.parquet", b"PAR1 not"),
        r"updates\.parquet is no readable",
    ),
    "parquet missing": (lambda run: (run / "episodes.parquet").unlink(), r"cannot read .*episodes\.parquet"),
    "manifest missing": (lambda run: (run / "manifest.json").unlink(), r"manifest\.json is missing"),
    "manifest cut": (lambda run: (run / "manifest.json").write_text('{"schema": 1'), r"manifest\.json cannot be read"),
    "manifest a list": (lambda run: (run / "manifest.json").write_text("[]"), "holds list instead of an object"),
    "field missing": (lambda run: edit_manifest(run, panels={}), r"field 'panels\.train': Field required"),
    "other schema": (lambda run: edit_manifest(run, schema=2), "field 'schema'"),
    "spec edited": (lambda run: edit_manifest(run, spec=spec("grpo", 0, 9, 2)), "the spec was edited after the run"),
    "folder renamed": (lambda run: run.rename(run.with_name("other")), "says cell 'alfworld-mini-tiny-grpo-s0'"),
    "column missing": (without_column, "lacks the column 'turns'"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused_by_file_name(tmp_path: Path, name: str):
    damage, message = DAMAGE[name]
    damage(write_run(tmp_path))
    with pytest.raises(PaperError, match=message):
        load_study(tmp_path)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"panels": {"eval": {"sha256": "f" * 64}}}, "panels.eval.sha256"),
        ({"panels": {"train": {"sha256": "f" * 64}}}, "panels.train.sha256"),
        ({"grammar": "1.0.0"}, "grammar"),
        ({"policy": {"weights_sha256": "f" * 64}}, "policy.weights_sha256"),
        ({"selection": "best checkpoint"}, "selection"),
        ({"spec": {"evaluation": {"temperature": 0.4}}}, "spec.evaluation.temperature"),
        ({"spec": {"evaluation": {"seed": 5}}}, "spec.evaluation.seed"),
        ({"spec": {"rollout": {"max_turns": 30}}}, "spec.rollout.max_turns"),
        ({"spec": {"optim": {"lr": 0.1}}}, "spec.optim.lr"),
        ({"spec": {"suite": "full"}}, "spec.suite"),
    ],
)
def test_runs_of_different_settings_share_no_table(tmp_path: Path, changes: dict[str, Any], field: str):
    write_run(tmp_path, "grpo", 0)
    write_run(tmp_path, "stepopsd", 0, changes=changes)
    with pytest.raises(PaperError, match=f"grpo-s0 and alfworld-mini-tiny-stepopsd-s0 do not .*: {field} is"):
        load_study(tmp_path)


def test_checkpoint_interval_is_no_difference(tmp_path: Path):
    write_run(tmp_path, "grpo", 0)
    write_run(tmp_path, "opd", 0, changes={"spec": {"checkpoint_every": 3, "method_options": {"weight": 0.5}}})
    assert load_study(tmp_path).methods == ("grpo", "opd")


def test_one_method_has_one_set_of_options(tmp_path: Path):
    write_run(tmp_path, "opd", 0)
    write_run(tmp_path, "opd", 1, changes={"spec": {"method_options": {"weight": 0.5}}})
    with pytest.raises(PaperError, match="with different method_options"):
        load_study(tmp_path)


def test_two_runs_of_one_cell_are_refused(tmp_path: Path):
    write_run(tmp_path)
    folder = write_run(tmp_path, replicate=True)
    edit_manifest(folder, replicate_of=None)
    with pytest.raises(PaperError, match="are both grpo with seed 0"):
        load_study(tmp_path)


def test_incomplete_runs_are_listed_and_replicates_kept_apart(tmp_path: Path):
    write_study(tmp_path, methods=("stepopsd", "grpo"), seeds=2)
    write_run(tmp_path, "stepopsd", 1, replicate=True)
    write_run(tmp_path, "opd", 0, changes={"status": "running", "files": {}})
    (tmp_path / "paper").mkdir()
    study = load_study(tmp_path)
    assert [(run.spec.method, run.spec.seed) for run in study.runs] == [
        ("grpo", 0), ("grpo", 1), ("stepopsd", 0), ("stepopsd", 1)
    ]  # fmt: skip
    assert [run.cell for run in study.replicates] == ["alfworld-mini-tiny-stepopsd-s1-again"]
    assert [skipped.cell for skipped in study.skipped] == ["alfworld-mini-tiny-opd-s0"]


def test_a_study_without_complete_runs_is_refused(tmp_path: Path):
    with pytest.raises(PaperError, match="the folder does not exist"):
        load_study(tmp_path / "nowhere")
    with pytest.raises(PaperError, match="holds no run; name a study's folder"):
        load_study(tmp_path)
    write_run(tmp_path, changes={"status": "running"})
    with pytest.raises(PaperError, match=r"holds no complete run \(1 incomplete\)"):
        load_study(tmp_path)


def test_the_folder_of_a_run_is_no_study(tmp_path: Path):
    write_run(tmp_path)
    (run,) = tmp_path.iterdir()
    with pytest.raises(PaperError, match=f"is the folder of one run; name its study's, which is {tmp_path}$"):
        load_study(run)


def test_replicates_alone_are_refused(tmp_path: Path):
    write_run(tmp_path, replicate=True)
    with pytest.raises(PaperError, match="holds replicates only"):
        load_study(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows, rows[0]], "evaluates task 'mini/valid_unseen/Pick/0000' twice at update 0"),
        (lambda rows: rows[1:], "11 evaluation episodes at update 0, but the panel has 12"),
        (lambda rows: [row | {"seed": 3} for row in rows], "episodes of seed 3, but its run has seed 0"),
        (lambda rows: [rows[0] | {"split": "train"}, *rows[1:]], "evaluation episodes of split 'train'"),
    ],
)
def test_an_evaluation_is_the_whole_panel_once(
    tmp_path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], message: str
):
    write_run(tmp_path, episodes=change(simulated_episodes("grpo", 0, 4, 2, 12)))
    with pytest.raises(PaperError, match=message):
        load_study(tmp_path)


def test_subsets_follow_the_benchmark_then_the_alphabet(tmp_path: Path):
    panel = [("b", "Beta"), ("p", "Pick"), ("a", "Alpha")]
    rows = [episode(task, update=update, seed=0, success=True) for task in panel for update in (0, 4)]
    folder = write_run(tmp_path, episodes=rows, panel_size=3)
    assert load_study(tmp_path).subsets == ("Pick", "Look", "Clean", "Heat", "Cool", "PickTwo", "Alpha", "Beta")
    edit_manifest(folder, subsets=[])
    assert load_study(tmp_path).subsets == ("Alpha", "Beta", "Pick")


def test_runs_that_were_stopped_are_in_no_number_and_every_table_says_so(tmp_path: Path):
    write_study(tmp_path, ("grpo", "opd"), seeds=2)
    why = {"update": 2, "condition": "success", "reason": "no success any more, for 5 updates"}
    write_run(tmp_path, "opd", 2, changes={"status": "stopped", "stopped": why})
    study = load_study(tmp_path)
    assert [run.spec.seed for run in study.of("opd")] == [0, 1]
    report = markdown_report(report_of(study))
    cell = "alfworld-mini-tiny-opd-s2"
    assert f"1 run stopped early by a rule on collapse and divergence, and in no number here ({cell};" in report
    assert f"- {cell}: stopped early after 2 of 4 updates: no success any more, for 5 updates" in report
    assert "| Was anything left out? | 1 run stopped early, listed at the end |" in report
    notes = [
        note for table in (subset_table(study), learning_table(study), difference_table(study)) for note in table.notes
    ]
    assert sum(f"Stopped early, and in no number here: {cell}; means are" in note for note in notes) == 3
