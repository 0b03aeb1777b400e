"""Named seeds: every draw's seed is a stable hash of what it is for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 63) - 1


def seed_for(*parts: str | int) -> int:
    """A 63-bit seed from the parts, the same on every machine, Python version and process."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") & _MASK


def turn_seed(run_seed: int, update: int, task_id: str, trajectory: int, turn: int) -> int:
    """Seed of one sampling request: two methods with equal weights draw equal tokens."""
    return seed_for("turn", run_seed, update, task_id, trajectory, turn)


def continuation_seed(
    run_seed: int, update: int, step: int, sample: int, task_id: str, trajectory: int, turn: int
) -> int:
    """Seed of one sampling request of a fresh episode that goes on from the state before a trajectory's step."""
    return seed_for("continuation", run_seed, update, task_id, trajectory, step, sample, turn)


@dataclass(frozen=True, slots=True)
class Draws:
    """What the draws of one update's episodes are named after."""

    run_seed: int
    update: int

    def of_turn(self, task_id: str, trajectory: int, turn: int) -> int:
        """Seed of a rollout's turn."""
        return turn_seed(self.run_seed, self.update, task_id, trajectory, turn)

    def of_branch(self, step: int, sample: int) -> Callable[[str, int, int], int]:
        """Seeds of the turns of a fresh episode, from task id, trajectory and turn."""
        return partial(continuation_seed, self.run_seed, self.update, step, sample)


def uniforms(seeds: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """One uniform in [0, 1) for each (seed, position): a counter-based generator without state.

    Args:
        seeds: [B] request seeds.
        positions: [B] index of the draw within its request.

    Returns:
        [B] float64; splitmix64 of seed and position (Steele, Lea, Flood 2014), top 53 bits.
    """
    with np.errstate(over="ignore"):
        z = seeds.astype(np.uint64) + (positions.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    bits: NDArray[np.float64] = (z >> np.uint64(11)).astype(np.float64)
    return bits * 2.0**-53
