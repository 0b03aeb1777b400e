"""Laws of sampling over a cache: what is drawn, and with which probability, is that of plain forward passes."""

from collections.abc import Callable
from copy import deepcopy
from importlib import import_module
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
from stepcredit.harness.engine.contract import Engine, Sample, draw
from stepcredit.harness.engine.turns import TurnTracker
from stepcredit.harness.engine.vllm import VllmEngine
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.adapters import add_adapters
from stepcredit.harness.run.optimizer import optimizer_of
from stepcredit.harness.spec import EngineName, OptimSpec
from tests.harness.support import DRAWS, SPEC, TASKS, Toys, llama, plain_logprobs, toy_policy, without_bias

POLICY = toy_policy()
MODELS: dict[str, PreTrainedModel] = {"qwen3": without_bias(toy_policy().model), "llama": llama()}
QWEN3 = MODELS["qwen3"]
Prompts = list[NDArray[np.int64]]
Start = Callable[[PreTrainedModel], Engine]


def vocabulary(model: PreTrainedModel) -> int:
    return int(model.config.vocab_size)


@pytest.fixture(scope="module", params=EngineName)
def start(request: pytest.FixtureRequest) -> Start:
    """Starts the engine that is tested; one a model, as starting vLLM takes seconds."""
    if request.param is EngineName.TRANSFORMERS:
        return TransformersEngine
    pytest.importorskip("vllm", reason="vLLM is not installed; make test-vllm installs it")
    import_module("llvmlite.binding")  # as retrieval does
    started: dict[PreTrainedModel, Engine] = {}
    return lambda model: started.get(model) or started.setdefault(model, VllmEngine(model, vocabulary(model)))


def prompts_of(lengths: list[int], seed: int = 0) -> Prompts:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 90, length) for length in lengths]


def endless() -> TurnTracker:
    return TurnTracker(lambda _: b".")


def mixed() -> TurnTracker:
    """Closes its action after a token whose number divides by four."""
    return TurnTracker(lambda token: b"." if token % 4 else b"<action></action>")


def play(
    engine: Engine, prompts: Prompts, seeds: list[int], turns: int = 3, temperature: float = 1.0
) -> tuple[list[list[Sample]], Prompts]:
    """Several turns with observations of uneven length; the samples by turn, and the transcripts at the end."""
    texts, by_turn = [list(prompt) for prompt in prompts], []
    with engine.awake():
        session = engine.open(prompts)
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


def one_turn(
    engine: Engine, prompts: Prompts, seeds: list[int], *, max_tokens: int, temperature: float = 1.0, top_p: float = 1.0
) -> list[Sample]:
    with engine.awake():
        return engine.open(prompts).generate(
            seeds=seeds, new_tracker=endless, max_tokens=max_tokens, temperature=temperature, top_p=top_p
        )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_those_of_a_plain_forward_pass(start: Start, name: str, temperature: float) -> None:
    prompts = prompts_of([5, 40, 1, 5, 23])
    prompts[3] = prompts[0]
    by_turn, texts = play(start(MODELS[name]), prompts, [1, 2, 3, 4, 5], temperature=temperature)
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
@given(lengths=st.lists(st.integers(1, 60), min_size=2, max_size=40), seed=st.integers(0, 2**31))
def test_a_row_draws_the_same_alone_and_in_company(start: Start, lengths: list[int], seed: int) -> None:
    prompts, seeds = prompts_of(lengths, seed), [seed + row for row in range(len(lengths))]
    together, _ = play(start(QWEN3), prompts, seeds, turns=2)
    chosen = seed % len(lengths)
    alone, _ = play(start(QWEN3), [prompts[chosen]], [seeds[chosen]], turns=2)
    for samples, single in zip(together, alone, strict=True):
        assert samples[chosen].token_ids.tolist() == single[0].token_ids.tolist()
        np.testing.assert_allclose(samples[chosen].logprobs, single[0].logprobs, atol=1e-5)


def test_dropping_rows_leaves_the_others_as_they_were(start: Start) -> None:
    prompts = prompts_of([9, 4, 30, 12, 7, 7])
    generate = {"new_tracker": endless, "max_tokens": 4, "temperature": 1.0}
    engine, rows = start(QWEN3), [0, 1, 2, 3, 4, 5]
    with engine.awake():
        together, alone = (engine.open(chosen) for chosen in (prompts, [prompts[2]]))
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


def test_equal_seeds_give_equal_bits_and_other_seeds_other_tokens(start: Start) -> None:
    prompts = prompts_of([6, 20, 20, 11])
    runs = [play(start(QWEN3), prompts, seeds)[0] for seeds in ([1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8])]
    bits = [
        [(sample.token_ids.tobytes(), sample.logprobs.tobytes()) for samples in run for sample in samples]
        for run in runs
    ]
    assert bits[0] == bits[1]
    assert all(a != b for a, b in zip(bits[0], bits[2], strict=True))


