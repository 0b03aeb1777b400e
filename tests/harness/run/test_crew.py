"""Several processes make the steps of one, and go on from its checkpoints, as it does from theirs."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from stepcredit.envs import load_benchmark
from stepcredit.harness import determinism
from stepcredit.harness.engine.rescore import Drawn
from stepcredit.harness.engine.stretches import TokenSequence
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.frozen import FrozenCopy
from stepcredit.harness.model.policy import load_policy
from stepcredit.harness.progress import Report
from stepcredit.harness.record import checkpoint, manifest
from stepcredit.harness.record.cell import EPISODES, UPDATES, Cell
from stepcredit.harness.record.rows import EpisodeRow, UpdateRow, read_rows
from stepcredit.harness.run import crew
from stepcredit.harness.run.crew import Crew, SpreadTrainer
from stepcredit.harness.run.loss import Item
from stepcredit.harness.run.optimizer import optimizer_of, with_adapters
from stepcredit.harness.run.train import train
from stepcredit.harness.run.trainer import LocalTrainer
from stepcredit.harness.setup.parts import assemble
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.contract import Distributions, Target
from tests.harness.cells import small_spec
from tests.harness.hub import put_qwen

# Nine trajectories, each longer than the budget: nine micro-batches, which two processes cannot share evenly.
UNEVEN = small_spec(
    "updates=2", "rollout.group=3", "optim.token_budget=64", "objective.kl=0.01", "evaluation.size=2", method="grpo"
)
CLOSE = 1e-5


@pytest.fixture(autouse=True)
def _no_wait_is_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PATIENCE", timedelta(minutes=5))


class Stop(Exception):
    """Ends a run from outside."""


def run(study: Path, processes: int, until: str = "none") -> Cell:
    """The run, or its beginning."""

    def stop(report: Report) -> None:
        if report.note.startswith(until):
            raise Stop

    cell = Cell(study, UNEVEN)
    switches = determinism.switch_on(1, "cpu")
    train(cell, assemble(cell.spec, "cpu"), switches, stop, processes=processes)
    return cell


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    return run(tmp_path_factory.mktemp("undisturbed"), 1)


def last_weights(cell: Cell) -> Tensor:
    _, weights = checkpoint.load(checkpoint.find(cell.folder), cell.spec.sha256)
    return torch.cat([part.flatten() for part in weights.model.values()])


@pytest.mark.parametrize(
    ("first", "second", "noted"), [(1, 2, {"1": 2}), (2, 1, {"0": 2, "1": 1})], ids=["from one to two", "and back"]
)
def test_a_run_moves_between_one_process_and_two(
    tmp_path: Path, undisturbed: Cell, first: int, second: int, noted: dict[str, int]
) -> None:
    with pytest.raises(Stop):
        run(tmp_path, first, until="update 1/2")
    cell = run(tmp_path, second)
    before, after = (read_rows(one.folder / UPDATES, UpdateRow) for one in (undisturbed, cell))
    assert [row.rollouts_sha256 for row in after] == [row.rollouts_sha256 for row in before]
    for name in ("loss", "policy_loss", "grad_norm", "entropy"):
        assert [asdict(row)[name] for row in after] == pytest.approx([asdict(row)[name] for row in before], rel=CLOSE)
    episodes = [read_rows(one.folder / EPISODES, EpisodeRow) for one in (undisturbed, cell)]
    assert episodes[0] == episodes[1]
    torch.testing.assert_close(last_weights(cell), last_weights(undisturbed), atol=CLOSE, rtol=0)
    assert manifest.require(cell.folder).processes == noted
    assert manifest.require(undisturbed.folder).processes == {}


def random_items(vocabulary: int, count: int = 5) -> list[Item]:
    """Rows of random tokens, whose second half is a response, with credit and a teacher's distributions."""
    generator, items = torch.Generator().manual_seed(0), []
    for size in range(20, 20 + 4 * count, 4):
        ids, tokens = torch.randint(vocabulary, (size,), generator=generator).numpy(), size // 2
        recorded_T, advantage_T, distill_T = torch.randn(3, tokens, generator=generator)
        teacher = Distributions(
            torch.randint(vocabulary, (tokens, 3), generator=generator).int(),
            torch.randn(tokens, 3, generator=generator).log_softmax(-1) - 0.1,
        )
        target = Target(teacher, torch.rand(tokens, generator=generator), 0.5, None)
        sequence = TokenSequence(ids, torch.arange(size - tokens, size).numpy())
        items.append(Item(sequence, 1.0, 1, recorded_T, None, advantage_T, distill_T, target))
    return items


