"""The committed studies: their papers are what their episodes say, and the README quotes them."""

from pathlib import Path

import pytest

from stepcredit.paper.build import build

ROOT = Path(__file__).resolve().parents[2]
STUDIES = {name: ROOT / "results" / name for name in ("reference", "reference-searchqa")}
TABLES = [
    (name, path.name) for name, study in STUDIES.items() for path in sorted((study / "paper" / "tables").iterdir())
]


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("papers")
    for name, study in STUDIES.items():
        build(study, folder / name)
    return folder


@pytest.mark.parametrize(("study", "table"), TABLES)
def test_committed_tables_follow_from_the_committed_episodes(rebuilt: Path, study: str, table: str):
    committed = STUDIES[study] / "paper" / "tables" / table
    assert (rebuilt / study / "tables" / table).read_text() == committed.read_text()


@pytest.mark.parametrize("study", STUDIES)
def test_the_readme_quotes_the_committed_table(study: str):
    table = STUDIES[study] / "paper" / "tables" / "success.md"
    rows = [line for line in table.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 6
    readme = (ROOT / "README.md").read_text().splitlines()
    assert [row for row in rows if row not in readme] == []
