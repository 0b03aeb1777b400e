"""Tokens by part are those of the run's episodes; utilisation is arithmetic, and absent where no peak is known."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from stepcredit.harness.model.adapters import add_adapters
from stepcredit.harness.record import manifest
from stepcredit.harness.record.cell import EPISODES, TIMINGS, UPDATES, Cell
from stepcredit.harness.record.rows import EpisodeRow, TimingRow, UpdateRow, read_rows
from stepcredit.harness.utilisation import gradient_flops, peak_of
from tests.harness.cells import LEAST, run_here, small_spec
from tests.harness.support import llama, without_bias

SPEC = small_spec("updates=2", "evaluation.every=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = tmp_path_factory.mktemp("spent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPCREDIT_PEAK_TFLOPS", "0.5")
        run_here(study, SPEC.model_dump(mode="json"))
    return Cell(study, SPEC).folder


def test_tokens_by_part_are_those_of_the_episodes(folder: Path) -> None:
    rows, (before, *after) = read_rows(folder / EPISODES, EpisodeRow), read_rows(folder / TIMINGS, TimingRow)

    def tokens(phase: str, update: int) -> int:
        own = [row for row in rows if (row.phase, row.update) == (phase, update)]
        return sum(row.prompt_tokens + row.response_tokens for row in own)

    assert (before.update, before.rollout_tokens, before.eval_tokens) == (0, 0, tokens("eval", 0))
    assert [row.rollout_tokens for row in after] == [tokens("train", update) for update in (0, 1)]
    assert [row.eval_tokens for row in after] == [0, tokens("eval", 2)]
    for row, update in zip(after, read_rows(folder / UPDATES, UpdateRow), strict=True):
        # A transcript is one row; those of groups without credit are left out of the gradient.
        whole = update.skipped_groups == 0
        assert row.gradient_tokens == row.rollout_tokens if whole else row.gradient_tokens < row.rollout_tokens
        assert (row.rescored_tokens > 0) == (update.mixed_groups > 0)


def test_utilisation_is_a_share_of_the_peak_that_was_given(folder: Path) -> None:
    found = manifest.require(folder)
    assert found.peak is not None
    assert (found.peak.tflops, found.peak.source) == (0.5, "given by STEPCREDIT_PEAK_TFLOPS")
    for row in read_rows(folder / TIMINGS, TimingRow)[1:]:
        # All of tiny's weights are trained, and its head is its embedding: 6 operations a token and weight.
        operations = 6.0 * found.policy.parameters * row.gradient_tokens
        assert row.update_tflops == pytest.approx(operations / row.update_s / 1e12)
        assert row.update_mfu == pytest.approx(row.update_tflops / 0.5)


def test_without_a_known_peak_there_is_none_and_the_manifest_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEPCREDIT_PEAK_TFLOPS", raising=False)
    spec = small_spec(*LEAST)
    run_here(tmp_path, spec.model_dump(mode="json"))
    folder = Cell(tmp_path, spec).folder
    assert pq.read_table(folder / TIMINGS)["update_mfu"].to_pylist() == [None, None]
    found = manifest.require(folder).peak
    assert found is not None
    assert found.tflops is None
    assert found.source.startswith("the peak of cpu in float32 is not known here; set STEPCREDIT_PEAK_TFLOPS")


@pytest.mark.parametrize("text", ["fast", "-1", "0", "inf", "nan"])
def test_a_peak_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="set it to the machine's peak in TFLOP/s, a positive number"):
        peak_of("cpu", torch.float32, {"STEPCREDIT_PEAK_TFLOPS": text})


@pytest.mark.parametrize(
    ("device", "dtype", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, 989.0),
        ("NVIDIA H100 PCIe", torch.bfloat16, 756.0),
        ("NVIDIA A100-SXM4-80GB", torch.bfloat16, 312.0),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", torch.bfloat16, None),
        ("NVIDIA H200", torch.float32, None),
        ("NVIDIA GeForce RTX 4090", torch.bfloat16, None),
        ("cpu", torch.bfloat16, None),
    ],
)
def test_peaks_are_known_of_whole_devices_in_bfloat16(device: str, dtype: torch.dtype, tflops: float | None) -> None:
    assert peak_of(device, dtype, {}).tflops == tflops


def test_operations_are_those_of_weights_that_multiply() -> None:
    """An embedding apart from the head is looked up; adapters alone have a gradient of their own."""
    model = without_bias(llama())
    looked_up = model.get_input_embeddings().weight.numel()
    weights = sum(weight.numel() for weight in model.parameters()) - looked_up
    assert gradient_flops(model) == 6.0 * weights
    add_adapters(model, 2, seed=0)
    adapters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert gradient_flops(model) == 4.0 * (weights + adapters) + 2.0 * adapters
