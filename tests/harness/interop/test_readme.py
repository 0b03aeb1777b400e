"""The snippets of the room's README, executed as printed; where they name models of the hub, small ones lie ready."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from stepcredit.harness.interop.verl import estimator
from stepcredit.methods.registry import build
from tests.harness.interop.test_columns_and_trl import untrained
from tests.harness.interop.test_verl import MASK, REWARDS, at_the_end, batch

README = Path(__file__).resolve().parents[3] / "harness" / "interop" / "README.md"
FIT, REGISTER, TRL = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)


def execute(snippet: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(snippet, str(README), "exec"), names)
    return names


def test_the_function_for_verls_fit_gives_the_methods_credit() -> None:
    data = execute(FIT)["compute_advantage"](batch(), 0)
    given = batch()
    expected, _ = estimator(build("stepopsd", {"alpha_clip": 0.1}))(
        at_the_end(REWARDS, MASK),
        MASK,
        given.non_tensor_batch["uid"],
        old_log_probs=given.batch["old_log_probs"],
        teacher_log_probs=given.batch["teacher_log_probs"],
        step_ids=given.batch["step_ids"],
        states=given.non_tensor_batch["states"],
    )
    torch.testing.assert_close(data.batch["advantages"], expected, atol=0, rtol=0)
    assert data.batch["advantages"].any()


def test_the_estimator_is_known_to_verl() -> None:
    core = pytest.importorskip("verl.trainer.ppo.core_algos", reason="verl is not installed", exc_type=ImportError)
    execute(REGISTER)
    assert callable(core.get_adv_estimator_fn("stepcredit_grpo"))


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")  # TRL's calls of it
def test_the_trainer_of_trl_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trl", reason="trl is not installed")
    monkeypatch.chdir(tmp_path)
    for name in ("Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-0.5B"):
        model, tokenizer = untrained()
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    trainer = execute(TRL)["trainer"]
    assert trainer.state.global_step == 1
