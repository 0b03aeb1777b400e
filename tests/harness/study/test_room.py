"""Too little room is said before weights are loaded."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stepcredit.harness.device import Wish, resolve
from stepcredit.harness.errors import UserError
from stepcredit.harness.setup.settings import build_spec, with_settings
from stepcredit.harness.spec import RunSpec
from stepcredit.harness.study.pool import Resources
from stepcredit.harness.study.room import require_room
from tests.harness.hub import put_qwen


@pytest.fixture
def hub_run(tmp_path: Path) -> Iterator[RunSpec]:
    put_qwen(tmp_path)
    folder = next(tmp_path.glob("hub/*/snapshots/*"))
    (folder / "model.safetensors").unlink()  # nothing is read from it
    return build_spec(model=str(folder), benchmark="alfworld", suite=None, method="grpo", seed=0)


def test_disk_is_told_of_runs_that_fit(hub_run: RunSpec, tmp_path: Path) -> None:
    told = require_room(tmp_path / "new" / "study", [hub_run], Resources(1, 1, "cpu"))
    assert told is not None
    assert told.startswith("up to ")


def test_embedded_policies_fit_everywhere(tmp_path: Path) -> None:
    spec = build_spec(model="tiny", benchmark="alfworld", suite=None, method="grpo", seed=0)
    assert require_room(tmp_path, [spec], Resources(10**6, 1, "cpu")) is None


def test_too_little_disk(hub_run: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"has 0\.0 GiB left; choose another --out"):
        require_room(tmp_path, [hub_run], Resources(1, 1, "cpu"))


def test_too_little_memory_of_a_gpu(hub_run: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1000, 1000))
    with pytest.raises(UserError, match=r"and the GPU has 0\.0 GiB; choose a smaller --model"):
        require_room(tmp_path, [hub_run], Resources(1, 1, "cuda"))


def test_too_little_memory_of_the_machine(hub_run: RunSpec, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="and this machine has"):
        require_room(tmp_path, [hub_run], Resources(10**7, 1, "cpu"))


def test_a_sequence_that_may_exceed_a_micro_batch(hub_run: RunSpec, tmp_path: Path) -> None:
    spec = with_settings(hub_run, ["optim.token_budget=256"])
    with pytest.raises(UserError, match=r"optim\.token_budget is 256, and a sequence may have"):
        require_room(tmp_path, [spec], Resources(1, 1, "cpu"))


@pytest.mark.parametrize(
    ("wish", "there", "found"),
    [
        (Wish.CPU, True, "cpu"),
        (Wish.GPU_IF_ANY, False, "cpu"),
        (Wish.GPU_IF_ANY, True, "cuda"),
        (Wish.GPU, True, "cuda"),
    ],
)
def test_auto_is_as_the_policy_wishes(wish: Wish, there: bool, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert resolve("auto", wish) == found


def test_a_model_of_the_hub_goes_on_without_a_gpu_only_if_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="say --device cpu to go on without one"):
        resolve("auto", Wish.GPU)
    assert resolve("cpu", Wish.GPU) == "cpu"
