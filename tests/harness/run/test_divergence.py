"""Terms that move the policy towards whole distributions: exact over all tokens, and bounded over the likeliest."""

import itertools
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import SGD

from stepcredit.harness.engine.rescore import ModelRescorer
from stepcredit.harness.engine.sequences import response_logits
from stepcredit.harness.engine.stretches import TokenSequence
from stepcredit.harness.model.frozen import Average, FrozenCopy
from stepcredit.harness.record import manifest
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.run.divergence import Aim
from stepcredit.harness.run.learner import Learner
from stepcredit.harness.run.objective import update_policy
from stepcredit.harness.setup.parts import assemble
from stepcredit.methods.contract import Credit, ScoreRequest, Target, Trajectory, Weights
from tests.harness.cells import KillPoint, run_in_process, small_spec
from tests.harness.run.gradients import GROUPS, TRAJECTORIES, credits_of, gradient_of, spec
from tests.harness.support import toy_policy

V = 40
BETAS = [0.0, 0.3, 0.5, 1.0]


def drawn(seed: int, spread: float = 1.0) -> Tensor:
    return torch.randn((6, V), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread


def by_torch(teacher_KV: Tensor, student_KV: Tensor, beta: float) -> Tensor:
    """[K, V] each entry's part, by `kl_div` as TRL's `GKDTrainer.generalized_jsd_loss` combines it."""
    kl = functional.kl_div
    if beta == 0.0:
        return kl(student_KV, teacher_KV, reduction="none", log_target=True)
    if beta == 1.0:
        return kl(teacher_KV, student_KV, reduction="none", log_target=True)
    middle_KV = (beta * teacher_KV.exp() + (1 - beta) * student_KV.exp()).log()
    parts = (kl(middle_KV, log_KV, reduction="none", log_target=True) for log_KV in (teacher_KV, student_KV))
    return beta * next(parts) + (1 - beta) * next(parts)


def aim(teacher_KV: Tensor, k: int, beta: float, entry_clip: float | None = None) -> Aim:
    top = teacher_KV.topk(k)
    weight_K = torch.arange(1.0, 1.0 + len(teacher_KV), dtype=torch.float64)
    return Aim(top.indices, top.values, weight_K, beta, entry_clip)


def value_and_gradient(logit_KV: Tensor, value: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    leaf = logit_KV.clone().requires_grad_()
    found_K = value(leaf.log_softmax(-1))
    found_K.sum().backward()
    assert leaf.grad is not None
    return found_K.detach(), leaf.grad


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("entry_clip", [None, 0.05])
def test_over_all_tokens_it_is_the_exact_divergence_and_its_gradient(beta: float, entry_clip: float | None) -> None:
    teacher_KV, target = drawn(1).log_softmax(-1), aim(drawn(1).log_softmax(-1), V, beta, entry_clip)

    def exact(student_KV: Tensor) -> Tensor:
        terms_KV = by_torch(teacher_KV, student_KV, beta)
        return target.weight_K * (terms_KV if entry_clip is None else terms_KV.clamp(max=entry_clip)).sum(-1)

    found = value_and_gradient(drawn(2), lambda log_KV: target.divergence(log_KV.gather(1, target.ids_Kk)))
    for ours, theirs in zip(found, value_and_gradient(drawn(2), exact), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("beta", "k"), list(itertools.product(BETAS, [1, 5, 20])))
def test_over_the_likeliest_it_lacks_what_the_others_differ_by_among_themselves(beta: float, k: int) -> None:
    """Chain rule: the exact divergence is that of the merged tokens plus one inside the merged token."""
    teacher_KV, student_KV = drawn(1, 2.0).log_softmax(-1), drawn(2, 2.0).log_softmax(-1)
    target = aim(teacher_KV, k, beta)
    found_K = target.divergence(student_KV.gather(1, target.ids_Kk)) / target.weight_K
    outside_KV = torch.ones_like(teacher_KV, dtype=torch.bool).scatter(1, target.ids_Kk, value=False)
    inside_K = torch.stack([
        within(teacher_V[out_V], student_V[out_V], beta)
        for teacher_V, student_V, out_V in zip(teacher_KV, student_KV, outside_KV, strict=True)
    ])  # fmt: skip
    exact_K = by_torch(teacher_KV, student_KV, beta).sum(-1)
    torch.testing.assert_close(found_K + inside_K, exact_K, atol=1e-9, rtol=0)
    assert (inside_K > 0).all()


def within(teacher_C: Tensor, student_C: Tensor, beta: float) -> Tensor:
    """[] what merging these tokens into one takes away."""
    merged = by_torch(teacher_C.logsumexp(-1)[None], student_C.logsumexp(-1)[None], beta)
    return by_torch(teacher_C, student_C, beta).sum() - merged.sum()


TEACHER = toy_policy(seed=3).model


def towards_teacher(top: int, beta: float, weight: float = 0.7) -> Callable[[Trajectory], Credit]:
    rescorer = ModelRescorer(toy_policy(), {Weights.INITIAL: FrozenCopy(TEACHER)}, 500)

    def give(trajectory: Trajectory) -> Credit:
        zeros_T = torch.zeros(trajectory.response_tokens)
        if trajectory.index == 1:
            return Credit(zeros_T)
        teacher = rescorer.distributions([ScoreRequest(trajectory, Weights.INITIAL)], top)[0]
        return Credit(zeros_T, target=Target(teacher, torch.full_like(zeros_T, weight), beta))

    return give


def plainly(beta: float, weight: float = 0.7) -> list[Tensor]:
    """The gradient of the mean divergence over all response tokens, from plain passes."""
    model = deepcopy(toy_policy().model)
    total = sum(trajectory.response_tokens for trajectory in TRAJECTORIES)
    for trajectory in TRAJECTORIES:
        for step in trajectory.steps:
            if trajectory.index == 1 or not len(step.response_ids):
                continue
            sequence = TokenSequence.of([step])
            with torch.no_grad():
                teacher_KV = response_logits(TEACHER, [sequence])[0].log_softmax(-1)
            student_KV = response_logits(model, [sequence])[0].log_softmax(-1)
            (weight * by_torch(teacher_KV, student_KV, beta).sum() / total).backward()
    return [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in model.parameters()]


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("recompute", [False, True])
def test_the_objectives_gradient_is_that_of_plain_passes(beta: float, recompute: bool) -> None:
    chosen = spec(optim={"grad_clip": 1e9, "token_budget": 200, "recompute": recompute})
    found, stats = gradient_of(towards_teacher(10**6, beta), chosen)
    assert stats.distill_loss > 0
    assert stats.policy_loss == 0
    for ours, theirs in zip(found, plainly(beta), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-4)


def test_few_likely_tokens_are_nearly_enough() -> None:
    exact, _ = gradient_of(towards_teacher(10**6, 0.5), spec())
    few, _ = gradient_of(towards_teacher(30, 0.5), spec())
    apart = torch.cat([(one - other).flatten() for one, other in zip(exact, few, strict=True)]).norm()
    assert 0 < apart < 0.2 * torch.cat([one.flatten() for one in exact]).norm()


def test_steps_towards_a_teacher_arrive() -> None:
    policy, give = toy_policy(), towards_teacher(20, 0.5, weight=1.0)
    optimizer = SGD(policy.model.parameters(), lr=0.3)
    losses = [update_policy(policy, None, optimizer, GROUPS, credits_of(give), spec()).distill_loss for _ in range(6)]
    assert losses[-1] < 0.7 * losses[0]


def test_an_average_follows_at_its_rate() -> None:
    """From 1 at rate 0.25 towards 5: 2, then 2.75."""
    model = deepcopy(toy_policy().model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1.0)
    average = Average(FrozenCopy(deepcopy(model)), 0.25)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(5.0)
    for expected in (2.0, 2.75):
        average.follow(model.state_dict())
        with average.active() as shown:
            assert all((weight == expected).all() for weight in shown.parameters())


@pytest.mark.parametrize("teacher", ["initial", "ema", "stale", "live"])
def test_every_teacher_trains_and_resumes_to_the_same_bits(teacher: str, tmp_path: Path) -> None:
    options = (f"method_options.teacher={teacher}", "method_options.divergence=jsd", "method_options.top_k=10")
    chosen = small_spec(*options, "optim.lr=0.003", method="opd")
    assert run_in_process(tmp_path / "again", chosen, KillPoint("torch.optim", "AdamW.step", 2)) != 0
    found = []
    for study in ("whole", "again"):
        assert run_in_process(tmp_path / study, chosen) == 0
        found.append(manifest.read(Cell(tmp_path / study, chosen).folder))
    whole, again = found
    assert whole is not None
    assert again is not None
    assert again.resumed_at == [1]
    assert whole.final_weights_sha256 == again.final_weights_sha256 != whole.policy.weights_sha256


def test_the_initial_teacher_and_the_reference_are_one_copy() -> None:
    chosen = small_spec("objective.kl=0.1", method="opd")
    learner = Learner.of(chosen, assemble(chosen, "cpu"))
    assert learner.kept.reference is learner.kept.teachers[Weights.INITIAL]
    assert learner.kept.nbytes == 4 * learner.policy.parameters


def test_the_kl_terms_reference_may_move_with_the_teacher() -> None:
    chosen = small_spec("objective.kl=0.1", "objective.reference=teacher", method="stepopsd")
    kept = Learner.of(chosen, assemble(chosen, "cpu")).kept
    assert kept.reference is kept.teachers[Weights.STALE]
    with torch.no_grad():
        for weight in kept.live.parameters():
            weight.mul_(2.0)
    kept.refresh(10)
    with kept.reference.active() as earlier:
        assert all(torch.equal(*pair) for pair in zip(earlier.parameters(), kept.live.parameters(), strict=True))
