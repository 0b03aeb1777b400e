import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stepcredit.paper.capability import capability_tables
from stepcredit.paper.errors import PaperError
from stepcredit.paper.render import comma_separated, latex, markdown
from stepcredit.paper.results import load_study
from stepcredit.paper.statistics import Interval
from stepcredit.paper.tables import Score, Table
from tests.paper.support import sha256, write_run

EXAMINATION = {"sha256": sha256("tasks"), "lm_eval": "0.4.13", "limit": 4, "seed": 0, "max_new_tokens": 32}
WEIGHTS = sha256("tiny")
BEFORE = Path("capability") / f"before-{WEIGHTS[:12]}-{EXAMINATION['sha256'][:12]}.json"


def answers(*, nq: int, musique: int, copying: int, bits: float) -> pd.DataFrame:
    """4 NQ and 2 MuSiQue questions, 4 items of copying and 2 passages; so many of each right, the first ones."""
    questions = (("closed-book", "NQ", 4, nq), ("closed-book", "MuSiQue", 2, musique))
    rows = []
    for suite, subset, size, right in (*questions, ("regression", "copying", 4, copying)):
        for number in range(size):
            common = {"suite": suite, "subset": subset, "example_id": f"{subset}/{number}"}
            if suite == "closed-book":
                rows += [common | {"metric": "exact_match", "value": float(number < right)}]
                rows += [common | {"metric": "f1", "value": 0.5}]
            else:
                rows += [common | {"metric": "acc", "value": float(number < right)}]
    for number, value in enumerate((bits - 1, bits + 1)):
        text = {"suite": "regression-text", "subset": "english", "example_id": f"text/{number}"}
        rows.append(text | {"metric": "bits_per_byte", "value": value})
    return pd.DataFrame(rows)


