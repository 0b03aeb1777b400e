"""The warm start of a pretrained model: it learns what experts do, resumes to the same bits, and is a `--model`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from stepcredit.envs import load_benchmark
from stepcredit.harness.cli.app import run
from stepcredit.harness.errors import UserError
from stepcredit.harness.imitation.course import ImitationSpec, Told, imitation_spec, warm_start
from stepcredit.harness.imitation.scenes import perform, scenes_of, take
from stepcredit.harness.model.adapters import add_adapters, merge_adapters
from stepcredit.harness.model.policy import load_policy
from tests.harness.hub import random_qwen
from tests.harness.model.templates import family

SMALL = (
    *("updates=6", "checkpoint_every=2", "rollout.tasks=2", "rollout.max_turns=4", "rollout.max_response_tokens=48"),
    *("evaluation.size=2", "optim.lr=0.01", "optim.warmup=0", "optim.schedule=constant"),
)
SEARCH = (*(text for text in SMALL if "response" not in text), 'env_options.retriever={"engine":"bm25"}')


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model in the hub's layout."""
    folder, tokenizer = tmp_path_factory.mktemp("base"), family("chatml")
    random_qwen(len(tokenizer) + 7).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def spec(base: str, *more: str, benchmark: str = "alfworld", rank: int | None = None) -> ImitationSpec:
    suite, small = ("mini", SMALL) if benchmark == "alfworld" else ("synthetic", SEARCH)
    return imitation_spec(base, benchmark, suite, 0, [*small, *more], rank)


def untold(_: Told) -> None:
    """Nobody listens."""


@pytest.mark.parametrize(("benchmark", "rank"), [("alfworld", None), ("alfworld", 4), ("searchqa", None)])
def test_it_learns_and_is_a_model_then(base: str, benchmark: str, rank: int | None, tmp_path: Path) -> None:
    made = warm_start(spec(base, "updates=12", benchmark=benchmark, rank=rank), tmp_path, "cpu", untold)
    assert len(made["losses"]) == 12
    assert np.mean(made["losses"][-3:]) < 0.95 * made["losses"][0]  # adapters on a random head learn least
    assert made["before"]["panel_sha256"] == made["after"]["panel_sha256"]
    assert made["weights_sha256"] != made["weights_sha256_before"]
    assert {path.name for path in tmp_path.iterdir()} >= {"warmstart.json", "model.safetensors", "tokenizer.json"}
    assert not list(tmp_path.glob("checkpoints/*.ckpt"))
    policy = load_policy(str(tmp_path), load_benchmark(benchmark, spec(base, benchmark=benchmark).run.suite))
    assert policy.model.dtype is torch.bfloat16


def test_interrupted_anywhere_it_goes_on_to_the_same_bits(base: str, tmp_path: Path) -> None:
    whole = warm_start(spec(base), tmp_path / "whole", "cpu", untold)

    def stop_at(step: int) -> Any:
        def tell(told: Told) -> None:
            if told.step == step:
                raise KeyboardInterrupt

        return tell

    for step in (1, 3, 6):
        with pytest.raises(KeyboardInterrupt):
            warm_start(spec(base), tmp_path / "again", "cpu", stop_at(step))
    again = warm_start(spec(base), tmp_path / "again", "cpu", untold)
    assert again == whole
    assert warm_start(spec(base), tmp_path / "again", "cpu", pytest.fail) == whole


def test_what_is_imitated_is_the_expert_and_never_a_slip(base: str) -> None:
    policy = load_policy(base, load_benchmark("alfworld", "mini"))
    limits = spec(base, "rollout.max_turns=30").run.rollout
    shown = [perform(scene, policy, limits) for scene in take(scenes_of("alfworld", "mini", {})(0, 0), 8)]
    slips = 0
    for trajectory, credit in shown:
        parts = credit.distill_T.split([len(step.response_ids) for step in trajectory.steps])
        for step, weight_T in zip(trajectory.steps, parts, strict=True):
            assert weight_T.unique().tolist() in ([0.0], [1.0])
            assert step.valid or not weight_T.any()
            assert step.action_text
            slips += not weight_T.any()
    assert slips
    assert sum(trajectory.success for trajectory, _ in shown) >= 6


def test_merged_adapters_compute_what_they_did_apart(base: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    frozen = {name: weight.clone() for name, weight in model.named_parameters()}
    add_adapters(model, 4, seed=1)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    with torch.no_grad():
        for weight in trained:
            weight.add_(0.05)
        ids = torch.arange(12)[None]
        apart = model(input_ids=ids).logits
        merge_adapters(model)
        together = model(input_ids=ids).logits
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)
    assert {name for name, _ in model.named_parameters()} == set(frozen)
    same = [name for name, weight in model.named_parameters() if torch.equal(weight, frozen[name])]
    assert "model.embed_tokens.weight" in same
    assert not [name for name in same if "proj.weight" in name]


def test_words_without_effect_are_refused(base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    warm_start(spec(base, "updates=1"), tmp_path, "cpu", untold)
    with pytest.raises(UserError, match="is of another warm start"):
        warm_start(spec(base), tmp_path, "cpu", untold)
    with pytest.raises(UserError, match=r"objective\.entropy=1 has no effect on a warm start"):
        spec(base, "objective.entropy=1")
    out = ["warmstart", "--out", str(tmp_path / "new")]
    capsys.readouterr()
    for words in (["--model", "tiny"], ["--seed", "3"], ["--model", base, "--benchmark", "hallway"]):
        assert run([*out, *words]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_the_command_says_what_came_of_it(base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [word for text in (*SMALL, "updates=2") for word in ("--set", text)]
    words = ["--model", base, "--suite", "mini", "--device", "cpu", "--out", str(tmp_path), *settings]
    assert run(["warmstart", *words]) == 0
    said = capsys.readouterr()
    assert "success on 2 held-out tasks of alfworld-mini: 0.000 before" in said.out
    assert "step 2/2, loss " in said.err
    assert json.loads((tmp_path / "warmstart.json").read_text())["base"] == f"{base}@folder"
