"""Low-rank adapters as all that is trained: earlier policies are adapters too, and nothing else changes."""

import signal
from copy import deepcopy
from pathlib import Path

import pyarrow.parquet as pq
import torch
from torch import Tensor
from transformers import PreTrainedModel

from stepcredit.envs import load_benchmark
from stepcredit.harness.engine.rescore import ModelRescorer
from stepcredit.harness.model.adapters import add_adapters, merge_adapters, merged_weights, trained_weights
from stepcredit.harness.model.frozen import Frozen, FrozenAdapters, FrozenCopy
from stepcredit.harness.model.policy import load_policy, weights_sha256
from stepcredit.harness.model.shape import ModelShape
from stepcredit.harness.record import checkpoint, manifest
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.record.manifest import Manifest
from stepcredit.harness.run.learner import Learner
from stepcredit.harness.run.objective import update_policy
from stepcredit.harness.setup.parts import assemble
from stepcredit.harness.setup.teacher import load_teacher
from stepcredit.harness.spec import RunSpec
from stepcredit.harness.study.evals import Request, evaluate_run
from stepcredit.methods.contract import ScoreRequest, Weights
from tests.harness.cells import KillPoint, run_in_process, small_spec
from tests.harness.run.gradients import GROUPS, TRAJECTORIES, credits_of, random_credit, spec
from tests.harness.support import toy_policy


def adapted(model: PreTrainedModel, rank: int = 3) -> PreTrainedModel:
    """With adapters that add something."""
    add_adapters(model, rank, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in trained_weights(model).values():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)
    return model


def outputs(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(12)[None]).logits


def test_merged_they_compute_what_they_did_apart() -> None:
    plain = toy_policy().model
    model = adapted(deepcopy(plain))
    apart = outputs(model)
    assert not torch.allclose(apart, outputs(plain), atol=0.01)
    assert {name: weight.shape for name, weight in merged_weights(model)} == {
        name: weight.shape for name, weight in plain.state_dict().items()
    }
    told = deepcopy(plain)
    told.load_state_dict(dict(merged_weights(model)))
    merge_adapters(model)
    for merged in (told, model):
        torch.testing.assert_close(outputs(merged), apart, atol=1e-5, rtol=1e-5)
    frozen = dict(plain.named_parameters())
    same = [name for name, weight in model.named_parameters() if torch.equal(weight, frozen[name])]
    assert "model.embed_tokens.weight" in same
    assert not [name for name in same if "proj.weight" in name]
    assert all(weight.requires_grad for weight in model.parameters())


def moved(reference: Frozen, model: PreTrainedModel) -> dict[str, Tensor]:
    """The adapters after an update with a KL term."""
    policy = toy_policy()
    object.__setattr__(policy, "model", model)
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=1.0)
    update_policy(policy, reference, optimizer, GROUPS, credits_of(random_credit), spec(objective={"kl": 0.5}))
    return {name: weight.clone() for name, weight in trained_weights(model).items()}


def test_the_reference_is_the_model_without_them() -> None:
    plain = toy_policy().model
    model = deepcopy(plain)
    add_adapters(model, 3, seed=0)
    reference = FrozenAdapters(model)
    with torch.no_grad():
        for weight in trained_weights(model).values():
            weight.add_(0.05)
    twin = deepcopy(model)
    with reference.active() as earlier:
        assert torch.equal(outputs(earlier), outputs(plain))
    assert torch.equal(outputs(model), outputs(twin))
    ours, theirs = moved(reference, model), moved(FrozenCopy(plain), twin)
    before = trained_weights(adapted(deepcopy(plain)))
    assert all(torch.equal(ours[name], theirs[name]) for name in before)


def test_a_stale_teacher_is_what_the_adapters_were() -> None:
    policy, model = toy_policy(), adapted(toy_policy().model)
    object.__setattr__(policy, "model", model)
    stale, copy = FrozenAdapters(model), FrozenCopy(deepcopy(model))
    with torch.no_grad():
        for weight in trained_weights(model).values():
            weight.mul_(1.5)
    request = [ScoreRequest(trajectory, Weights.STALE) for trajectory in TRAJECTORIES]
    for _ in range(2):
        ours, theirs = (ModelRescorer(policy, {Weights.STALE: one}, 500).score(request) for one in (stale, copy))
        assert all(torch.equal(own, other) for own, other in zip(ours, theirs, strict=True))
        for one in (stale, copy):
            one.load(trained_weights(model) if one is stale else model.state_dict())


def test_a_run_trains_resumes_and_goes_on_as_a_policy(tmp_path: Path) -> None:
    chosen = small_spec("optim.rank=4", "optim.lr=0.01", "objective.kl=0.05")
    assert run_in_process(tmp_path / "again", chosen, KillPoint("torch.optim", "AdamW.step", 2)) == -signal.SIGKILL
    whole, again = (finished(tmp_path / study, chosen) for study in ("whole", "again"))
    assert whole.resumed_at == []
    assert again.resumed_at == [1]
    assert whole.final_weights_sha256 == again.final_weights_sha256 != whole.policy.weights_sha256
    assert all(whole.files[name] == again.files[name] for name in ("episodes.parquet", "updates.parquet"))

    folder, mini = Cell(tmp_path / "whole", chosen).folder, load_benchmark("alfworld", "mini")
    student = load_policy("tiny", mini)
    assert checkpoint.find(folder).stat().st_size < 1.5e6, "the weights of tiny alone are 3 MB"
    assert weights_sha256(load_teacher(str(folder), student, mini).model) == whole.final_weights_sha256
    evaluated = evaluate_run(folder, Request(size=4), 1, "cpu")
    table = pq.read_table(folder / "episodes.parquet").to_pylist()
    during = [row["success"] for row in table if row["phase"] == "eval" and row["update"] == chosen.updates]
    assert evaluated["success"] == sum(during) / len(during)


def finished(study: Path, chosen: RunSpec) -> Manifest:
    assert run_in_process(study, chosen) == 0
    found = manifest.read(Cell(study, chosen).folder)
    assert found is not None
    return found


def test_they_are_all_that_is_kept_beside_the_policy() -> None:
    chosen = small_spec("optim.rank=4", "objective.kl=0.05")
    learner = Learner.of(chosen, assemble(chosen, "cpu"))
    adapters = sum(weight.nbytes for weight in trained_weights(learner.policy.model).values())
    assert learner.kept.nbytes == 2 * adapters < learner.policy.parameters
    assert adapters == 4 * 4 * ModelShape.of(learner.policy.model.config).linear_ends