def moved(trainer: LocalTrainer | SpreadTrainer, items: list[Item]) -> tuple[list[float], list[Tensor]]:
    """What two steps add up to and their gradients' norms; AdamW's state, which is gradients and their squares."""
    trainer.set_rate(1e-3)
    numbers: list[float] = []
    for _ in range(2):
        sums, norm = trainer.step(items, total=sum(item.tokens for item in items))
        numbers += [*sums, norm]
    state = trainer.optimizer_state()
    tensors = [value for own in state["state"].values() for value in own.values()]
    return numbers, [*tensors, *state.get("masters", ())]


def model_of(spec: RunSpec) -> PreTrainedModel:
    return with_adapters(load_policy(spec.model, load_benchmark(spec.benchmark, spec.suite), "cpu").model, spec)


def variant(model: str, **optim: object) -> RunSpec:
    sections = {"optim": {"token_budget": 64, "grad_clip": 0.5, **optim}, "objective": {"kl": 0.1, "entropy": 0.01}}
    return RunSpec.model_validate({"model": model, **sections})


def test_steps_of_adapters_are_those_of_one_process_until_a_helper_is_killed() -> None:
    with same_steps(variant("tiny", rank=2, recompute=True)) as trainer:
        (helper,) = multiprocessing.active_children()
        assert helper.pid is not None
        os.kill(helper.pid, signal.SIGKILL)
        with pytest.raises(UserError, match=r"process 2 of the 2 .* was killed by SIGKILL .* to resume"):
            trainer.optimizer_state()


def test_steps_of_masters_are_those_of_one_process(tmp_path: Path) -> None:
    """Of weights that compute in bfloat16."""
    commit = put_qwen(tmp_path)
    (folder,) = tmp_path.rglob(commit)
    with same_steps(variant(str(folder), offload=True)):
        pass


@contextmanager
def same_steps(spec: RunSpec) -> Iterator[SpreadTrainer]:
    """Two steps of one process and of two, compared; the two are still there in the block."""
    model, spread = model_of(spec), model_of(spec)
    reference, items = FrozenCopy(deepcopy(model)), random_items(model.config.vocab_size // 2)
    alone = LocalTrainer(model, reference, optimizer_of(model, spec.optim), spec, Drawn.BY_LIVE_WEIGHTS)
    numbers, state = moved(alone, items)
    with Crew(spec, 2, 1, "cpu") as both:
        trainer = both.trainer(spread, reference, Drawn.BY_LIVE_WEIGHTS)
        shared_numbers, shared_state = moved(trainer, items)
        trainer.load(trainer.optimizer_state())
        again = trainer.optimizer_state()
        assert shared_numbers == pytest.approx(numbers, rel=CLOSE)
        for mine, theirs in zip(state, shared_state, strict=True):
            torch.testing.assert_close(mine, theirs, atol=CLOSE * float(mine.abs().max()), rtol=0)
        kept = [value for own in again["state"].values() for value in own.values()]
        assert all(torch.equal(a, b) for a, b in zip(kept, shared_state, strict=False))
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        followed = [weight for weight in spread.parameters() if weight.requires_grad]
        for one, two in zip(trained, followed, strict=True):
            # Of weights that compute in bfloat16 a few may be rounded the other way, by a whole step of that grid.
            apart = float((one - two).detach().abs().gt(CLOSE).float().mean())
            assert apart <= (0.002 if one.dtype is torch.bfloat16 else 0.0)
        yield trainer
