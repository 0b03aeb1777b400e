"""A study on disk: equal starts, nothing done twice, and a sentence for every folder that does not fit."""

import json
import shutil
from pathlib import Path

import pytest

from stepcredit.harness.cli.app import run
from stepcredit.harness.errors import UserError
from stepcredit.harness.record import manifest
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.record.manifest import differences
from stepcredit.harness.record.rows import EpisodeRow, UpdateRow, read_rows
from stepcredit.harness.study.order import Order
from tests.harness.cells import SMALL, run_here, small_spec

METHODS = ("grpo", "opd", "stepopsd")


def train(study: Path, *more: str) -> int:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    methods = [word for method in METHODS for word in ("--method", method)]
    return run(["train", "--out", str(study), *methods, *settings, *more])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = tmp_path_factory.mktemp("made") / "study"
    assert train(study) == 0
    return study


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "study"))


def folder_of(study: Path, method: str = "grpo") -> Path:
    return Cell(study, small_spec(method=method)).folder


def test_all_methods_start_from_the_same_rollouts(made: Path) -> None:
    found = [manifest.read(folder_of(made, method)) for method in METHODS]
    assert all(each is not None and each.status == "complete" for each in found)
    starts = {each.update0_rollouts_sha256 for each in found if each is not None}
    assert len(starts) == 1
    assert starts != {None}


def test_rows_are_complete(made: Path) -> None:
    folder = folder_of(made)
    episodes = read_rows(folder / "episodes.parquet", EpisodeRow)
    updates = read_rows(folder / "updates.parquet", UpdateRow)
    assert [row.update for row in updates] == [0, 1, 2]
    trained = [row for row in episodes if row.phase == "train"]
    assert len(trained) == 3 * 3 * 4
    assert {row.update for row in episodes if row.phase == "eval"} == {0, 2, 3}
    assert len(episodes) - len(trained) == 3 * 4
    assert sum(row.response_tokens for row in trained) == sum(row.response_tokens for row in updates)
    assert {row.split for row in trained} == {"train"}
    assert json.loads(updates[0].diagnostics).keys() is not None


def test_evaluations_meet_the_same_tasks(made: Path) -> None:
    rows = [
        row
        for method in METHODS
        for row in read_rows(folder_of(made, method) / "episodes.parquet", EpisodeRow)
        if row.phase == "eval"
    ]
    tasks = {(row.update, row.task_id) for row in rows}
    assert len(tasks) == 3 * 4
    before = {(row.task_id, row.rollout_sha256) for row in rows if row.update == 0}
    assert len(before) == 4


