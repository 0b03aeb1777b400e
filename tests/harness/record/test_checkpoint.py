"""A checkpoint gives back every bit, or says which file is damaged."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from stepcredit.harness.errors import UserError
from stepcredit.harness.record import checkpoint
from stepcredit.harness.record.checkpoint import RunState, SavedWeights
from stepcredit.harness.record.rows import TimingRow, episode_rows
from tests.harness.rows import group, step, trajectory

SPEC = "ab" * 32


def trained() -> tuple[nn.Module, torch.optim.AdamW]:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.arange(6.0).reshape(2, 3) / 7)
        model.bias.zero_()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.9, 0.95))
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def weights() -> SavedWeights:
    model, optimizer = trained()
    return SavedWeights(model.state_dict(), optimizer.state_dict(), kept={"stale": {"w": torch.tensor([1.5])}})


def state(update: int = 3) -> RunState:
    rows = episode_rows([group(trajectory(step([1], [2])))], phase="eval", update=2, split="valid_unseen", seed=0)
    return RunState(update, rows, [], [TimingRow(1, 0.1, 0.2, 0.3, 0.0)], [1])


def test_everything_comes_back(tmp_path: Path) -> None:
    saved = weights()
    path = checkpoint.save(tmp_path, SPEC, state(), saved)
    found, loaded = checkpoint.load(path, SPEC)
    assert found == state()
    assert found.evaluated == 2
    assert all(torch.equal(loaded.model[name], saved.model[name]) for name in saved.model)
    assert torch.equal(loaded.kept["stale"]["w"], torch.tensor([1.5]))


def test_optimiser_continues_to_the_same_bits(tmp_path: Path) -> None:
    model, optimizer = trained()
    path = checkpoint.save(tmp_path, SPEC, state(), SavedWeights(model.state_dict(), optimizer.state_dict()))
    other, resumed = trained()
    _, loaded = checkpoint.load(path, SPEC)
    other.load_state_dict(loaded.model)
    resumed.load_state_dict(dict(loaded.optimizer))
    for each, stepper in ((model, optimizer), (other, resumed)):
        stepper.zero_grad()
        each(torch.full((1, 3), 0.3)).sum().backward()
        stepper.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_last_two_are_kept(tmp_path: Path) -> None:
    for update in (0, 10, 20, 30):
        checkpoint.save(tmp_path, SPEC, state(update), weights())
    assert [checkpoint.update_of(path) for path in checkpoint.available(tmp_path)] == [20, 30]
    assert checkpoint.find(tmp_path) == checkpoint.find(tmp_path, 30)
    with pytest.raises(UserError, match=r"updates \[20, 30\], not 10"):
        checkpoint.find(tmp_path, 10)


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        checkpoint.find(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_truncated_checkpoint_is_refused_by_name(tmp_path: Path, kept: float) -> None:
    path = checkpoint.save(tmp_path, SPEC, state(), weights())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(UserError, match=r"update-000003\.ckpt is damaged.*delete this one file"):
        checkpoint.load(path, SPEC)


@pytest.mark.parametrize("position", [0.02, 0.3, 0.6, 0.95])
def test_one_flipped_bit_is_refused(tmp_path: Path, position: float) -> None:
    path = checkpoint.save(tmp_path, SPEC, state(), weights())
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        checkpoint.load(path, SPEC)


def test_checkpoint_of_another_spec_is_refused(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, SPEC, state(), weights())
    with pytest.raises(UserError, match="belongs to spec abababababab, not to cdcdcdcdcdcd"):
        checkpoint.load(path, "cd" * 32)


def test_rows_are_independent_of_the_file(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, SPEC, state(), weights())
    found, _ = checkpoint.load(path, SPEC)
    found.timings[0] = replace(found.timings[0], eval_s=9.0)
    assert checkpoint.load(path, SPEC)[0] == state()


def test_full_disk_keeps_the_checkpoints_there_are(small_disk: Path) -> None:
    checkpoint.save(small_disk, SPEC, state(1), weights())
    large = SavedWeights({"w": torch.zeros(100_000)}, {})
    with pytest.raises(UserError, match=r"the disk is full: .*update-000002\.ckpt"):
        checkpoint.save(small_disk, SPEC, state(2), large)
    assert checkpoint.load(checkpoint.find(small_disk), SPEC)[0] == state(1)
    assert [path.name for path in (small_disk / "checkpoints").iterdir()] == ["update-000001.ckpt"]


def test_a_run_that_has_ended_keeps_its_last_weights_alone(tmp_path: Path) -> None:
    for update in (10, 20, 30):
        whole = checkpoint.save(tmp_path, SPEC, state(update), weights())
    before = whole.stat().st_size
    checkpoint.settle(tmp_path, SPEC, state(30), weights())
    assert checkpoint.available(tmp_path) == [whole]
    found, kept = checkpoint.load(whole, SPEC)
    assert found == state(30)
    assert kept.optimizer is None
    assert not kept.kept
    assert all(torch.equal(kept.model[name], value) for name, value in weights().model.items())
    assert whole.stat().st_size < before


def test_two_checkpoints_at_most_while_a_third_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for update in (10, 20):
        checkpoint.save(tmp_path, SPEC, state(update), weights())
    monkeypatch.setattr(torch, "save", lambda *_: pytest.fail(f"{len(checkpoint.available(tmp_path))} kept"))
    with pytest.raises(pytest.fail.Exception, match="1 kept"):
        checkpoint.save(tmp_path, SPEC, state(30), weights())
