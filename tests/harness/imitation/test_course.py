"""The warm start of a pretrained model: it learns what experts do, resumes to the same bits, and is a `--model`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stepcredit.envs import load_benchmark
from stepcredit.harness.cli.app import run
from stepcredit.harness.errors import UserError
from stepcredit.harness.imitation.course import Told, imitation_spec, warm_start
from stepcredit.harness.imitation.scenes import perform, scenes_of, take
from stepcredit.harness.model.policy import load_policy
from stepcredit.harness.spec import RunSpec
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


def spec(base: str, *more: str, benchmark: str = "alfworld") -> RunSpec:
    suite, small = ("mini", SMALL) if benchmark == "alfworld" else ("synthetic", SEARCH)
    return imitation_spec(base, benchmark, suite, 0, [*small, *more])


def untold(_: Told) -> None:
    """Nobody listens."""


@pytest.mark.parametrize(("benchmark", "more"), [("alfworld", ()), ("alfworld", ("optim.rank=4",)), ("searchqa", ())])
def test_it_learns_and_is_a_model_then(base: str, benchmark: str, more: tuple[str, ...], tmp_path: Path) -> None:
    made = warm_start(spec(base, "updates=12", *more, benchmark=benchmark), tmp_path, "cpu", untold)
    assert len(made["losses"]) == 12
    assert np.mean(made["losses"][-3:]) < 0.95 * made["losses"][0]  # adapters on a random head learn least
    assert made["before"]["panel_sha256"] == made["after"]["panel_sha256"]
    assert made["weights_sha256"] != made["weights_sha256_before"]
    assert {path.name for path in tmp_path.iterdir()} >= {"warmstart.json", "model.safetensors", "tokenizer.json"}
    assert not list(tmp_path.glob("checkpoints/*.ckpt"))
    policy = load_policy(str(tmp_path), load_benchmark(benchmark, spec(base, benchmark=benchmark).suite))
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
    limits = spec(base, "rollout.max_turns=30").rollout
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
