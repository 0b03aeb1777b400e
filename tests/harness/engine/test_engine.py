"""Laws of sampling over a cache: what is drawn, and with which probability, is that of plain forward passes."""

from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM, TopPLogitsWarper

from stepcredit.envs.contract import Benchmark
from stepcredit.harness.bench.rollout import GenerateEngine
from stepcredit.harness.engine.cached import TransformersEngine
from stepcredit.harness.engine.contract import Sample, draw
from stepcredit.harness.engine.turns import TurnTracker
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.errors import UserError
from tests.harness.support import DRAWS, SPEC, TASKS, Toys, llama, plain_logprobs, toy_policy

POLICY = toy_policy()
MODELS: dict[str, PreTrainedModel] = {"qwen3": POLICY.model, "llama": llama()}
Prompts = list[NDArray[np.int64]]


def prompts_of(lengths: list[int], seed: int = 0) -> Prompts:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 90, length) for length in lengths]


def endless() -> TurnTracker:
    return TurnTracker(lambda _: b".")


def mixed() -> TurnTracker:
    """Closes its action after a token whose number divides by four."""
    return TurnTracker(lambda token: b"." if token % 4 else b"<action></action>")


def play(
    model: PreTrainedModel, prompts: Prompts, seeds: list[int], turns: int = 3, temperature: float = 1.0
) -> tuple[list[list[Sample]], Prompts]:
    """Several turns with observations of uneven length; the samples by turn, and the transcripts at the end."""
    session = TransformersEngine(model).open(prompts)
    texts, by_turn = [list(prompt) for prompt in prompts], []
    for turn in range(turns):
        samples = session.generate(
            seeds=[seed + 1000 * turn for seed in seeds], new_tracker=mixed, max_tokens=7, temperature=temperature
        )
        observations = [list(range(1, 2 + (seed + turn) % 5)) for seed in seeds]
        session.append(observations)
        for text, sample, observation in zip(texts, samples, observations, strict=True):
            text += [*sample.token_ids, *observation]
        by_turn.append(samples)
    return by_turn, [np.array(text) for text in texts]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_those_of_a_plain_forward_pass(name: str, temperature: float) -> None:
    prompts = prompts_of([5, 40, 1, 5, 23])
    prompts[3] = prompts[0]
    by_turn, texts = play(MODELS[name], prompts, [1, 2, 3, 4, 5], temperature=temperature)
    for row, text in enumerate(texts):
        end = len(prompts[row])
        for turn, samples in enumerate(by_turn):
            sample = samples[row]
            end += len(sample.token_ids)
            assert text[end - len(sample.token_ids) : end].tolist() == sample.token_ids.tolist()
            plain = plain_logprobs(MODELS[name], text[:end], len(sample.token_ids), temperature)
            np.testing.assert_allclose(sample.logprobs, plain, atol=1e-5)
            end += 1 + (row + 1 + turn) % 5


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=40), st.integers(0, 2**31))
def test_a_row_draws_the_same_alone_and_in_company(lengths: list[int], seed: int) -> None:
    prompts, seeds = prompts_of(lengths, seed), [seed + row for row in range(len(lengths))]
    together, _ = play(POLICY.model, prompts, seeds, turns=2)
    chosen = seed % len(lengths)
    alone, _ = play(POLICY.model, [prompts[chosen]], [seeds[chosen]], turns=2)
    for samples, single in zip(together, alone, strict=True):
        assert samples[chosen].token_ids.tolist() == single[0].token_ids.tolist()
        np.testing.assert_allclose(samples[chosen].logprobs, single[0].logprobs, atol=1e-5)


def test_dropping_rows_leaves_the_others_as_they_were() -> None:
    prompts = prompts_of([9, 4, 30, 12, 7, 7])
    generate = {"new_tracker": endless, "max_tokens": 4, "temperature": 1.0}
    together, alone = (TransformersEngine(POLICY.model).open(chosen) for chosen in (prompts, [prompts[2]]))
    rows = [0, 1, 2, 3, 4, 5]
    for kept in ([1, 2, 4, 5], [1, 2], [2]):
        samples = together.generate(seeds=rows, **generate)
        single = alone.generate(seeds=[2], **generate)
        assert samples[rows.index(2)].token_ids.tolist() == single[0].token_ids.tolist()
        np.testing.assert_allclose(samples[rows.index(2)].logprobs, single[0].logprobs, atol=1e-5)
        together.keep([rows.index(row) for row in kept])
        together.append([[3, row] for row in kept])
        alone.append([[3, 2]])
        rows = kept
    assert len(together.generate(seeds=rows, **generate)) == 1


def test_equal_seeds_give_equal_bits_and_other_seeds_other_tokens() -> None:
    prompts = prompts_of([6, 20, 20, 11])
    runs = [play(POLICY.model, prompts, seeds)[0] for seeds in ([1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8])]
    bits = [
        [(sample.token_ids.tobytes(), sample.logprobs.tobytes()) for samples in run for sample in samples]
        for run in runs
    ]
    assert bits[0] == bits[1]
    assert all(a != b for a, b in zip(bits[0], bits[2], strict=True))


