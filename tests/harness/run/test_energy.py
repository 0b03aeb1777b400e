"""Energy is what counters of the machine tell, in the layout of Linux' powercap; where they tell nothing, none."""

from pathlib import Path

import pandas as pd
import pytest

from stepcredit.harness import energy
from stepcredit.harness.energy import Meter, counters_of
from stepcredit.harness.record.cell import TIMINGS, Cell
from stepcredit.harness.record.rows import TimingRow, read_rows
from stepcredit.paper.cost import cost_table
from stepcredit.paper.results import load_study
from tests.harness.cells import LEAST, run_here, small_spec

FULL_UJ = 262_143_328_850


def package(powercap: Path, name: str, called: str, microjoules: int) -> Path:
    folder = powercap / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{called}\n", encoding="ascii")
    (folder / "max_energy_range_uj").write_text(f"{FULL_UJ}\n", encoding="ascii")
    (folder / "energy_uj").write_text(f"{microjoules}\n", encoding="ascii")
    return folder


def count(folder: Path, microjoules: int) -> None:
    (folder / "energy_uj").write_text(f"{microjoules}\n", encoding="ascii")


def test_packages_are_added_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    first, second = (package(tmp_path, f"intel-rapl:{at}", f"package-{at}", 1_000_000) for at in (0, 1))
    core = package(tmp_path, "intel-rapl:0:0", "core", 0)
    platform = package(tmp_path, "intel-rapl:2", "psys", 0)
    meter = Meter(counters_of("cpu", tmp_path))
    assert [counter.name for counter in meter.counters] == ["package-0", "package-1"]
    for _ in range(2):
        with meter.running():
            count(first, 3_000_000)
            count(second, 1_500_000)
            count(core, 9_000_000)
            count(platform, 9_000_000)
        count(first, 1_000_000)
        count(second, 1_000_000)
    assert meter.joules == pytest.approx(5.0)


def test_a_counter_that_was_full_began_again(tmp_path: Path) -> None:
    one = package(tmp_path, "intel-rapl:0", "package-0", FULL_UJ - 2_000_000)
    meter = Meter(counters_of("cpu", tmp_path))
    with meter.running():
        count(one, 1_000_000)
    assert meter.joules == pytest.approx(3.0)


def test_what_cannot_be_read_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").mkdir()  # as where the counter is root's alone
    assert Meter(counters_of("cpu", tmp_path)).joules is None
    assert Meter(counters_of("cpu", tmp_path / "nowhere")).joules is None


def test_runs_and_tables_have_it_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter that goes on by a joule whenever it is read: a block takes one."""

    class Ticking(energy.Package):
        def read(self) -> float:
            now = super().read()
            count(self.folder, round((now + 1.0) * 1e6))
            return now

    spec = small_spec(*LEAST)
    ticking = Ticking(package(tmp_path / "powercap", "intel-rapl:0", "package-0", 0))
    monkeypatch.setattr("stepcredit.harness.run.spent.counters_of", lambda device: [ticking])
    run_here(tmp_path / "study", spec.model_dump(mode="json"))
    rows = read_rows(Cell(tmp_path / "study", spec).folder / TIMINGS, TimingRow)
    blocks = [sum(getattr(row, part) > 0 for part in ("rollout_s", "credit_s", "update_s", "eval_s")) for row in rows]
    assert [row.energy_j for row in rows] == pytest.approx([float(number) for number in blocks])
    table = cost_table(load_study(tmp_path / "study"))
    assert table.header[-1] == "kJ"
    assert "kJ: what the machine's counters of its processors and GPU told" in table.notes[-1]


def test_elsewhere_tables_say_that_it_was_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepcredit.harness.run.spent.counters_of", lambda device: [])
    spec = small_spec(*LEAST)
    run_here(tmp_path, spec.model_dump(mode="json"))
    assert pd.read_parquet(Cell(tmp_path, spec).folder / TIMINGS)["energy_j"].isna().all()
    table = cost_table(load_study(tmp_path))
    assert "kJ" not in table.header
    assert table.notes[-1].endswith("Energy was not measured.")
