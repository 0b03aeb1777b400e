"""The checklist answers from manifests, and says no where the answer is no."""

import hashlib
import json
from pathlib import Path

import pandas as pd

from stepcredit.paper.checklist import checklist_table, methods_table
from stepcredit.paper.report import report_of
from stepcredit.paper.results import load_study
from tests.paper.support import save_manifest, write_run, write_study


def answers(folder: Path) -> dict[str, str]:
    return {str(row[0]): str(row[1]) for row in checklist_table(load_study(folder)).rows}


def test_a_clean_study(tmp_path: Path) -> None:
    write_run(write_study(tmp_path, seeds=2), replicate=True)
    found = answers(tmp_path)
    assert found["Same seeds for every method?"] == "yes: 2 seeds"
    assert found["Same episodes before the first update?"] == "yes"
    assert found["Equal budgets?"].startswith("yes: 4 updates of 128 trajectories")
    assert found["Was anything repeated?"] == "1 run, 1 of them with the same bits"
    assert found["Which code?"] == "0123456; all clean"
    assert found["Was anything left out?"] == "no"


def test_what_is_not_as_it_should_be_is_said(tmp_path: Path) -> None:
    write_study(tmp_path, methods=("grpo",), seeds=2)
    strange = {
        "spec": {"method_options": {"continuations": 9}},
        "final_weights_sha256": None,
        "update0_rollouts_sha256": "f" * 64,
        "git_dirty": True,
        "threads": 4,
        "versions": {"python": "3.12.1"},
        "method_label": "VinePPO",
    }
    write_run(tmp_path, "vineppo", changes=strange)
    write_run(tmp_path, "vineppo", 7, changes={"status": "running"})
    found = answers(tmp_path)
    assert found["Same seeds for every method?"] == "no"
    assert found["Same episodes before the first update?"] == "no"
    assert found["Equal budgets?"].startswith("no: VinePPO played fresh episodes besides")
    assert found["Which code?"] == "0123456; 1 run with uncommitted changes"
    assert (found["Same versions of libraries?"], found["Same device and threads?"]) == ("no", "no")
    assert found["Was anything left out?"] == "1 unfinished run, listed at the end"


def test_credit_is_said_to_differ_alone_only_where_budgets_are_equal(tmp_path: Path) -> None:
    equal = write_study(tmp_path / "equal", methods=("grpo", "opd"), seeds=1)
    assert "whatever differs later comes from credit assignment" in report_of(load_study(equal)).summary[0]
    write_run(equal, "vineppo", changes={"spec": {"method_options": {"continuations": 2}}})
    said = report_of(load_study(equal)).summary[0]
    assert "whatever differs" not in said
    assert "VinePPO played fresh episodes besides" in said


def test_a_method_from_elsewhere_has_a_row(tmp_path: Path) -> None:
    table = methods_table(load_study(write_study(tmp_path, methods=("grpo", "a_new_one"), seeds=1)))
    assert table.rows[1] == ("a_new_one", "as its own package says", "—")


def test_the_same_weights_with_other_updates_are_no_repetition(tmp_path: Path) -> None:
    copy = write_run(write_study(tmp_path, methods=("grpo",), seeds=1), replicate=True)
    frame = pd.read_parquet(copy / "updates.parquet")
    frame.assign(kl=frame["kl"] + 1).to_parquet(copy / "updates.parquet")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["updates.parquet"] = hashlib.sha256((copy / "updates.parquet").read_bytes()).hexdigest()
    manifest |= {"git_commit": None, "git_dirty": None}
    save_manifest(copy, manifest)
    found = answers(tmp_path)
    assert found["Was anything repeated?"] == "1 run, 0 of them with the same bits"
    assert found["Which code?"].endswith("of 1 run it is not recorded whether there were changes")
