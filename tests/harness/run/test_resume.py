"""A run killed anywhere and started again reaches the bits of a run that was left alone."""

import signal
from pathlib import Path

import pytest

from stepcredit.harness.errors import UserError
from stepcredit.harness.record import checkpoint
from stepcredit.harness.record.cell import Cell
from tests.harness.cells import KillPoint, bits, run_here, run_in_process, small_spec

Bits = dict[str, object]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Bits:
    study = tmp_path_factory.mktemp("undisturbed")
    assert run_in_process(study, small_spec()) == 0
    return bits(Cell(study, small_spec()))


def test_two_processes_reach_the_same_bits(tmp_path: Path, undisturbed: Bits) -> None:
    assert run_in_process(tmp_path, small_spec()) == 0
    assert bits(Cell(tmp_path, small_spec())) == undisturbed


# Where the nth call falls: evaluations at updates 0, 2 and 3 with 4 episodes, 12 episodes per update, all with at
# most 10 turns; a checkpoint after every update.
POINTS = {
    "first evaluation": KillPoint("stepcredit.envs.alfworld.env", "AlfworldEnv.step", 3),
    "rollout": KillPoint("stepcredit.envs.alfworld.env", "AlfworldEnv.step", 60),
    "later evaluation": KillPoint("stepcredit.harness.run.train", "evaluate", 2),
    "credit": KillPoint("stepcredit.harness.engine.rescore", "ModelRescorer.score", 1),
    "optimiser step": KillPoint("torch.optim", "AdamW.step", 2),
    "checkpoint, before it is on disk": KillPoint("os", "fsync", 10),
    "checkpoint, before it has its name": KillPoint("pathlib", "Path.replace", 7),
    "deleting an old checkpoint": KillPoint("pathlib", "Path.unlink", 1),
    "tokens of an update": KillPoint("stepcredit.harness.run.tokens", "write_rows", 2),
    "result files": KillPoint("stepcredit.harness.run.train", "write_rows", 2),
    "gathering what was kept": KillPoint("stepcredit.harness.run.tokens", "read_rows", 2),
    "letting it go": KillPoint("stepcredit.harness.run.probes", "let_go", 1),
}


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS.keys())
def test_killed_run_resumes_to_the_same_bits(tmp_path: Path, undisturbed: Bits, point: KillPoint) -> None:
    assert run_in_process(tmp_path, small_spec(), point) == -signal.SIGKILL
    assert run_in_process(tmp_path, small_spec()) == 0
    assert bits(Cell(tmp_path, small_spec())) == undisturbed
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list((Cell(tmp_path, small_spec()).folder / checkpoint.FOLDER).glob("*.parquet"))


def test_killed_again_and_again(tmp_path: Path, undisturbed: Bits) -> None:
    for nth in (3, 5, 7):
        assert run_in_process(tmp_path, small_spec(), KillPoint("os", "fsync", nth)) == -signal.SIGKILL
    assert run_in_process(tmp_path, small_spec()) == 0
    assert bits(Cell(tmp_path, small_spec())) == undisturbed


def test_damaged_last_checkpoint_stops_the_run_until_it_is_deleted(tmp_path: Path, undisturbed: Bits) -> None:
    spec = small_spec()
    point = KillPoint("stepcredit.harness.run.train", "write_rows", 1)
    assert run_in_process(tmp_path, spec, point) == -signal.SIGKILL
    last = checkpoint.find(Cell(tmp_path, spec).folder)
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"update-000003\.ckpt is damaged"):
        run_here(tmp_path, spec.model_dump(mode="json"))
    last.unlink()
    assert run_in_process(tmp_path, spec) == 0
    assert bits(Cell(tmp_path, small_spec())) == undisturbed
