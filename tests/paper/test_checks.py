"""Results that would make a table wrong in silence are refused by name."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from stepcredit.paper.build import build
from stepcredit.paper.errors import PaperError
from stepcredit.paper.report import report_of
from stepcredit.paper.results import load_study
from tests.paper.support import save_manifest, sha256, write_run, write_study


def changed(run: Path, change: Callable[[pd.DataFrame], pd.DataFrame], name: str = "episodes.parquet") -> None:
    """The run's table, changed, and the manifest made to vouch for it."""
    change(pd.read_parquet(run / name)).to_parquet(run / name)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256((run / name).read_bytes()).hexdigest()
    save_manifest(run, manifest)


def with_reward(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(reward=rows["success"].astype(float).where(rows.index != 3, 1.0 - rows["success"]))


def without_last(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["phase"] != "eval") | (rows["update"] < 4)]


def with_null(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(success=rows["success"].astype("boolean").where(rows.index != 0))


def with_other_task(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(task_id=rows["task_id"].where(rows["task_id"] != rows["task_id"].iloc[0], "another"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (with_reward, "1 episodes have a reward that contradicts their success"),
        (without_last, r"is evaluated after \[0, 2\] updates, but not after the last, 4"),
        (with_null, "column 'success': 1 values are missing"),
        (with_other_task, "but only one of them evaluates task"),
    ],
)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], told: str
) -> None:
    write_study(tmp_path, methods=("grpo",), seeds=2)
    changed(tmp_path / "alfworld-mini-tiny-grpo-s1", change)
    with pytest.raises(PaperError, match=told):
        load_study(tmp_path)


def test_a_run_copied_under_another_seed_is_no_second_run(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path, "grpo", seed, changes={"final_weights_sha256": sha256("one")})
    with pytest.raises(PaperError, match=r"ended with the same weights .* under different seeds"):
        load_study(tmp_path)


def test_runs_that_learned_nothing_may_end_alike(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path, "grpo", seed, changes={"final_weights_sha256": sha256("tiny")})
    assert len(load_study(tmp_path).runs) == 2


def test_unequal_seeds_are_said(tmp_path: Path) -> None:
    write_study(tmp_path, methods=("grpo",), seeds=3)
    write_study(tmp_path, methods=("opd",), seeds=2)
    said = " ".join(report_of(load_study(tmp_path)).summary)
    assert "Not all methods were run with the same seeds (GRPO 0, 1, 2; OPD 0, 1)" in said


def test_what_an_earlier_build_left_goes(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", methods=("grpo",), seeds=1)
    for name in ("tables/old.csv", "figures/old.png", "tables/kept.txt"):
        (study / "paper" / name).parent.mkdir(parents=True, exist_ok=True)
        (study / "paper" / name).write_text("old")
    build(study, study / "paper")
    assert not (study / "paper" / "tables" / "old.csv").exists()
    assert not (study / "paper" / "figures" / "old.png").exists()
    assert (study / "paper" / "tables" / "kept.txt").exists()