def test_same_command_again_does_nothing(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*") if path.is_file()}
    assert train(study) == 0
    assert "3 of 3 runs complete" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*") if path.is_file()} == before


def test_another_spec_is_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(study, "--set", "optim.lr=0.25") == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "was written by another spec (optim.lr: 0.0005 there, 0.25 here)" in said[0]


def test_other_weights_are_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder_of(study) / "manifest.json"
    content = json.loads(path.read_text())
    content["policy"]["weights_sha256"] = "0" * 64
    path.write_text(json.dumps(content))
    assert train(study) == 2
    assert "started from other weights or data (policy.weights_sha256: 000000000000..." in capsys.readouterr().err


def test_full_disk_ends_the_study_with_one_line(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(small_disk / "study") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("stepcredit: the disk is full")
    assert "run the same command again" in last
    assert not list(small_disk.rglob("*.tmp"))


@pytest.mark.parametrize("name", ["episodes.parquet", "updates.parquet"])
def test_truncated_results_are_refused_by_name(study: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder_of(study) / name
    path.write_bytes(path.read_bytes()[:-40])
    assert train(study) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f"{path} is damaged" in said[0]


def test_damaged_manifest_is_refused_by_name(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder_of(study) / "manifest.json"
    path.write_text(path.read_text()[:-30])
    assert train(study) == 2
    assert f"{path} is not valid JSON" in capsys.readouterr().err


def test_a_spec_edited_after_the_run_is_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder_of(study) / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["spec"]["optim"]["lr"] *= 2
    path.write_text(json.dumps(manifest))
    assert train(study) == 2
    assert f"{path}: the spec hashes to" in capsys.readouterr().err


def test_lost_result_files_are_made_again_from_the_last_checkpoint(study: Path) -> None:
    folder = folder_of(study)
    expected = (folder / "episodes.parquet").read_bytes()
    for name in ("manifest.json", "episodes.parquet"):
        (folder / name).unlink()
    assert train(study) == 0
    assert (folder / "episodes.parquet").read_bytes() == expected


def test_listing(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", str(made), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["updates"] for entry in listed] == ["3/3"] * 3
    assert all(0.0 <= entry["before"] <= 1.0 for entry in listed)


def test_evaluation_of_a_checkpoint_repeats_that_of_training(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(study)
    words = ["evaluate", str(folder), "--size", "4", "--checkpoint", "3", "--json"]
    assert run(words) == 0
    summary = json.loads(capsys.readouterr().out)
    again = read_rows(Path(summary["file"]), EpisodeRow)
    during = read_rows(folder / "episodes.parquet", EpisodeRow)
    assert again == [row for row in during if row.phase == "eval" and row.update == 3]
    written = Path(summary["file"]).stat().st_mtime_ns
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out) == summary
    assert Path(summary["file"]).stat().st_mtime_ns == written


def test_evaluation_has_the_samples_and_the_luck_of_its_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = small_spec("updates=1", "evaluation.luck=by_seed", "evaluation.samples=2", method="grpo", seed=3)
    run_here(tmp_path, spec.model_dump(mode="json"))
    folder = Cell(tmp_path, spec).folder
    assert run(["evaluate", str(folder), "--size", "4", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    during = read_rows(folder / "episodes.parquet", EpisodeRow)
    assert read_rows(Path(summary["file"]), EpisodeRow) == [
        row for row in during if row.phase == "eval" and row.update == 1
    ]
    assert (summary["run_seed"], summary["limits"]["group"]) == (3, 2)
    assert run(["evaluate", str(folder), "--size", "4", "--temperature", "0", "--json"]) == 0
    greedy = json.loads(capsys.readouterr().out)
    assert (greedy["limits"]["group"], "run_seed" in greedy) == (1, False)


def test_evaluation_on_another_panel(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--split", "valid_seen", "--size", "3", "--temperature", "0", "--seed", "7", "--json"]
    assert run(["evaluate", str(folder_of(study)), *words]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["panel"]["split"], summary["panel"]["size"], summary["temperature"]) == ("valid_seen", 3, 0.0)
    assert sum(subset["episodes"] for subset in summary["subsets"].values()) == 3


def test_missing_checkpoint_of_an_evaluation(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(folder_of(study)), "--checkpoint", "1"]) == 2
    assert "keeps the checkpoints of updates [3], not 1" in capsys.readouterr().err


def test_differences_name_the_leaves() -> None:
    there, here = {"a": {"b": 1, "c": 2}, "d": None}, {"a": {"b": 1, "c": 3}, "e": 5}
    assert differences(there, here) == ["a.c: 2 there, 3 here", "e: nothing there, 5 here"]
    assert differences({"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 2, "c": 2}, limit=1)[-1] == "2 more"


def test_platform_change_stops_a_resumption(study: Path) -> None:
    found = manifest.read(folder_of(study))
    assert found is not None
    other = found.model_copy(update={"versions": found.versions | {"torch": "1.0"}})
    with pytest.raises(UserError, match=r"begun with other versions or settings \(versions.torch: 1.0 there"):
        manifest.require_same_platform(other, found, study)


def test_the_longest_runs_start_first_and_those_of_unknown_length_before_them(study: Path) -> None:
    for method, seconds in zip(METHODS, (1.0, 3.0, 2.0), strict=True):
        path = folder_of(study, method) / manifest.NAME
        path.write_text(json.dumps(json.loads(path.read_text()) | {"wall_s": seconds}))
    finished = [Cell(study, small_spec(method=method)) for method in METHODS]
    missing = [Cell(study, small_spec(method=method, seed=seed)) for seed in (1, 2) for method in (*METHODS, "rlsd")]
    order = Order(missing, finished)
    started = [order.next() for _ in missing]
    dearest_first = [(method, seed) for method in ("rlsd", "opd", "stepopsd", "grpo") for seed in (1, 2)]
    assert [(cell.spec.method, cell.spec.seed) for cell in started] == dearest_first


def test_a_part_is_whole_before_the_next_begins(tmp_path: Path) -> None:
    later = [small_spec(method="rlsd").model_copy(update={"suite": "full", "seed": seed}) for seed in (0, 1)]
    first = [small_spec(method=method) for method in METHODS]
    missing = [Cell(tmp_path, spec) for spec in (first[0], *later, *first[1:])]
    order = Order(missing, [])
    assert [order.next().spec for _ in missing] == [*first, *later]
