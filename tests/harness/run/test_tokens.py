"""What a run keeps to look into: tokens with their credit, and turns that are read again after training."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stepcredit.harness.cli.app import run
from stepcredit.harness.record.cell import CREDITS, EPISODES, PROBES, Cell
from tests.harness.cells import LEAST, run_here, small_spec

REFERENCE = Path(__file__).resolve().parents[3] / "results" / "reference"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods, one with a teacher."""
    folder = tmp_path_factory.mktemp("traced")
    for method in ("opd", "grpo"):
        run_here(folder, small_spec(method=method).model_dump(mode="json"))
    return folder


def tokens(study: Path, method: str) -> pd.DataFrame:
    return pd.read_parquet(Cell(study, small_spec(method=method)).folder / CREDITS)


def test_one_group_of_three_updates_is_kept(study: Path) -> None:
    for method in ("opd", "grpo"):
        rows = tokens(study, method)
        assert sorted(rows["update"].unique()) == [0, 1, 2]
        assert (rows.groupby("update")["task_id"].nunique() == 1).all()
        assert (rows.groupby("update")["trajectory"].nunique() == 4).all()


def test_methods_of_a_seed_show_the_same_episodes_at_first(study: Path) -> None:
    one, other = (tokens(study, method).query("update == 0") for method in ("opd", "grpo"))
    columns = ["task_id", "trajectory", "turn", "position", "token_id", "text", "read", "span", "success"]
    pd.testing.assert_frame_equal(one[columns], other[columns])


def test_a_gap_is_the_teachers_less_the_students(study: Path) -> None:
    rows = tokens(study, "opd")
    np.testing.assert_allclose(rows["gap"], rows["teacher"] - rows["student"])
    taught = rows.query("update == 0").groupby("trajectory")
    assert any((own["gap"].abs() > 0.01).any() and own["hint"].iloc[0] for _, own in taught)
    assert tokens(study, "grpo")["teacher"].isna().all()


def test_what_grpo_gives_is_the_same_for_every_token_of_an_episode(study: Path) -> None:
    assert (tokens(study, "grpo").groupby(["update", "trajectory"])["credit"].nunique() == 1).all()


def test_tokens_make_the_episode(study: Path) -> None:
    rows = tokens(study, "grpo").query("update == 0 and trajectory == 0")
    for _, turn in rows.groupby("turn"):
        text = "".join(turn["text"])
        assert f"<action>{turn['action'].iloc[0]}</action>" in text or not turn["valid"].iloc[0]
        assert turn["read"].iloc[0]


def test_probes_are_the_same_turns_for_all_methods_before_training_alone(study: Path) -> None:
    one, other = (pd.read_parquet(Cell(study, small_spec(method=method)).folder / PROBES) for method in ("opd", "grpo"))
    before = ["task_id", "turn", "action", "tokens", "before"]
    pd.testing.assert_frame_equal(one[before], other[before])
    assert (one["before"] != one["after"]).any()
    assert (one["after"] != other["after"]).any()
    assert (one["before"] <= 0.0).all()


def test_luck_by_seed_pairs_methods_and_parts_seeds_but_not_probes(tmp_path: Path) -> None:
    words = ("updates=1", "evaluation.luck=by_seed", "evaluation.samples=2")
    cells = {
        (method, seed): Cell(tmp_path, small_spec(*words, method=method, seed=seed))
        for method, seed in (("grpo", 0), ("opd", 0), ("grpo", 1))
    }
    for cell in cells.values():
        run_here(tmp_path, cell.spec.model_dump(mode="json"))
    drawn = {key: pd.read_parquet(cell.folder / EPISODES).query("phase == 'eval'") for key, cell in cells.items()}
    before = {key: tuple(rows.query("update == 0")["rollout_sha256"]) for key, rows in drawn.items()}
    assert before["grpo", 0] == before["opd", 0] != before["grpo", 1]
    assert all((rows.groupby(["update", "task_id"])["trajectory"].nunique() == 2).all() for rows in drawn.values())
    probes = [pd.read_parquet(cell.folder / PROBES)[["task_id", "turn", "action", "before"]] for cell in cells.values()]
    pd.testing.assert_frame_equal(probes[0], probes[1])
    pd.testing.assert_frame_equal(probes[0], probes[2])


def test_a_run_without_updates_has_moved_nothing(tmp_path: Path) -> None:
    spec = small_spec("updates=0", method="grpo")
    run_here(tmp_path, spec.model_dump(mode="json"))
    folder = Cell(tmp_path, spec).folder
    probes = pd.read_parquet(folder / PROBES)
    np.testing.assert_array_equal(probes["before"], probes["after"])
    assert pd.read_parquet(folder / CREDITS).empty


def test_show_prints_an_episode(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tokens(study, "opd").query("update == 2 and trajectory == 1")
    assert run(["show", str(study), "--method", "OPD", "--update", "2", "--trajectory", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("OPD, hindsight peer_traj, seed 0, update 2\n")
    assert said.count("\nturn ") == rows["turn"].nunique()
    words = " ".join(said.split())  # lines are folded where the terminal has a width
    assert all(f"{' '.join(text.split())}[" in words for text in rows["text"])
    assert all(" ".join(text.split()) in words for text in rows["read"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "several runs fit; choose with --method, --arm and --seed"),
        (["--method", "rlsd"], "unknown method 'rlsd'"),
        (["--method", "grpo", "--arm", "foreign"], "no run fits"),
        (["--method", "grpo", "--update", "7"], "keeps no such episode; it has update 0, task"),
    ],
)
def test_show_says_what_there_is(study: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(study), *words]) == 2
    assert told in capsys.readouterr().err


def test_show_takes_a_run_before_its_repetition(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(REFERENCE), "--method", "stepopsd", "--seed", "0"]) == 0
    assert capsys.readouterr().out.startswith("StepOPSD, hindsight peer_traj, seed 0, update 0\n")


def test_show_needs_a_complete_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert run(["show", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    spec = small_spec(*LEAST, method="grpo")
    run_here(tmp_path, spec.model_dump(mode="json"))
    (Cell(tmp_path, spec).folder / CREDITS).unlink()
    assert run(["show", str(tmp_path)]) == 2
    assert "an older version made it" in capsys.readouterr().err
