"""Episodes of many tasks at once: all live trajectories take their turns together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from stepcredit.envs.panel import Task
from stepcredit.harness.engine.contract import Session
from stepcredit.harness.engine.turns import TurnTracker
from stepcredit.harness.episodes.episode import Episode, open_episodes
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.watch import Watch
from stepcredit.harness.seeds import Draws
from stepcredit.harness.spec import RolloutSpec
from stepcredit.methods.contract import Group

AT_A_TIME = 512
"""Episodes that are live together at most, where there may be many more: their caches and states share the memory."""


def rollout(
    player: Player, tasks: Sequence[Task], spec: RolloutSpec, draws: Draws, hindsight: Mapping[str, str] | None = None
) -> list[Group]:
    """Draw `spec.group` trajectories of each task.

    Every turn's draws depend on (run seed, update, task id, trajectory, turn) and the weights alone. An environment
    that breaks ends its own episodes, with `StopReason.ENV_FAILURE`. `hindsight` maps task ids to a block that their
    first prompt shows, to measure what a policy makes of it.
    """
    make, transcript, hints = player.benchmark.make, player.policy.transcript, hindsight or {}
    groups = [open_episodes(task, make, transcript, spec, draws.of_turn, hints.get(task.id)) for task in tasks]
    play(player, [episode for group in groups for episode in group], spec)
    return [
        Group(task.id, tuple(episode.finished() for episode in group))
        for task, group in zip(tasks, groups, strict=True)
    ]


def play(player: Player, episodes: Sequence[Episode], spec: RolloutSpec) -> None:
    """Take turns until every episode has stopped. Episodes may have a past; those that have stopped are left alone.

    As many play together as the engine can hold. The benchmark is told the actions of all of them before they are
    taken. A running transcript is read once and kept in the engine's cache; windowed prompts are read anew each turn.
    """
    waiting, size = (
        [episode for episode in episodes if episode.stop is None],
        player.engine.rows(spec.max_context_tokens),
    )
    with player.engine.awake():
        for first in range(0, len(waiting), size):
            _play_together(player, waiting[first : first + size], spec)


def _play_together(player: Player, live: list[Episode], spec: RolloutSpec) -> None:
    policy, engine = player.policy, player.engine
    new_tracker = partial(TurnTracker, policy.transcript.token_bytes, policy.turn_format.actions)
    session: Session | None = engine.open([episode.prompt for episode in live])
    while session is not None:
        samples = session.generate(
            seeds=[episode.seed for episode in live],
            new_tracker=new_tracker,
            max_tokens=spec.max_response_tokens,
            temperature=spec.temperature,
            top_p=spec.top_p,
        )
        player.benchmark.prefetch([sample.tracker.action_text for sample in samples])
        with Watch(spec.env_timeout_s) as watch:
            grown = [episode.act(sample, watch) for episode, sample in zip(live, samples, strict=True)]
        going = [place for place, episode in enumerate(live) if episode.stop is None]
        live = [live[place] for place in going]
        if not live:
            session = None
        elif spec.window is None:
            session.keep(going)
            session.append([grown[place] for place in going])
        else:
            session = engine.open([episode.prompt for episode in live])