def test_greedy_takes_the_likeliest_token(start: Start) -> None:
    prompt = prompts_of([12])[0]
    sample = one_turn(start(QWEN3), [prompt], [0], max_tokens=6, temperature=0.0)[0]
    text = prompt.tolist()
    for token in sample.token_ids:
        with torch.no_grad():
            assert token == int(QWEN3(torch.tensor([text])).logits[0, -1].argmax())
        text.append(int(token))
    np.testing.assert_allclose(sample.logprobs, plain_logprobs(QWEN3, text, 6), atol=1e-5)


def test_a_turn_ends_with_its_action_or_is_truncated(start: Start) -> None:
    by_turn, _ = play(start(QWEN3), prompts_of([5] * 30), list(range(30)))
    samples = [sample for turn in by_turn for sample in turn]
    assert {sample.truncated for sample in samples} == {True, False}
    for sample in samples:
        closing = [token % 4 == 0 for token in sample.token_ids]
        assert sample.truncated == (not closing[-1])
        assert not any(closing[:-1])
        assert len(closing) == 7 if sample.truncated else len(closing) <= 7


def test_an_end_of_text_token_truncates_the_turn(start: Start) -> None:
    model = llama()
    model.generation_config.eos_token_id = list(range(0, 96, 2))
    samples = one_turn(start(model), prompts_of([5] * 20), list(range(20)), max_tokens=9)
    for sample in samples:
        assert sample.truncated
        assert all(token % 2 for token in sample.token_ids[:-1])
        assert sample.token_ids[-1] % 2 == 0 or len(sample.token_ids) == 9


def add_noise(model: PreTrainedModel) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)


def take_a_step(model: PreTrainedModel) -> None:
    optimizer = optimizer_of(model, OptimSpec(lr=0.01))
    model(input_ids=torch.arange(20)[None], labels=torch.arange(20)[None]).loss.backward()
    optimizer.step()
    model.zero_grad()


def load_others(model: PreTrainedModel) -> None:
    model.load_state_dict({name: weight * 1.1 for name, weight in model.state_dict().items()})


def swap_their_memory(model: PreTrainedModel) -> None:
    for weight in model.parameters():
        weight.data = weight.data * 0.9


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("change", [add_noise, take_a_step, load_others, swap_their_memory])
def test_it_follows_weights_however_they_change(
    start: Start, name: str, change: Callable[[PreTrainedModel], None]
) -> None:
    model, prompt = MODELS[name], prompts_of([30])[0]
    engine, kept = start(model), deepcopy(model.state_dict())
    before = one_turn(engine, [prompt], [3], max_tokens=8)[0]
    change(model)
    after = one_turn(engine, [prompt], [3], max_tokens=8)[0]
    plain = plain_logprobs(model, [*prompt, *after.token_ids], 8)
    model.load_state_dict(kept)
    np.testing.assert_allclose(after.logprobs, plain, atol=2e-5)  # larger weights, larger logits
    assert not np.allclose(plain_logprobs(model, [*prompt, *after.token_ids], 8), plain, atol=1e-3)
    again = one_turn(engine, [prompt], [3], max_tokens=8)[0]
    assert again.token_ids.tolist() == before.token_ids.tolist()


@pytest.mark.parametrize("name", MODELS)
def test_it_follows_adapters(start: Start, name: str) -> None:
    model, prompt = deepcopy(MODELS[name]), prompts_of([30])[0]
    add_adapters(model, 4, seed=0)
    engine, untrained = start(model), plain_logprobs(MODELS[name], prompt, 8)
    for _ in range(2):
        take_a_step(model)
        sample = one_turn(engine, [prompt], [3], max_tokens=8)[0]
        np.testing.assert_allclose(sample.logprobs, plain_logprobs(model, [*prompt, *sample.token_ids], 8), atol=2e-5)
    assert not np.allclose(plain_logprobs(model, prompt, 8), untrained, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.0, 0.8), (0.0, 1.0)])
def test_every_engine_draws_the_same_tokens(start: Start, name: str, temperature: float, top_p: float) -> None:
    prompts, seeds = prompts_of([5, 40, 1, 5, 23, 90]), list(range(6))
    reference = TransformersEngine(MODELS[name])
    ours, theirs = (
        one_turn(engine, prompts, seeds, max_tokens=12, temperature=temperature, top_p=top_p)
        for engine in (start(MODELS[name]), reference)
    )
    assert [sample.token_ids.tolist() for sample in ours] == [sample.token_ids.tolist() for sample in theirs]
    for sample, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(sample.logprobs, other.logprobs, atol=1e-5)


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


def test_weights_that_are_not_numbers_are_named(start: Start) -> None:
    model = llama()
    model.lm_head.weight.data[3, 3] = float("nan")
    engine = start(model)
    with pytest.raises(UserError, match="not finite"):
        one_turn(engine, prompts_of([5]), [0], max_tokens=2)


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
