"""The committed studies: their papers are what their episodes say, and the README quotes them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stepcredit.paper.build import build
from stepcredit.paper.cost import cost_curves
from stepcredit.paper.results import load_study
from stepcredit.paper.unchanged import RECORD

ROOT = Path(__file__).resolve().parents[2]
STUDIES = {name: ROOT / "results" / name for name in ("reference", "reference-searchqa", "methods")}
COLLECTIONS = ("ablations", "credit", "teachers", "two-knob")
QUOTED = {"reference": "README.md", "reference-searchqa": "envs/searchqa/README.md"}


def contents(folder: Path) -> dict[str, bytes]:
    """All that is committed of a paper: not the record of what it was built from, nor the page."""
    own = (path for path in folder.rglob("*") if path.is_file() and path.name not in (RECORD, "report.html"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in own}


@pytest.fixture(scope="module", params=STUDIES)
def study(request: pytest.FixtureRequest) -> Path:
    return STUDIES[request.param]


@pytest.fixture(scope="module")
def rebuilt(study: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("paper")
    build(study, folder)
    return contents(folder)


def test_costs_are_on_axes_with_plain_numbers(study: Path) -> None:
    figure = cost_curves(load_study(study))
    figure.draw_without_rendering()
    shown = [text.get_text() for axes in figure.axes for text in axes.get_xticklabels(which="both")]
    assert shown
    assert [text for text in shown if not re.fullmatch(r"[\d.]*", text)] == []


def test_the_committed_report_and_tables_follow_from_the_committed_episodes(study: Path, rebuilt: dict[str, bytes]):
    committed = contents(study / "paper")
    assert committed.keys() == rebuilt.keys()
    texts = [name for name in rebuilt if name.endswith((".md", ".csv", ".tex"))]
    assert len(texts) > 10
    assert [name for name in texts if rebuilt[name] != committed[name]] == []


@pytest.mark.parametrize("name", COLLECTIONS)
def test_the_committed_collections_follow_from_their_runs(name: str, tmp_path: Path):
    study = ROOT / "results" / name
    build(study, tmp_path)
    rebuilt, committed = contents(tmp_path), contents(study / "paper")
    assert committed.keys() == rebuilt.keys()
    texts = [one for one in rebuilt if one.endswith((".md", ".csv", ".tex"))]
    assert len(texts) > 3
    assert [one for one in texts if rebuilt[one] != committed[one]] == []


def test_another_process_builds_the_same_bytes(study: Path, rebuilt: dict[str, bytes], tmp_path: Path):
    code = "import sys, pathlib, stepcredit.paper.build as b; b.build(*map(pathlib.Path, sys.argv[1:]))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(study), str(tmp_path)], env=environment, check=True)
    again = contents(tmp_path)
    assert {name.rpartition(".")[2] for name in again} == {"md", "csv", "tex", "png", "svg", "pdf"}
    assert [name for name in again.keys() | rebuilt.keys() if again.get(name) != rebuilt.get(name)] == []


def test_the_committed_report_prints_the_commands_of_its_own_study(study: Path):
    commands = json.loads((study / "study.json").read_text())["commands"]
    report = (study / "paper" / "REPORT.md").read_text()
    assert "\n".join(("```sh", *commands, "```")) in report
    here = f"results/{study.name}"
    assert [re.findall(r"results/\S+", command) for command in commands] == [[here]] * len(commands)
    assert f"\nstepcredit paper {here}\n" in report


@pytest.mark.parametrize("name", QUOTED)
def test_the_readme_quotes_the_committed_table(name: str):
    table = STUDIES[name] / "paper" / "tables" / "success.md"
    rows = [line for line in table.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 6
    readme = (ROOT / QUOTED[name]).read_text().splitlines()
    assert [row for row in rows if row not in readme] == []
