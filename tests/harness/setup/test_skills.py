"""A folder of texts about types of tasks, as hindsight."""

from pathlib import Path

import pytest

from stepcredit.envs import load_benchmark
from stepcredit.harness.errors import UserError
from stepcredit.harness.record import manifest
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.setup.parts import assemble, inputs_of
from stepcredit.harness.setup.skills import load_skills
from tests.harness.cells import LEAST, run_here, small_spec

SUBSETS = load_benchmark("alfworld", "mini").subsets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "skills"
    place.mkdir()
    for number, subset in enumerate(SUBSETS):
        ending = ".txt" if number % 2 else ".md"
        (place / f"{subset}{ending}").write_text(f"go to shelf {number}\n", encoding="utf-8")
    return place


def test_each_subset_has_its_text(folder: Path) -> None:
    assert load_skills(str(folder), SUBSETS) == {name: f"go to shelf {k}" for k, name in enumerate(SUBSETS)}
    assert load_skills(None, SUBSETS) == {}


def test_a_text_that_lacks_is_empty_or_no_text_is_one_sentence(folder: Path) -> None:
    path = folder / f"{SUBSETS[0]}.md"
    for content, complaint in ((b"  \n", "is empty"), (b"\xff\xfe\xff", "cannot be read as UTF-8 text")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=complaint):
            load_skills(str(folder), SUBSETS)
    path.unlink()
    with pytest.raises(UserError, match=rf"has no {SUBSETS[0]}\.txt or {SUBSETS[0]}\.md"):
        load_skills(str(folder), SUBSETS)


def test_a_run_is_taught_them_and_records_which(folder: Path, tmp_path: Path) -> None:
    options = ("method_options.hindsight=skills", f"method_options.skills={folder}")
    chosen = small_spec(*LEAST, *options, method="sdar")
    assert dict(assemble(chosen, "cpu").skills) == load_skills(str(folder), SUBSETS)
    before = inputs_of(chosen)
    run_here(tmp_path / "study", chosen.model_dump(mode="json"))
    found = manifest.read(Cell(tmp_path / "study", chosen).folder)
    assert found is not None
    assert found.inputs == before
    (folder / f"{SUBSETS[0]}.md").write_text("another text", encoding="utf-8")
    assert inputs_of(chosen).data["skills"] != before.data["skills"]
    with pytest.raises(UserError, match="skills"):
        manifest.require_same_inputs(found, inputs_of(chosen), tmp_path)
