"""Rows and trajectories that several tests use."""

import numpy as np
from hypothesis import strategies as st

from stepcredit.harness.record.rows import EpisodeRow
from stepcredit.methods.contract import Group, Span, Step, StopReason, Trajectory


def step(prompt: list[int], response: list[int], *, valid: bool = True, observation: str = "You see a mug.") -> Step:
    return Step(
        prompt_ids=np.array(prompt, dtype=np.int64),
        response_ids=np.array(response, dtype=np.int64),
        logprobs=np.zeros(len(response), dtype=np.float32),
        think=None,
        action=Span(0, len(response)),
        action_text="look",
        valid=valid,
        truncated=False,
        observation=observation,
        state_key="0",
        seed=1,
    )


def trajectory(*steps: Step, index: int = 0, success: bool = True, task_id: str = "mini/train/Pick/0001") -> Trajectory:
    stop = StopReason.SUCCESS if success else StopReason.TURN_LIMIT
    return Trajectory(task_id, "Pick", index, steps, float(success), success, stop)


def group(*trajectories: Trajectory) -> Group:
    return Group(trajectories[0].task_id, trajectories)


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)

episode_rows = st.builds(
    EpisodeRow,
    phase=st.sampled_from(["train", "eval"]),
    update=st.integers(0, 10**6),
    split=words,
    task_id=words,
    subset=words,
    seed=st.integers(0, 2**62),
    trajectory=st.integers(0, 100),
    success=st.booleans(),
    reward=st.floats(allow_nan=False),
    turns=st.integers(0, 100),
    invalid_actions=st.integers(0, 100),
    prompt_tokens=st.integers(0, 10**6),
    response_tokens=st.integers(0, 10**6),
    stop=words,
    rollout_sha256=words,
)