def record(path: Path, rows: pd.DataFrame, **fields: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.with_suffix(".parquet")
    rows.to_parquet(data)
    content = {"examination": EXAMINATION, "file": data.name, "sha256": hashlib.sha256(data.read_bytes()).hexdigest()}
    path.write_text(json.dumps(content | fields))


def examined(
    study: Path, method: str, seed: int, rows: pd.DataFrame, changes: Mapping[str, Any] | None = None, **fields: Any
) -> None:
    folder = write_run(study, method, seed, changes=changes)
    spec = json.loads((folder / "manifest.json").read_text())["spec_sha256"]
    record(folder / "capability" / "after-u4.json", rows, **({"update": 4, "spec_sha256": spec} | fields))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    record(tmp_path / BEFORE, answers(nq=1, musique=0, copying=3, bits=2.0), update=0, weights_sha256=WEIGHTS)
    examined(tmp_path, "grpo", 0, answers(nq=2, musique=0, copying=3, bits=2.5))
    examined(tmp_path, "grpo", 1, answers(nq=4, musique=2, copying=1, bits=3.5))
    return tmp_path


def tables(study: Path) -> dict[str, Table]:
    return {table.name: table for table in capability_tables(load_study(study), study)}


def score(table: Table, row: str, column: str) -> Score:
    cell = next(line for line in table.rows if line[0] == row)[table.header.index(column)]
    assert isinstance(cell, Score)
    return cell


def test_closed_book_rates_by_dataset_and_over_all_examples(study: Path):
    table = tables(study)["closed-book"]
    assert table.header == ("Method", "Seeds", "NQ", "MuSiQue", "All", "Change")
    before = score(table, "Before training", "All").estimate
    assert (before.mean, before.n, before.interval) == (pytest.approx(1 / 6), 6, Interval.WILSON_TASKS)
    after = score(table, "GRPO", "All").estimate
    assert after.by_seed == (2 / 6, 1.0)
    assert (after.n, after.interval) == (12, Interval.CROSSED)
    assert score(table, "GRPO", "NQ").estimate.by_seed == (0.5, 1.0)


def test_change_pairs_every_seed_with_the_same_start(study: Path):
    change = score(tables(study)["closed-book"], "GRPO", "Change")
    assert change.signed
    assert change.estimate.by_seed == (1 / 6, 5 / 6)
    assert change.estimate.mean == pytest.approx(0.5)
    lost = score(tables(study)["regression"], "GRPO", "Change").estimate
    assert lost.by_seed == (0.0, -0.5)


def test_bits_per_byte_are_means_over_passages(study: Path):
    rows = tables(study)["regression"].rows
    # t(0.975, 1) = 12.706. Before, over the passages 1 and 3: 12.706 * 1.4142 / sqrt(2) = 12.706.
    # After, passages 1.5, 3.5 and 2.5, 4.5: MS 1 of seeds, 4 of passages, 0 left: variance (1 + 4) / 4. Satterthwaite's
    # freedom 25 / 17, with the seeds' 1 in the geometric mean sqrt(25 / 17): t(0.975, 1.2127) sqrt(1.25) = 9.482.
    assert [row[-1] for row in rows] == ["2.000 ± 12.706", "3.000 ± 9.482"]


def test_datasets_out_of_distribution_are_marked(tmp_path: Path):
    trained = {"subsets": ["NQ", "MuSiQue"], "trained_subsets": ["NQ"]}
    record(tmp_path / BEFORE, answers(nq=1, musique=0, copying=3, bits=2.0), update=0, weights_sha256=WEIGHTS)
    examined(tmp_path, "grpo", 0, answers(nq=2, musique=0, copying=3, bits=2.5), changes=trained)
    table = tables(tmp_path)["closed-book"]
    assert table.header[2:4] == ("NQ", "MuSiQue°")
    assert "° out of distribution: no training task is from it." in table.notes


def test_tables_print_in_every_form(study: Path):
    for table in tables(study).values():
        assert "lm-eval 0.4.13" in " ".join(table.notes)
        assert "GRPO" in markdown(table)
        assert "GRPO" in latex(table)
        assert "GRPO" in comma_separated(table)


def test_without_an_examination_there_is_no_table(tmp_path: Path):
    write_run(tmp_path)
    assert tables(tmp_path) == {}


def test_without_questions_there_is_the_regression_table_alone(tmp_path: Path):
    rows = answers(nq=1, musique=0, copying=3, bits=2.0)
    rows = rows[rows["suite"] != "closed-book"]
    record(tmp_path / BEFORE, rows, update=0, weights_sha256=WEIGHTS)
    examined(tmp_path, "grpo", 0, rows)
    assert list(tables(tmp_path)) == ["regression"]


def test_runs_that_were_not_examined_are_counted(study: Path):
    write_run(study, "opd", 0)
    table = tables(study)["regression"]
    assert [row[0] for row in table.rows] == ["Before training", "GRPO"]
    assert "Not examined and in no cell: 1 of 3 runs." in table.notes


def test_examinations_of_an_earlier_checkpoint_are_not_read(tmp_path: Path):
    folder = write_run(tmp_path)
    record(folder / "capability" / "after-u2.json", answers(nq=1, musique=0, copying=3, bits=2.0), update=2)
    assert tables(tmp_path) == {}


def test_different_questions_do_not_belong_in_one_table(study: Path):
    other = EXAMINATION | {"sha256": sha256("other")}
    examined(study, "opd", 0, answers(nq=1, musique=0, copying=3, bits=2.0), examination=other)
    with pytest.raises(PaperError, match="examined with different questions or versions"):
        tables(study)


def test_an_examination_of_another_spec_is_refused(study: Path):
    examined(study, "opd", 0, answers(nq=1, musique=0, copying=3, bits=2.0), spec_sha256=sha256("other"))
    with pytest.raises(PaperError, match="was examined as spec"):
        tables(study)


def test_damage_is_refused(study: Path):
    (study / BEFORE.with_suffix(".parquet")).write_bytes(b"cut short")
    with pytest.raises(PaperError, match="does not have the sha256 of its record"):
        tables(study)
    (study / BEFORE).write_text("{}")
    with pytest.raises(PaperError, match="is no record of an examination"):
        tables(study)
    (study / BEFORE).unlink()
    with pytest.raises(PaperError, match=r"cannot read .*before-.*: No such file"):
        tables(study)
