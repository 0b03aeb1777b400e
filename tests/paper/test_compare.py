from pathlib import Path
from typing import Any

import pytest

from stepcredit.paper.compare import Verdict, compare
from tests.paper.support import episode, sha256, tasks, write_run

PANEL = tasks(12)


def run_with(folder: Path, solved: int, **options: Any) -> None:
    rows = [
        episode(task, update=update, seed=0, success=i < solved) for update in (0, 4) for i, task in enumerate(PANEL)
    ]
    write_run(folder, episodes=rows, panel_size=12, **options)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    run_with(tmp_path / "reference", 3)
    return tmp_path / "reference"


def test_equal_runs_are_reproduced_bit_for_bit(reference: Path, tmp_path: Path):
    run_with(tmp_path / "again", 3)
    (cell,) = compare(tmp_path / "again", reference)
    assert cell.verdict is Verdict.IDENTICAL
    assert str(cell) == "alfworld-mini-tiny-grpo-s0: reproduced bit for bit"


def test_other_bits_with_nearly_equal_success_are_consistent(reference: Path, tmp_path: Path):
    run_with(tmp_path / "again", 4, changes={"final_weights_sha256": sha256("other")})
    (cell,) = compare(tmp_path / "again", reference)
    assert cell.verdict is Verdict.CONSISTENT
    assert (cell.update0_equal, cell.final_weights_equal, cell.episodes_equal, cell.updates_equal) == (
        True, False, False, True
    )  # fmt: skip
    assert cell.difference is not None
    assert cell.difference.mean == 1 / 12
    # One of 12 differences is 1: s = sqrt(1/12), t(0.975, 11) = 2.20099, half-width 0.18341.
    assert str(cell).endswith("(final weights, episodes differ; success +8.3 points [−10.0, 26.7] (n=12))")


def test_other_success_is_told(reference: Path, tmp_path: Path):
    run_with(tmp_path / "again", 12)
    assert [cell.verdict for cell in compare(tmp_path / "again", reference)] == [Verdict.DIFFERENT]


@pytest.mark.parametrize(
    "changes", [{"spec": {"optim": {"lr": 1e-3}}}, {"panels": {"eval": {"sha256": "f" * 64}}}, {"grammar": "1.0.0"}]
)
def test_other_settings_are_not_compared(reference: Path, tmp_path: Path, changes: dict[str, Any]):
    run_with(tmp_path / "again", 3, changes=changes)
    assert [cell.verdict for cell in compare(tmp_path / "again", reference)] == [Verdict.OTHER_SPEC]


def test_cells_of_one_side_are_listed(reference: Path, tmp_path: Path):
    write_run(tmp_path / "again", "opd", 0)
    assert [(cell.cell, cell.verdict) for cell in compare(tmp_path / "again", reference)] == [
        ("alfworld-mini-tiny-grpo-s0", Verdict.MISSING),
        ("alfworld-mini-tiny-opd-s0", Verdict.NEW),
    ]


def test_a_replicate_is_compared_where_there_is_one_and_never_missed(reference: Path, tmp_path: Path):
    run_with(reference, 3, replicate=True)
    run_with(tmp_path / "again", 3)
    assert [cell.verdict for cell in compare(tmp_path / "again", reference)] == [Verdict.IDENTICAL]
    run_with(tmp_path / "again", 3, replicate=True)
    assert [cell.verdict for cell in compare(tmp_path / "again", reference)] == [Verdict.IDENTICAL] * 2
