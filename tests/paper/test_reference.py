"""The committed study: its paper is what its episodes say, and the README quotes it."""

from pathlib import Path

import pytest

from paper.build import build

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "results" / "reference"
TABLES = STUDY / "paper" / "tables"


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    build(STUDY, folder)
    return folder / "tables"


@pytest.mark.parametrize("name", sorted(path.name for path in TABLES.iterdir()))
def test_committed_tables_follow_from_the_committed_episodes(rebuilt: Path, name: str):
    assert (rebuilt / name).read_text() == (TABLES / name).read_text()


def test_the_readme_quotes_the_committed_table():
    rows = [line for line in (TABLES / "success.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 6
    readme = (ROOT / "README.md").read_text().splitlines()
    assert [row for row in rows if row not in readme] == []
