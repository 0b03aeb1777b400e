"""Rescoring against one plain forward pass for each step."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    Olmo2Config,
    PreTrainedModel,
    Qwen3MoeConfig,
)

from stepcredit.harness.engine.cached import TransformersEngine
from stepcredit.harness.engine.rescore import Drawn, ModelRescorer
from stepcredit.harness.model.frozen import FrozenCopy
from stepcredit.methods.contract import MethodError, ScoreRequest, Trajectory, Weights
from tests.harness.support import SPEC, plain_logprobs, sharpen, toy_groups, toy_policy

POLICY, STALE, OTHER = toy_policy(), toy_policy(seed=1).model, toy_policy(seed=2).model
OTHERS = {Weights.INITIAL: OTHER, Weights.STALE: STALE, Weights.EMA: OTHER, Weights.CHECKPOINT: OTHER}
TEACHERS = {weights: FrozenCopy(model) for weights, model in OTHERS.items()}
TRAJECTORIES = [trajectory for group in toy_groups(POLICY) for trajectory in group.trajectories]
WINDOWED = [
    trajectory
    for group in toy_groups(POLICY, spec=SPEC.model_copy(update={"window": 1, "show_actions": True}))
    for trajectory in group.trajectories
]
Starts = tuple[int | None, ...]
HINT = "go to shelf shelf look at the mug z"


def naive(model: PreTrainedModel, trajectory: Trajectory, hint: list[int], temperature: float = 1.0) -> Tensor:
    suffix = list(POLICY.transcript.generation_suffix)
    parts = []
    for step in trajectory.steps:
        prompt = step.prompt_ids.tolist()
        assert prompt[-len(suffix) :] == suffix
        text = [*prompt[: -len(suffix)], *hint, *suffix, *step.response_ids]
        parts.append(plain_logprobs(model, text, len(step.response_ids), temperature))
    return torch.cat(parts).float()


def naive_logits(model: PreTrainedModel, trajectory: Trajectory, hint: list[int], starts: Starts) -> Tensor:
    """[T, V] from one pass for each token of the response."""
    rows = []
    for step, start in zip(trajectory.steps, starts, strict=True):
        prompt, response = step.prompt_ids.tolist(), step.response_ids.tolist()
        for t in range(len(response)):
            block = hint if start is not None and t >= start else []
            cut = start if block else 0
            rows.append(
                model(input_ids=torch.tensor([[*prompt, *response[:cut], *block, *response[cut:t]]])).logits[0, -1]
            )
    return torch.stack(rows).float()


def some_starts(trajectory: Trajectory, kind: str) -> Starts:
    """Where a hint stands: at the first token of each response, at a later one or nowhere."""
    lengths = [len(step.response_ids) for step in trajectory.steps]
    if kind == "first":
        return tuple(0 for _ in lengths)
    return tuple(None if k % 3 == 2 else min(k + 1, length - 1) for k, length in enumerate(lengths))


@pytest.mark.parametrize("kind", ["first", "mixed"])
@pytest.mark.parametrize("budget", [64, 10_000])
@pytest.mark.parametrize("weights", [Weights.LIVE, Weights.STALE])
def test_hindsight_in_mid_response_and_distributions_are_those_of_separate_passes(
    kind: str, budget: int, weights: Weights
) -> None:
    model, hint = {Weights.LIVE: POLICY.model, **OTHERS}[weights], POLICY.transcript.hindsight(HINT)
    trajectories = [*TRAJECTORIES[:3], *WINDOWED[:2]]
    requests = [ScoreRequest(trajectory, weights, HINT, some_starts(trajectory, kind)) for trajectory in trajectories]
    rescorer = ModelRescorer(POLICY, TEACHERS, budget, drawn=Drawn.BY_LIVE_WEIGHTS)
    scores, likeliest = rescorer.score(requests), rescorer.distributions(requests, 7)
    for request, score_T, found in zip(requests, scores, likeliest, strict=True):
        with torch.no_grad():
            logits_TV = naive_logits(model, request.trajectory, hint, request.starts or ())
        token_T = torch.cat([torch.from_numpy(step.response_ids) for step in request.trajectory.steps])
        logprob_TV = logits_TV.log_softmax(-1)
        torch.testing.assert_close(score_T, logprob_TV.gather(1, token_T[:, None])[:, 0], atol=1e-5, rtol=0)
        torch.testing.assert_close(found.logprob_Tk, logprob_TV.topk(7).values, atol=1e-5, rtol=0)
        torch.testing.assert_close(logprob_TV.gather(1, found.ids_Tk.long()), found.logprob_Tk, atol=1e-5, rtol=0)


def test_a_live_students_distributions_are_computed_though_its_scores_are_recorded() -> None:
    rescorer = ModelRescorer(POLICY, TEACHERS, 500, drawn=Drawn.BY_LIVE_WEIGHTS)
    request = [ScoreRequest(TRAJECTORIES[0], Weights.LIVE)]
    found, score_T = rescorer.distributions(request, 10**6)[0], rescorer.score(request)[0]
    token_T = torch.cat([torch.from_numpy(step.response_ids) for step in TRAJECTORIES[0].steps])
    drawn_T = found.logprob_Tk[found.ids_Tk == token_T[:, None]]
    torch.testing.assert_close(drawn_T, score_T, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.logprob_Tk.exp().sum(-1), torch.ones(len(token_T)))


@pytest.mark.parametrize("weights", Weights)
@pytest.mark.parametrize("hindsight", [None, HINT])
@pytest.mark.parametrize("budget", [64, 10_000])
def test_scores_are_those_of_separate_passes(weights: Weights, hindsight: str | None, budget: int) -> None:
    model = {Weights.LIVE: POLICY.model, **OTHERS}[weights]
    hint = [] if hindsight is None else POLICY.transcript.hindsight(hindsight)
    trajectories = [*TRAJECTORIES, *WINDOWED]
    requests = [ScoreRequest(trajectory, weights, hindsight) for trajectory in trajectories]
    scores = ModelRescorer(POLICY, TEACHERS, budget).score(requests)
    for trajectory, score_T in zip(trajectories, scores, strict=True):
        assert score_T.dtype == torch.float32
        assert not score_T.requires_grad
        torch.testing.assert_close(score_T, naive(model, trajectory, hint), atol=1e-5, rtol=0)


FAMILIES = {
    "llama": LlamaConfig,
    "mixture of experts": Qwen3MoeConfig,
    "parallel attention": GPTNeoXConfig,
    "norms after": Olmo2Config,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_other_decoders_are_read_as_exactly(family: str) -> None:
    config = FAMILIES[family](
        vocab_size=len(POLICY.tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_experts=4,
        moe_intermediate_size=16,
        num_experts_per_tok=2,
        max_position_embeddings=2048,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    sharpen(model, 0)
    requests = [ScoreRequest(t, Weights.CHECKPOINT, hint) for t in TRAJECTORIES[:3] for hint in (HINT, "look", None)]
    scores = ModelRescorer(POLICY, {Weights.CHECKPOINT: FrozenCopy(model)}, 500).score(requests)
    for request, score_T in zip(requests, scores, strict=True):
        hint = [] if request.hindsight is None else POLICY.transcript.hindsight(request.hindsight)
        torch.testing.assert_close(score_T, naive(model, request.trajectory, hint), atol=1e-5, rtol=0)


def test_what_the_live_weights_drew_is_not_read_again() -> None:
    """The recorded numbers are the answer, exactly; a teacher's and a hint's are computed all the same."""
    trajectory = TRAJECTORIES[0]
    kinds = [(Weights.LIVE, None), (Weights.LIVE, HINT), (Weights.STALE, None)]
    requests = [ScoreRequest(trajectory, weights, hint) for weights, hint in kinds]
    known = ModelRescorer(POLICY, TEACHERS, 500, drawn=Drawn.BY_LIVE_WEIGHTS).score(requests)
    computed = ModelRescorer(POLICY, TEACHERS, 500).score(requests)
    np.testing.assert_array_equal(known[0], np.concatenate([step.logprobs for step in trajectory.steps]))
    for known_T, computed_T in zip(known, computed, strict=True):
        torch.testing.assert_close(known_T, computed_T, atol=1e-5, rtol=0)


class OtherEngine(TransformersEngine):
    """An engine that draws alike and does not vouch for its numbers."""

    @property
    def exact(self) -> bool:
        return False


def test_a_model_in_bfloat16_is_computed_again() -> None:
    assert not TransformersEngine(toy_policy().model.bfloat16()).exact


def test_signs_that_the_engines_numbers_would_turn_are_counted() -> None:
    """The engine says each student's token is a little likelier than the teacher finds it, or a little less likely."""
    trajectory = TRAJECTORIES[0]
    plain = ScoreRequest(trajectory, Weights.LIVE)
    gap_T = torch.sub(*ModelRescorer(POLICY, TEACHERS, 500).score([ScoreRequest(trajectory, Weights.STALE), plain]))
    beyond_T = torch.where(torch.arange(len(gap_T)) % 3 == 0, 1.5 * gap_T, 0.5 * gap_T)  # every third sign turns
    parts = np.split(beyond_T.numpy(), np.cumsum([len(step.response_ids) for step in trajectory.steps])[:-1])
    steps = (replace(step, logprobs=step.logprobs + part) for step, part in zip(trajectory.steps, parts, strict=True))
    shifted = replace(trajectory, steps=tuple(steps))
    requests = [ScoreRequest(shifted, Weights.STALE), ScoreRequest(shifted, Weights.LIVE)]
    rescorer = ModelRescorer(POLICY, TEACHERS, 500)
    assert rescorer.take_signs_at_risk() is None
    rescorer.score(requests)
    assert rescorer.take_signs_at_risk() == pytest.approx(-(-len(gap_T) // 3) / len(gap_T))
    assert rescorer.take_signs_at_risk() is None
    exact = ModelRescorer(POLICY, TEACHERS, 500, drawn=Drawn.BY_LIVE_WEIGHTS)
    exact.score(requests)
    assert exact.take_signs_at_risk() is None


@pytest.mark.parametrize("engine", [TransformersEngine, OtherEngine])
def test_only_an_exact_engines_numbers_stand_for_the_policys(engine: type[TransformersEngine]) -> None:
    """Numbers that are wrong on purpose come back from the one, and are computed anew for the other."""
    trajectory = TRAJECTORIES[0]
    wrong = replace(trajectory, steps=tuple(replace(step, logprobs=step.logprobs - 1) for step in trajectory.steps))
    drawn = Drawn.now_by(engine(POLICY.model))
    score_T = ModelRescorer(POLICY, {}, 500, drawn=drawn).score([ScoreRequest(wrong, Weights.LIVE)])[0]
    chosen = wrong if engine is TransformersEngine else trajectory
    np.testing.assert_allclose(score_T, np.concatenate([step.logprobs for step in chosen.steps]), atol=1e-5)


def test_live_student_repeats_the_sampler_at_its_temperature() -> None:
    groups = toy_groups(POLICY, spec=SPEC.model_copy(update={"temperature": 0.7}))
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    scores = ModelRescorer(POLICY, {}, 500, temperature=0.7).score(
        [ScoreRequest(trajectory, Weights.LIVE) for trajectory in trajectories]
    )
    for trajectory, score_T in zip(trajectories, scores, strict=True):
        np.testing.assert_allclose(score_T, np.concatenate([step.logprobs for step in trajectory.steps]), atol=1e-5)


def test_requests_keep_their_order_when_weights_and_hints_are_mixed() -> None:
    chosen = [
        ScoreRequest(trajectory, weights, hint)
        for trajectory in TRAJECTORIES[:2]
        for hint in (HINT, None, "look")
        for weights in (Weights.STALE, Weights.LIVE)
    ]
    rescorer = ModelRescorer(POLICY, TEACHERS, 300)
    for request, score_T in zip(chosen, rescorer.score(chosen), strict=True):
        torch.testing.assert_close(score_T, rescorer.score([request])[0], atol=1e-5, rtol=0)


def test_a_hint_beyond_the_models_positions_loses_its_end() -> None:
    policy = toy_policy()
    trajectory = max(TRAJECTORIES, key=lambda each: len(each.steps[-1].prompt_ids))
    longest = len(trajectory.steps[-1].prompt_ids) + len(trajectory.steps[-1].response_ids)
    policy.model.config.max_position_embeddings = longest + 3
    rescorer = ModelRescorer(policy, {}, 500)
    score_T = rescorer.score([ScoreRequest(trajectory, Weights.LIVE, HINT)])[0]
    whole = POLICY.transcript.hindsight(HINT)
    kept = whole[:3]
    torch.testing.assert_close(score_T, naive(POLICY.model, trajectory, kept), atol=1e-5, rtol=0)
    assert rescorer.take_cut_tokens() == len(whole) - 3
    assert rescorer.take_cut_tokens() == 0


def test_a_trajectory_without_steps_has_no_scores() -> None:
    empty = replace(TRAJECTORIES[0], steps=())
    requests = [ScoreRequest(empty, Weights.LIVE, hint) for hint in (None, HINT)]
    assert [len(score_T) for score_T in ModelRescorer(POLICY, {}, 500).score(requests)] == [0, 0]


@pytest.mark.parametrize("weights", [Weights.STALE, Weights.CHECKPOINT])
def test_weights_that_are_asked_for_must_exist(weights: Weights) -> None:
    with pytest.raises(MethodError, match=f"{weights} weights are asked for, .* `needs` must say"):
        ModelRescorer(POLICY, {}, 500).score([ScoreRequest(TRAJECTORIES[0], weights)])
