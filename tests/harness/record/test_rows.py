"""Rows survive the file, equal rows are equal bytes, hashes see what was said and done."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.harness.errors import UserError
from stepcredit.harness.record import rows as record
from stepcredit.harness.record.rows import EpisodeRow, TimingRow
from tests.harness.rows import episode_rows, group, step, trajectory

EPISODE = record.episode_rows([group(trajectory(step([1], [2])))], phase="eval", update=0, split="s", seed=0)[0]


@settings(max_examples=30, deadline=None)
@given(st.lists(episode_rows, max_size=5))
def test_rows_survive_and_equal_rows_are_equal_bytes(rows: list[EpisodeRow]) -> None:
    with TemporaryDirectory() as folder:
        first, second = Path(folder) / "a.parquet", Path(folder) / "b.parquet"
        record.write_rows(first, rows, EpisodeRow)
        record.write_rows(second, record.load_rows(record.dump_rows(rows), EpisodeRow), EpisodeRow)
        assert record.read_rows(first, EpisodeRow) == rows
        assert first.read_bytes() == second.read_bytes()


def test_episode_columns_are_the_documented_ones(tmp_path: Path) -> None:
    record.write_rows(tmp_path / "e.parquet", [], EpisodeRow)
    assert pq.read_schema(tmp_path / "e.parquet").names == [
        "phase", "update", "split", "task_id", "subset", "seed", "trajectory", "success", "reward", "turns",
        "invalid_actions", "prompt_tokens", "response_tokens", "stop", "rollout_sha256",
    ]  # fmt: skip


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_truncated_parquet_names_the_file(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "timings.parquet"
    record.write_rows(path, [TimingRow(1, 2.0, 3.0, 4.0, 5.0)] * 50, TimingRow)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(UserError, match=r"timings\.parquet is truncated or not parquet") as caught:
        record.read_rows(path, TimingRow)
    assert "\n" not in str(caught.value)


def test_parquet_with_a_damaged_text_names_the_file(tmp_path: Path) -> None:
    """A flipped bit leaves the file readable, and its text no UTF-8."""
    path = tmp_path / "episodes.parquet"
    record.write_rows(path, [EPISODE], EpisodeRow)
    whole = pq.read_table(path)
    place = whole.schema.get_field_index("task_id")
    damaged = pa.array([b"\xff"]).view(pa.string())
    pq.write_table(whole.set_column(place, whole.schema.field(place), damaged), path)
    with pytest.raises(UserError, match=r"episodes\.parquet is truncated or not parquet .*UTF8"):
        record.read_rows(path, EpisodeRow)


def test_parquet_of_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "timings.parquet"
    pq.write_table(pa.table({"update": [1]}), path)
    with pytest.raises(UserError, match="written by another version"):
        record.read_rows(path, TimingRow)


def test_missing_parquet_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"episodes\.parquet"):
        record.read_rows(tmp_path / "episodes.parquet", EpisodeRow)


def test_episode_row_counts() -> None:
    # Prompt of 3, response of 2, 4 more tokens read, response of 1.
    episode = trajectory(step([1, 2, 3], [9, 9]), step([1, 2, 3, 9, 9, 4, 5, 6, 7], [8], valid=False))
    (row,) = record.episode_rows([group(episode)], phase="train", update=4, split="train", seed=2)
    assert (row.turns, row.invalid_actions, row.prompt_tokens, row.response_tokens) == (2, 1, 7, 3)
    assert (row.update, row.seed, row.split, row.stop, row.reward) == (4, 2, "train", "success", 1.0)


def test_episode_without_a_turn() -> None:
    (row,) = record.episode_rows([group(trajectory(success=False))], phase="eval", update=0, split="x", seed=0)
    assert (row.turns, row.prompt_tokens, row.response_tokens) == (0, 0, 0)


base = step([1, 2], [3, 4])


@pytest.mark.parametrize(
    "other",
    [
        step([1, 2], [3, 5]),
        step([1, 9], [3, 4]),
        step([1, 2, 3], [4]),
        step([1, 2], [3, 4], valid=False),
        step([1, 2], [3, 4], observation="Nothing happens."),
    ],
    ids=["response", "prompt", "boundary", "validity", "observation"],
)
def test_hash_sees_every_difference(other: object) -> None:
    assert record.trajectory_sha256(trajectory(base)) != record.trajectory_sha256(trajectory(other))  # type: ignore[arg-type]


def test_hash_ignores_the_last_bits_of_log_probabilities() -> None:
    shifted = replace(base, logprobs=base.logprobs + np.float32(1e-6))
    assert record.trajectory_sha256(trajectory(base)) == record.trajectory_sha256(trajectory(shifted))


def test_hash_of_an_update_sees_order() -> None:
    one, two = trajectory(base, index=0), trajectory(base, index=1)
    assert record.rollouts_sha256([group(one, two)]) != record.rollouts_sha256([group(two, one)])


@given(st.lists(st.tuples(st.booleans(), st.floats(allow_nan=False)), min_size=1, max_size=5))
def test_the_environments_numbers_are_columns_of_their_own(values: list[tuple[bool, float]]) -> None:
    rows = [
        replace(EPISODE, success=success, metrics={"f1": value, "searches": float(success)})
        for success, value in values
    ]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "e.parquet"
        record.write_rows(path, rows, EpisodeRow)
        assert pq.read_schema(path).names[-3:] == ["rollout_sha256", "f1", "searches"]
        assert record.read_rows(path, EpisodeRow) == rows
