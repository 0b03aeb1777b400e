"""What each step was worth: from fresh continuations of the states before and after it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stepcredit.methods.contract import Trajectory


def step_values(trajectory: Trajectory) -> NDArray[np.float64]:
    """[K + 1] the value of the state before each step, and what the trajectory earned in the end.

    Raises:
        ValueError: the trajectory has no continuations.
    """
    if trajectory.continuations is None:
        raise ValueError(f"trajectory {trajectory.index} of {trajectory.task_id!r} has no continuations")
    values = [math.fsum(returns) / len(returns) for returns in trajectory.continuations]
    return np.array([*values, trajectory.reward])


def true_advantages(trajectory: Trajectory) -> NDArray[np.float64]:
    """[K] A*_k = V(s_{k+1}) - V(s_k), the step advantage without discount; see `step_values`."""
    return np.diff(step_values(trajectory))
