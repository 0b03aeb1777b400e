"""Where a cell comes from: its arithmetic can be done by hand, its runs are there."""

import json
from pathlib import Path

import pytest

from stepcredit.harness.cli.app import run
from stepcredit.paper.aggregates import final_success
from stepcredit.paper.results import load_study
from tests.paper.support import write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"))


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert run(["explain", *words]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("table", ["success", "learning", "differences"])
def test_the_arithmetic_adds_up(study: Path, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    column = "change" if table == "learning" else "all"
    lines = told([str(study), table, "stepopsd", column], capsys)
    sums, _, rest = next(line for line in lines if line.startswith("mean: ")).removeprefix("mean: ").partition(" = ")
    terms = [term.split("/") for term in sums.split(")")[0].strip("(").split(" + ")]
    mean = sum(int(k) / int(n) for k, n in terms) / 3
    assert mean == pytest.approx(float(rest.split(",")[0]), abs=1e-6)
    assert f"{abs(100 * mean):.1f}" in lines[0]
    runs = [line for line in lines if line.startswith("run: ")]
    assert len(runs) == 3
    assert all(Path(line.removeprefix("run: ").split(",")[0]).is_dir() for line in runs)
    assert sum(line.startswith("against run: ") for line in lines) == (3 if table == "differences" else 0)


def test_before_training_is_explained_by_all_runs(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told([str(study), "success", "before training"], capsys)
    assert any("Wilson's score interval over the tasks" in line for line in lines)
    assert sum(line.startswith("run: ") for line in lines) == 9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["succes", "GRPO"], "'succes' is no table of"),
        (["success", "nobody"], "'nobody' is no row of table success; known are Before training, GRPO"),
        (["success", "GRPO", "Swim"], "'Swim' is no column of table success; known are Method, Seeds, Pick"),
    ],
)
def test_what_is_not_there(study: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", str(study), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_leaderboard_has_a_row_a_method_with_its_hashes(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export-leaderboard", str(study)]) == 0
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == ["grpo", "opd", "stepopsd"]
    loaded = load_study(study)
    for method, row in rows.items():
        final = final_success(loaded, method)
        assert final is not None
        assert (row["after"]["mean"], row["after"]["low"]) == (final.mean, final.low)
        assert [one["spec_sha256"] for one in row["runs"]] == [one.manifest.spec_sha256 for one in loaded.of(method)]
        assert row["panel"]["sha256"] == loaded.manifest.panels.eval.sha256
    assert rows["grpo"]["minus_grpo"] is None
    assert rows["grpo"]["p_holm"] is None
    assert 0.0 <= rows["opd"]["p_holm"] <= 1.0
