"""The memory that doctor tells of, against the update itself on fake tensors of a real model's size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config

from stepcredit.harness.bench.memory import LiveBytes
from stepcredit.harness.cli.app import run
from stepcredit.harness.engine.recompute import recomputing
from stepcredit.harness.engine.stretches import TokenSequence
from stepcredit.harness.model.adapters import add_adapters
from stepcredit.harness.model.frozen import Frozen, FrozenAdapters, FrozenCopy
from stepcredit.harness.model.shape import ModelShape
from stepcredit.harness.run.loss import Item, loss_terms
from stepcredit.harness.run.optimizer import optimizer_of
from stepcredit.harness.setup.settings import build_spec, with_settings
from stepcredit.harness.spec import RunSpec
from stepcredit.harness.study.budget import When, budget_of, changes_that_fit
from tests.harness.hub import put_qwen

QWEN_3B = Qwen2Config(
    vocab_size=151_936,
    hidden_size=2048,
    intermediate_size=11_008,
    num_hidden_layers=36,
    num_attention_heads=16,
    num_key_value_heads=2,
    max_position_embeddings=32_768,
    tie_word_embeddings=True,
)
QWEN_7B = Qwen2Config(
    vocab_size=152_064,
    hidden_size=3584,
    intermediate_size=18_944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    max_position_embeddings=32_768,
    tie_word_embeddings=False,
)


def spec(*overrides: str, method: str = "grpo", model: str = "qwen2.5-3b") -> RunSpec:
    return build_spec(model=model, benchmark="alfworld", suite=None, method=method, seed=0, overrides=overrides)


def items(chosen: RunSpec) -> list[Item]:
    """As many windowed prompts with their responses as a micro-batch takes."""
    whole, response = chosen.rollout.max_context_tokens, chosen.rollout.max_response_tokens
    sequence = TokenSequence(np.zeros(whole, dtype=np.int64), np.arange(whole - response, whole))
    zeros = torch.zeros(response)
    count = chosen.optim.token_budget // whole
    return [Item(sequence, 1.0, 1, zeros, zeros, torch.ones(response), zeros) for _ in range(count)]


def made(config: Qwen2Config, rank: int | None = None) -> PreTrainedModel:
    """A model of fake tensors in memory."""
    with unset_fake_temporarily(), torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
        if rank is not None:
            add_adapters(model, rank, seed=0)
    model.to_empty(device="cpu")
    model.tie_weights()
    return model


def reference_of(model: PreTrainedModel, chosen: RunSpec, config: Qwen2Config) -> Frozen | None:
    if chosen.objective.kl == 0:
        return None
    return FrozenCopy(made(config)) if chosen.optim.rank is None else FrozenAdapters(model)


def peak_of_update(chosen: RunSpec, config: Qwen2Config = QWEN_3B) -> int:
    """Two optimiser steps of two micro-batches each."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        model, tracker = made(config, chosen.optim.rank), LiveBytes()
        reference = reference_of(model, chosen, config)
        optimizer = optimizer_of(model, chosen.optim)
        masters = optimizer.param_groups[0]["params"]
        others = [] if reference is None else reference.weights().values()
        for weight in (*masters, *model.parameters(), *others):
            tracker.add(weight)
        with tracker:
            for _ in range(2):
                for _ in range(2):
                    with recomputing(model):
                        loss_terms(model, reference, items(chosen), chosen).loss.backward()
                torch.nn.utils.clip_grad_norm_(masters, 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    return tracker.peak


@pytest.mark.parametrize(
    "overrides",
    [
        ("objective.kl=0", "optim.token_budget=4096"),
        ("objective.kl=0.01", "optim.token_budget=16384"),
        ("objective.kl=0.01", "optim.token_budget=4096", "optim.rank=32"),
    ],
)
def test_the_updates_memory_is_what_doctor_says(overrides: tuple[str, ...]) -> None:
    chosen = spec(*overrides)
    told = budget_of(chosen, ModelShape.of(QWEN_3B))
    assert told.at(When.UPDATE) == pytest.approx(peak_of_update(chosen), rel=0.1)


@pytest.mark.parametrize("method", ["grpo", "opd", "stepopsd"])
@pytest.mark.parametrize(("model", "config", "most"), [("qwen2.5-3b", QWEN_3B, 72e9), ("qwen2.5-7b", QWEN_7B, 130e9)])
def test_the_presets_fit_the_gpus_they_are_meant_for(model: str, config: Qwen2Config, most: float, method: str) -> None:
    for benchmark in ("alfworld", "searchqa"):
        chosen = build_spec(model=model, benchmark=benchmark, suite=None, method=method, seed=0)
        assert budget_of(chosen, ModelShape.of(config)).peak <= most


def test_the_update_of_the_largest_preset_is_what_doctor_says() -> None:
    offloaded, shape = spec(model="qwen2.5-7b", method="stepopsd"), ModelShape.of(QWEN_7B)
    assert offloaded.optim.offload
    here = with_settings(offloaded, ["optim.offload=false"])
    measured = peak_of_update(here, QWEN_7B)  # fake tensors are on one device
    assert budget_of(here, shape).at(When.UPDATE) == pytest.approx(measured, rel=0.1)
    assert measured - 8 * shape.parameters <= 130e9


def test_a_model_has_the_sizes_of_its_configuration() -> None:
    shape = ModelShape.of(QWEN_3B)
    assert shape.parameters == 3_085_938_688
    assert shape.bytes_per_token == 36_864


def test_every_copy_of_the_weights_is_told() -> None:
    shape = ModelShape.of(QWEN_3B)
    plain = budget_of(spec("objective.kl=0"), shape)
    taught = budget_of(spec(method="stepopsd"), shape)
    for when in (When.UPDATE, When.CREDIT):  # the reference, and the teacher
        assert taught.at(when) - plain.at(when) == 2 * shape.parameters
    assert taught.disk_bytes - plain.disk_bytes == 2 * 2 * shape.parameters


def test_a_larger_teacher_is_told_at_its_own_size() -> None:
    taught = ("method_options.teacher=checkpoint", "method_options.checkpoint=qwen2.5-7b", "objective.kl=0")
    shape, teacher = ModelShape.of(QWEN_3B), ModelShape.of(QWEN_7B)
    plain, larger = (budget_of(spec(*taught, method="opd"), shape, one) for one in (None, teacher))
    further = larger.at(When.CREDIT) - plain.at(When.CREDIT) - 2 * (teacher.parameters - shape.parameters)
    assert 0 < further < 2e9  # its layers and its vocabulary are wider
    for when in (When.UPDATE, When.ROLLOUT):
        assert larger.at(when) == plain.at(when)


def test_adapters_need_no_copy_of_the_weights() -> None:
    shape = ModelShape.of(QWEN_3B)
    plain = budget_of(spec("optim.rank=32", "objective.kl=0"), shape)
    taught = budget_of(spec("optim.rank=32", method="stepopsd"), shape)
    assert shape.linear_ends == 36 * (2048 + 2048 + 2 * (2048 + 256) + 2 * 2048 + 3 * (2048 + 11_008))
    for when in (When.UPDATE, When.CREDIT):
        assert taught.at(when) - plain.at(when) == 2 * 32 * shape.linear_ends
    assert plain.peak < 25e9


def test_processes_share_what_training_needs() -> None:
    """By hand for 7.6 billion weights: 14 of their 16 bytes are divided, 4 come with sharing, and layers that meet."""
    shape, chosen = ModelShape.of(QWEN_7B), spec("objective.kl=0", "optim.offload=false", model="qwen2.5-7b")
    alone, shared = (budget_of(chosen, shape, processes=processes) for processes in (1, 8))
    size = shape.parameters
    assert alone.at(When.ALWAYS) == 14 * size
    assert shared.at(When.ALWAYS) == pytest.approx(2 * size + 16 * size / 8)
    assert shared.peak < 80e9 < alone.peak


def test_what_is_proposed_fits() -> None:
    shape, chosen = ModelShape.of(QWEN_3B), spec("optim.recompute=false", "objective.kl=0")
    available = 80_000_000_000
    assert budget_of(chosen, shape).peak > available
    proposals = changes_that_fit(chosen, shape, available)
    assert proposals[0][0] == "optim.recompute=true"
    assert all(budget.peak <= available for _, budget in proposals)


def test_the_command_tells_parts_and_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_qwen(tmp_path)
    folder = next(tmp_path.glob("hub/*/snapshots/*"))
    (folder / "model.safetensors").unlink()
    assert run(["doctor", "--model", str(folder), "--gpu", "40"]) == 0
    assert "fits 40 GB" in capsys.readouterr().out
    more = ["--set", "optim.token_budget=4000000", "--json"]
    assert run(["doctor", "--model", str(folder), "--gpu", "1", *more]) == 1
    assert not json.loads(capsys.readouterr().out)["fits"]
    assert run(["doctor", "--model", "tiny"]) == 2
    assert "fits everywhere" in capsys.readouterr().err
