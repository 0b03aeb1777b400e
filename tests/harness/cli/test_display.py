"""Tables on a narrow terminal: nothing is cut, no name of a field is split."""

from pathlib import Path

import pytest

from stepcredit.harness.cli.app import run
from stepcredit.harness.cli.display import print_table

FIELDS = ("status", "updates", "before", "after", "n", "95% interval", "minutes", "spec", "weights")


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_a_list_of_runs_is_whole_on_a_narrow_terminal(
    width: int, household_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(household_run.parents[1])
    assert run(["runs", household_run.parent.name]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == f"{household_run.parent.name}/{household_run.name}"
    assert not [line for line in lines if "…" in line or len(line) > width]
    for name in FIELDS:
        assert any(f" {name} " in f"{line} " for line in lines), name


def test_a_table_that_fits_stays_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"name": "a" * 10, "share_of_it": 0.5}
    monkeypatch.setenv("COLUMNS", "23")  # ten letters, two between, eleven of the second name
    print_table([record, record], as_json=False)
    assert capsys.readouterr().out.splitlines()[0] == f"{'name':10}  share of it"
    monkeypatch.setenv("COLUMNS", "22")
    print_table([record, record], as_json=False)
    assert capsys.readouterr().out.splitlines() == ["a" * 10, "  share of it 0.500"] * 2
