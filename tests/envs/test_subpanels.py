"""Sub-panels: a fixed part of a panel, known by its own hash."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stepcredit.envs.panel import Panel, Task

PANEL = Panel.of("toy", "toy", "test", [Task(f"{subset}/{n:02d}", subset, "0") for subset in "abc" for n in range(20)])


@given(st.integers(1, 25), st.integers(1, 25), st.integers(0, 3))
def test_each_subset_gives_a_prefix_of_its_permutation(small: int, large: int, seed: int) -> None:
    small, large = sorted((small, large))
    part, whole = PANEL.stratified(small, seed), PANEL.stratified(large, seed)
    assert set(part.tasks) <= set(whole.tasks) <= set(PANEL.tasks)
    assert Counter(task.subset for task in part.tasks) == dict.fromkeys("abc", min(small, 20))
    assert list(part.tasks) == sorted(part.tasks)


def test_size_and_seed_are_part_of_the_hash() -> None:
    hashes = {PANEL.sha256, *(PANEL.stratified(20, seed).sha256 for seed in (0, 1))}
    hashes |= {PANEL.stratified(21, 0).sha256, PANEL.prefix(60, 0).sha256, PANEL.prefix(60, 1).sha256}
    assert len(hashes) == 6
    assert PANEL.stratified(5, 0).sha256 == PANEL.stratified(5, 0).sha256
