"""Groups of made-up tokens, fixed and random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from stepcredit.methods.contract import GoldenTurn, Group, Needs, Span, Step, StopReason, Trajectory

TASK = "mini/train/Pick/0001"

Outcome = tuple[bool, float]
"""Whether a trajectory succeeds, and its reward: the two need not agree, as penalties change rewards."""

EVERYTHING = Needs(golden=True, continuations=2, foreign=True, untold=True)
"""What groups can carry beyond the rollouts."""

_TAGS = ("action", "answer", "search")
_REWARDS = (0.0, 0.7, 1.0)


def make_step(
    length: int, *, think: Span | None = None, action: Span | None = None, text: str = "look", valid: bool = True
) -> Step:
    """`length` response tokens, numbered from 0."""
    return Step(
        prompt_ids=np.arange(3, dtype=np.int64),
        response_ids=np.arange(length, dtype=np.int64),
        logprobs=np.full(length, -1.5, dtype=np.float32),
        think=think,
        action=action,
        action_text=text,
        valid=valid,
        truncated=False,
        observation=f"you see {text}",
        state_key=text,
        seed=0,
        tagged=None if action is None else Span(max(action.start - 1, 0), min(action.end + 1, length)),
    )


def make_trajectory(*steps: Step, success: bool, reward: float | None = None) -> Trajectory:
    """An episode of these steps; the reward is 1 or 0 where none is given."""
    stop = StopReason.SUCCESS if success else StopReason.TURN_LIMIT
    return Trajectory(TASK, "Pick", 0, steps, float(success) if reward is None else reward, success, stop)


def make_group(*trajectories: Trajectory) -> Group:
    """The trajectories, numbered by their places."""
    return Group(TASK, tuple(replace(trajectory, index=index) for index, trajectory in enumerate(trajectories)))


def one_word_group(*successes: bool) -> Group:
    """Trajectories of two steps of four tokens; thought, then action. The actions name the trajectory and the step."""
    return make_group(
        *(
            make_trajectory(
                *(make_step(4, think=Span(0, 1), action=Span(2, 4), text=f"go {index}.{k}") for k in range(2)),
                success=success,
            )
            for index, success in enumerate(successes)
        )
    )


def odd_groups() -> list[Group]:
    """Empty steps, single steps, steps without spans, no steps at all: in groups of one, and all in one mixed group."""
    shapes: list[tuple[Step, ...]] = [
        (),
        (make_step(0),),
        (make_step(0), make_step(3, action=Span(1, 3)), make_step(0)),
        (make_step(1, action=Span(0, 1)),),
        (make_step(3), make_step(2, action=Span(1, 1))),
    ]
    mixed = [
        [make_trajectory(*steps, success=place % 2 == first) for place, steps in enumerate(shapes)] for first in (0, 1)
    ]
    alone = [[make_trajectory(*steps, success=success)] for steps in shapes for success in (True, False)]
    return [make_group(*trajectories) for trajectories in (*mixed, *alone)]


def furnished(group: Group, needs: Needs, seed: int = 0) -> Group:
    """The group with what a method needs beyond the rollouts, and nothing else.

    Continuations return what the trajectories do: in groups with one reward, all the same.
    """
    rng = np.random.default_rng(seed)
    rewards = [trajectory.reward for trajectory in group.trajectories]
    returns = rewards if len(set(rewards)) == 1 else _REWARDS
    golden = tuple(GoldenTurn(f"go to shelf {k}", f"you see shelf {k}") for k in range(2)) if needs.golden else None
    trajectories = (
        replace(
            trajectory,
            steps=tuple(replace(step, untold_ids=step.prompt_ids[1:]) for step in trajectory.steps)
            if needs.untold
            else trajectory.steps,
            continuations=tuple(tuple(rng.choice(returns, needs.continuations).tolist()) for _ in trajectory.steps)
            if needs.continuations
            else None,
        )
        for trajectory in group.trajectories
    )
    skill = None if needs.skills is None else "look before you go"
    others = (make_trajectory(make_step(2, text=f"go to bed {k}"), success=True) for k in range(3))
    foreign = tuple(others) if needs.foreign else ()
    return replace(group, trajectories=tuple(trajectories), golden=golden, skill=skill, foreign=foreign)


def random_step(rng: np.random.Generator) -> Step:
    """Up to six tokens, or none; spans anywhere, or none; few different actions, tags and states."""
    length = int(rng.integers(0, 7))
    cuts = sorted(rng.integers(0, length + 1, 4).tolist())
    step = make_step(
        length,
        think=Span(cuts[0], cuts[1]) if rng.random() < 0.6 else None,
        action=Span(cuts[2], cuts[3]) if rng.random() < 0.8 else None,
        text=f"go to shelf {rng.integers(3)}",
        valid=bool(rng.random() < 0.7),
    )
    tag = "" if step.action is None else _TAGS[rng.integers(len(_TAGS))]
    return replace(step, response_ids=rng.integers(0, 9, length), action_tag=tag)


def random_group(outcomes: Sequence[Outcome], seed: int, needs: Needs = EVERYTHING) -> Group:
    """One trajectory of up to four steps, or none, for each outcome."""
    rng = np.random.default_rng(seed)
    group = make_group(
        *(
            make_trajectory(*(random_step(rng) for _ in range(rng.integers(0, 5))), success=success, reward=reward)
            for success, reward in outcomes
        )
    )
    return furnished(group, needs, seed)


_outcomes = st.one_of(st.tuples(st.booleans(), st.sampled_from(_REWARDS)), st.sampled_from([(True, 1.0), (False, 0.0)]))
_seeds = st.integers(0, 2**16)


def groups_for(needs: Needs) -> st.SearchStrategy[Group]:
    """Groups of one to five trajectories, furnished with what a method needs."""
    return st.builds(random_group, st.lists(_outcomes, min_size=1, max_size=5), _seeds, st.just(needs))


def equal_groups_for(needs: Needs) -> st.SearchStrategy[Group]:
    """Groups whose trajectories all end alike."""
    alike = st.builds(lambda outcome, count: [outcome] * count, _outcomes, st.integers(1, 5))
    return st.builds(random_group, alike, _seeds, st.just(needs))