def test_greedy_takes_the_likeliest_token() -> None:
    prompt = prompts_of([12])[0]
    session = TransformersEngine(POLICY.model).open([prompt])
    sample = session.generate(seeds=[0], new_tracker=endless, max_tokens=6, temperature=0.0)[0]
    text = prompt.tolist()
    for token in sample.token_ids:
        with torch.no_grad():
            assert token == int(POLICY.model(torch.tensor([text])).logits[0, -1].argmax())
        text.append(int(token))
    np.testing.assert_allclose(sample.logprobs, plain_logprobs(POLICY.model, text, 6), atol=1e-5)


def test_a_turn_ends_with_its_action_or_is_truncated() -> None:
    by_turn, _ = play(POLICY.model, prompts_of([5] * 30), list(range(30)))
    samples = [sample for turn in by_turn for sample in turn]
    assert {sample.truncated for sample in samples} == {True, False}
    for sample in samples:
        closing = [token % 4 == 0 for token in sample.token_ids]
        assert sample.truncated == (not closing[-1])
        assert not any(closing[:-1])
        assert len(closing) == 7 if sample.truncated else len(closing) <= 7


def test_an_end_of_text_token_truncates_the_turn() -> None:
    model = llama()
    model.generation_config.eos_token_id = list(range(0, 96, 2))
    session = TransformersEngine(model).open(prompts_of([5] * 20))
    samples = session.generate(seeds=list(range(20)), new_tracker=endless, max_tokens=9, temperature=1.0)
    for sample in samples:
        assert sample.truncated
        assert all(token % 2 for token in sample.token_ids[:-1])
        assert sample.token_ids[-1] % 2 == 0 or len(sample.token_ids) == 9


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 0), (0.19, 0), (0.21, 1), (0.49, 1), (0.51, 3), (1 - 2**-53, 3)])
def test_draw_inverts_the_cumulative_distribution(uniform: float, token: int) -> None:
    logits_BV = torch.tensor([[0.2, 0.3, 0.0, 0.5, 0.0]]).log()
    drawn, logprob = draw(logits_BV, torch.tensor([uniform], dtype=torch.float64), 1.0)
    assert drawn.item() == token
    assert logprob.item() == pytest.approx(logits_BV[0, token].item(), abs=1e-6)


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_draws_stay_in_the_nucleus_that_transformers_keeps(top_p: float, temperature: float) -> None:
    logits_V = torch.randn(40, generator=torch.Generator().manual_seed(3)) * 2
    kept_V = TopPLogitsWarper(top_p)(None, logits_V[None] / temperature)[0].isfinite()
    uniform_B = torch.arange(20_000, dtype=torch.float64) / 20_000
    drawn_B, logprob_B = draw(logits_V.expand(20_000, -1), uniform_B, temperature, top_p)
    probability_V = (logits_V / temperature).softmax(-1)
    share_V = torch.bincount(drawn_B, minlength=40) / 20_000
    expected_V = torch.where(kept_V, probability_V, 0.0) / probability_V[kept_V].sum()
    torch.testing.assert_close(share_V, expected_V, atol=2e-4, rtol=0)
    torch.testing.assert_close(logprob_B, probability_V.log()[drawn_B], atol=1e-6, rtol=0)


def test_draw_sharpens_with_temperature() -> None:
    logits_BV = torch.tensor([[1.0, 2.0]])
    _, logprob = draw(logits_BV, torch.tensor([0.999], dtype=torch.float64), 0.5)
    assert logprob.item() == pytest.approx(-np.log1p(np.exp(-2.0)), abs=1e-6)


def test_weights_that_are_not_numbers_are_named() -> None:
    model = llama()
    model.lm_head.weight.data[3, 3] = float("nan")
    session = TransformersEngine(model).open(prompts_of([5]))
    with pytest.raises(UserError, match="not finite"):
        session.generate(seeds=[0], new_tracker=endless, max_tokens=2, temperature=1.0)


def test_a_model_with_sliding_attention_is_refused() -> None:
    config = Qwen2Config(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=50, use_sliding_window=True, sliding_window=8, max_window_layers=0,
    )  # fmt: skip
    with pytest.raises(UserError, match="sliding_attention"):
        TransformersEngine(Qwen2ForCausalLM(config))


def test_plain_generate_makes_the_same_rollouts() -> None:
    ours, theirs = (
        [
            trajectory
            for group in rollout(Player(POLICY, engine, cast(Benchmark, Toys())), TASKS, SPEC, DRAWS)
            for trajectory in group.trajectories
        ]
        for engine in (TransformersEngine(POLICY.model), GenerateEngine(POLICY.model))
    )
    for first, second in zip(ours, theirs, strict=True):
        assert [step.response_ids.tolist() for step in first.steps] == [s.response_ids.tolist() for s in second.steps]
        for step, other in zip(first.steps, second.steps, strict=True):
            np.testing.assert_allclose(step.logprobs, other.logprobs, atol=1e-5)
