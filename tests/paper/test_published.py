"""Published numbers stand beside a study's where model, benchmark and subset are the same, and nowhere else."""

from pathlib import Path

import pytest

from stepcredit.paper.published import HERE, published_tables, published_values
from stepcredit.paper.results import load_study
from stepcredit.paper.tables import Quoted, Score
from tests.paper.support import simulated_episodes, write_run

REAL = {"model": "qwen2.5-3b", "suite": "real"}


def study_of(tmp_path: Path, **spec: object) -> Path:
    for method, label in (("grpo", "GRPO"), ("stepopsd", "StepOPSD"), ("a_new_one", "A new one")):
        write_run(tmp_path, method, changes={"spec": spec, "method_label": label})
    return tmp_path


def test_the_same_setting_is_shown_with_its_sources(tmp_path: Path) -> None:
    (table,) = published_tables(load_study(study_of(tmp_path, **REAL)))
    rows = {(row[0], row[1]): dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert {label for label, _ in rows} == {"Before training", "GRPO", "StepOPSD"}
    assert isinstance(rows["GRPO", HERE]["All"], Score)
    # Table 2 of arXiv 2605.15155, read off the picture that its repository shows.
    printed = rows["Before training", "SDAR (arXiv 2605.15155)"]
    assert [printed[name] for name in ("Pick", "Look", "Clean", "Heat", "Cool", "PickTwo", "All")] == [
        *map(Quoted, (44.4, 11.1, 6.2, 15.4, 28.6, 12.5, 21.9))
    ]
    assert any("unseen" in source for _, source in rows)


@pytest.mark.parametrize(
    "spec",
    [{**REAL, "model": "tiny"}, {**REAL, "suite": "mini"}, {**REAL, "benchmark": "diagnostic"}],
    ids=["another model", "generated tasks", "another benchmark"],
)
def test_other_settings_have_nothing_beside_them(tmp_path: Path, spec: dict[str, object]) -> None:
    assert published_tables(load_study(study_of(tmp_path, **spec))) == []


def test_numbers_of_the_unseen_split_need_that_split(tmp_path: Path) -> None:
    episodes = [row | {"split": "valid_seen"} for row in simulated_episodes("grpo", 0, 4, 2, 12)]
    seen = {**REAL, "evaluation": {"split": "valid_seen"}}
    write_run(tmp_path, episodes=episodes, changes={"spec": seen, "method_label": "GRPO"})
    (table,) = published_tables(load_study(tmp_path))
    assert len(table.rows) > 2
    assert not any("unseen" in str(row[1]) for row in table.rows)


def test_a_model_that_is_named_as_the_hub_has_it_is_known(tmp_path: Path) -> None:
    named = study_of(tmp_path, **{**REAL, "model": "Qwen/Qwen2.5-3B-Instruct@0123456"})
    assert published_tables(load_study(named))


def test_means_of_batches_are_no_rates() -> None:
    assert 59.7 not in [own.value for own in published_values() if own.subset == "Bamboogle" and own.paper == "SDAR"]
    assert all(0.0 <= own.value <= 100.0 and own.source_url.startswith("https://") for own in published_values())
