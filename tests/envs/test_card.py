"""The benchmark card says what the panels are."""

from pathlib import Path

import pytest

from stepcredit.envs import load_benchmark

CARD = (Path(__file__).parents[2] / "envs" / "BENCHMARK.md").read_text(encoding="utf-8")


def row(name: str) -> list[str]:
    line = next(line for line in CARD.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("name", "benchmark", "suite", "splits"),
    [
        ("alfworld `mini`", "alfworld", "mini", ("train", "valid_seen", "valid_unseen")),
        ("searchqa `synthetic`", "searchqa", "synthetic", ("train", "test")),
        ("diagnostic", "diagnostic", "null_causal", ("train", "test")),
    ],
)
def test_sizes_are_those_of_the_panels(name: str, benchmark: str, suite: str, splits: tuple[str, ...]) -> None:
    loaded = load_benchmark(benchmark, suite, {})
    _, training, held_out, *_ = row(name)
    train, *others = (len(loaded.panel(split).tasks) for split in splits)
    assert training == f"{train:,}"
    assert all(str(size) in held_out for size in others)
