"""What `--model` takes: presets, folders, ids of the hub; and what is refused."""

import shutil
from pathlib import Path

import pytest
import torch

from stepcredit.envs import load_benchmark
from stepcredit.harness.device import Wish
from stepcredit.harness.errors import UserError
from stepcredit.harness.model import policy
from stepcredit.harness.model.policy import load_policy
from stepcredit.harness.model.presets import preset_named
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.setup.settings import build_spec
from tests.harness.hub import SPARE_ROWS, put_qwen

ALFWORLD = load_benchmark("alfworld", "mini")
TINY = Path(policy.__file__).parents[1] / "policies" / "tiny"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model in the hub's layout."""
    put_qwen(tmp_path)
    return next(tmp_path.glob("hub/*/snapshots/*"))


def test_a_folder_in_the_hubs_layout_is_a_model_without_ids_that_no_token_has(folder: Path) -> None:
    found = load_policy(str(folder), ALFWORLD)
    assert found.model.dtype is torch.bfloat16
    rows = found.model.get_output_embeddings().weight.shape[0]
    assert rows == len(found.tokenizer) + SPARE_ROWS
    assert found.model(input_ids=torch.tensor([[1, 2]])).logits.shape[-1] == len(found.tokenizer)
    assert found.provenance == f"{folder}@folder"


def test_a_policy_that_warmstart_wrote_is_a_model(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "mine")
    found = load_policy(str(tmp_path / "mine"), ALFWORLD)
    assert found.provenance == load_policy("tiny", ALFWORLD).provenance
    assert preset_named(str(tmp_path / "mine")).device is Wish.CPU


@pytest.mark.parametrize("model", ["Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-1.5B-Instruct@989aa79"])
def test_a_run_of_a_hub_id_has_a_folder_of_one_name(model: str) -> None:
    spec = build_spec(model=model, benchmark="alfworld", suite=None, method="grpo", seed=0)
    assert spec.model == model
    assert Cell(Path("study"), spec).folder.parent == Path("study")
    assert Cell(Path("study"), spec).name == f"alfworld-real-{model.replace('/', '-')}-grpo-s0"


def refused(name: str) -> str:
    with pytest.raises(UserError) as caught:
        load_policy(name, ALFWORLD)
    return str(caught.value)


def test_what_is_no_model_is_one_sentence(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "unknown model 'qwen2.5-3': did you mean 'qwen2.5-3b'?" in refused("qwen2.5-3")
    assert f"there is no folder {tmp_path}/nobody" in refused(f"{tmp_path}/nobody")
    assert "neither answered" in refused("nobody/nothing")
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(str(tmp_path / "empty"))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    assert "has no chat template" in refused(str(folder))
    (folder / "tokenizer.json").unlink()
    assert "tokenizer" in refused(str(folder))
