"""The second lesson: a policy that can play learns to read what teachers are shown, and keeps playing as it did.

The student is the policy as the first lesson left it. Its own episodes are the trunks: at their turns, at every place
where a teacher may be shown something, a block is put in. An expert that has seen what the student saw, and read the
block, says what it does then. Where the block tells nothing of use, or there is none, the student's own expectations
are the lesson: so a block as such changes nothing, only what it tells does.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Protocol, TypeVar

from stepcredit.envs.contract import Env
from stepcredit.envs.panel import Task
from stepcredit.harness.episodes.episode import open_episodes
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import play
from stepcredit.harness.model.transcript import Transcript
from stepcredit.harness.seeds import Draws, seed_for
from stepcredit.harness.spec import RolloutSpec
from stepcredit.harness.warmstart.cloning import CloningSpec
from stepcredit.harness.warmstart.demonstrations import Demonstration
from stepcredit.harness.warmstart.trees import Sapling, Tree
from stepcredit.methods.arms import outcome_of, written
from stepcredit.methods.contract import Step, Trajectory

Actions = Sequence[str]
"""The admitted actions of an episode, which is what a block tells of it."""

ChoiceT = TypeVar("ChoiceT")


class Block(StrEnum):
    """What is put in."""

    PEER = "peer"
    """Another episode of the same task that succeeded."""
    FAILED = "failed"
    """One that failed: what it saw is true."""
    FOREIGN = "foreign"
    """One of another task: there is nothing to learn from it."""
    OUTCOME = "outcome"
    """How the very episode ended: what the student does in episodes that end so."""


class Place(StrEnum):
    """Where it stands."""

    RESPONSE = "response"
    """At the end of the prompt."""
    TAG = "tag"
    """After the reasoning, before the action's tag."""
    ACTION = "action"
    """After the tag."""


@dataclass(frozen=True, slots=True)
class ReadingSpec:
    """Everything that determines the second lesson, beside the student.

    Attributes:
        games: tasks of a round, whose episodes are played together.
        group: the student's episodes of each.
        blocks: how often a turn's block is which, of those that there are.
        places: how often it stands where.
        opening: share of episodes that are read once more with a foreign block in their first prompt.
        shown: an expert's episodes of each, with a block.
        led: episodes of a task that the reader itself plays with a peer's in its first prompt.
        known: foreign episodes to choose from.
        cloning: optimisation; a batch is so many trees.
    """

    games: int = 32
    group: int = 2
    blocks: tuple[tuple[Block, float], ...] = (
        (Block.PEER, 0.38),
        (Block.FAILED, 0.08),
        (Block.FOREIGN, 0.44),
        (Block.OUTCOME, 0.1),
    )
    places: tuple[tuple[Place, float], ...] = ((Place.RESPONSE, 0.4), (Place.TAG, 0.5), (Place.ACTION, 0.1))
    opening: float = 0.25
    shown: int = 1
    led: int = 1
    known: int = 400
    cloning: CloningSpec = CloningSpec(steps=3000, warmup=30)


class Tutor(Protocol):
    """An expert that looks over a policy's shoulder."""

    def observe(self, step: Step) -> None:
        """Take in a turn of the policy and what came of it."""
        ...

    def answer(self, told: Actions) -> tuple[str, str]:
        """What it says in the present state, by what it has seen and what a block tells: the reasoning with its tags,
        and the action with its own."""
        ...

    def straight(self, told: Actions) -> str:
        """The action that leads straight to what the block tells."""
        ...


@dataclass(frozen=True, slots=True)
class Lesson:
    """A task that no panel holds.

    Attributes:
        make: its environment.
        tutor: an expert at the beginning of an episode, with a source of choices.
        solve: an expert's episode that succeeds; empty if none did.
        show: an expert's episode in which it is shown another's, at the first turn or later, and slips.
    """

    task: Task
    make: Callable[[], Env]
    tutor: Callable[[random.Random], Tutor]
    solve: Callable[[random.Random], Actions]
    show: Callable[[random.Random], Demonstration]


@dataclass(frozen=True, slots=True)
class _Peers:
    """What there is to tell of a task: the actions of others."""

    won: Sequence[Actions]
    lost: Sequence[Actions]


class Reading:
    """Endless trees to learn from.

    Args:
        student: the policy that the first lesson left, with its engine.
        reader: the policy that learns to read, with its own.
        limits: of episodes.
        seed: of what is played, and shown where.
    """

    def __init__(self, spec: ReadingSpec, student: Player, reader: Player, limits: RolloutSpec, seed: int) -> None:
        self._spec, self._student, self._reader, self._limits = spec, student, reader, limits
        self._seed, self._rng = seed, random.Random(f"reading:{seed}")
        self._foreign: deque[Actions] = deque(maxlen=spec.known)

    @property
    def _transcript(self) -> Transcript:
        return self._student.policy.transcript

    def trees(self, lessons: Iterator[Lesson]) -> Iterator[Tree]:
        """Round after round, each in random order."""
        number = 0
        while True:
            trees = list(self._round(list(islice(lessons, self._spec.games)), number))
            self._rng.shuffle(trees)
            yield from trees
            number += 1

    def _round(self, lessons: Sequence[Lesson], number: int) -> Iterator[Tree]:
        spec, draws = self._spec, Draws(seed_for("reading", self._seed), number)
        groups = _played(self._student, lessons, self._limits, spec.group, draws, [None] * len(lessons))
        solved = [lesson.solve(self._rng) for lesson in lessons]
        for lesson, group, solution in zip(lessons, groups, solved, strict=True):
            for trajectory in group:
                others = [peer for peer in group if peer is not trajectory]
                won = [_actions(peer) for peer in others if peer.success] + ([solution] if solution else [])
                peers = _Peers(won, [_actions(peer) for peer in others if not peer.success])
                yield self._watched(lesson, trajectory, peers)
        told = [(lesson, solution) for lesson, solution in zip(lessons, solved, strict=True) if solution]
        yield from (Tree.of(lesson.show(self._rng)) for lesson in lessons for _ in range(spec.shown))
        if spec.led:
            yield from self._led(told, Draws(seed_for("led", self._seed), number))
        self._foreign.extend(solution for _, solution in told)
        self._foreign.extend(_actions(next((t for t in group if t.success), group[0])) for group in groups)

    def _led(self, told: Sequence[tuple[Lesson, Actions]], draws: Draws) -> Iterator[Tree]:
        """The reader's own episodes with another's in the first prompt, and what the expert would do there."""
        lessons, hints = [lesson for lesson, _ in told], ["\n".join(actions) for _, actions in told]
        groups = _played(self._reader, lessons, self._limits, self._spec.led, draws, hints)
        for (lesson, actions), group in zip(told, groups, strict=True):
            for trajectory in group:
                tutor, tree = lesson.tutor(self._rng), Sapling(_tokens(trajectory))
                for step in trajectory.steps:
                    tree.branch(len(step.prompt_ids) - 1, (), self._said("".join(tutor.answer(actions))))
                    tutor.observe(step)
                yield tree.grown()

    def _watched(self, lesson: Lesson, trajectory: Trajectory, peers: _Peers) -> Tree:
        """The student's own episode, a block at every turn."""
        tutor, tree = lesson.tutor(self._rng), Sapling(_tokens(trajectory))
        responses = [_response(step) for step in trajectory.steps]
        for response in responses:
            tree.anchor(response)
        for step in trajectory.steps:
            self._put_in(tree, step, peers, tutor, outcome_of(trajectory))
            tutor.observe(step)
        if self._foreign and self._rng.random() < self._spec.opening:
            shown = [*self._told(self._rng.choice(self._foreign)), *self._transcript.generation_suffix]
            again = range(responses[0].start, responses[-1].stop)
            tree.repeat(self._before(trajectory.steps[0]), shown, again, responses)
        return tree.grown()

    def _put_in(self, tree: Sapling, step: Step, peers: _Peers, tutor: Tutor, outcome: str) -> None:
        place = self._place(step)
        said = range(_start(step, place), _response(step).stop)
        suffix = self._transcript.generation_suffix if place is Place.RESPONSE else ()
        after = self._before(step) if place is Place.RESPONSE else said.start - 1
        own = step.response_ids[said.start - len(step.prompt_ids) :].tolist()
        match self._block(peers):
            case Block.OUTCOME:
                tree.branch(after, [*self._transcript.hindsight(outcome), *suffix], own)
            case Block.FOREIGN:
                tree.repeat(after, [*self._told(self._rng.choice(self._foreign)), *suffix], said, [said])
            case block:
                told = self._rng.choice(peers.won if block is Block.PEER else peers.lost)
                thought, action = tutor.answer(told)
                # Where the expert does what the student did, the student's words are as good: what is told of an action
                # is not to change how it is reasoned for.
                tagged = f"<{step.action_tag}>{step.action_text}</{step.action_tag}>"
                agrees = action in (step.action_text, tagged)
                answer = own if agrees else self._said(_from((thought, action), place))
                tree.branch(after, [*self._told(told), *suffix], answer)

    def _block(self, peers: _Peers) -> Block:
        there = {Block.PEER: peers.won, Block.FAILED: peers.lost, Block.FOREIGN: self._foreign, Block.OUTCOME: (True,)}
        return _drawn([(block, often) for block, often in self._spec.blocks if there[block]], self._rng)

    def _place(self, step: Step) -> Place:
        """The end of the prompt where the response has no action to stand before."""
        place = _drawn(self._spec.places, self._rng)
        return Place.RESPONSE if step.tagged is None or step.action is None else place

    def _before(self, step: Step) -> int:
        """The row that a block at the end of a prompt follows."""
        return len(step.prompt_ids) - len(self._transcript.generation_suffix) - 1

    def _told(self, actions: Actions) -> list[int]:
        return self._transcript.hindsight("\n".join(actions))

    def _said(self, text: str) -> list[int]:
        return self._transcript.response(text)


def _played(
    player: Player,
    lessons: Sequence[Lesson],
    limits: RolloutSpec,
    group: int,
    draws: Draws,
    hints: Sequence[str | None],
) -> list[list[Trajectory]]:
    """A group's episodes of each task, with a block in the first prompt where there is one; those that took a turn."""
    spec, transcript = limits.model_copy(update={"group": group}), player.policy.transcript
    groups = [
        open_episodes(lesson.task, partial(_made, lesson), transcript, spec, draws.of_turn, hint)
        for lesson, hint in zip(lessons, hints, strict=True)
    ]
    play(player, [episode for own in groups for episode in own], spec)
    return [[episode.finished() for episode in own if episode.turn] for own in groups]


def _made(lesson: Lesson, _: str) -> Env:
    return lesson.make()


def _drawn(choices: Sequence[tuple[ChoiceT, float]], rng: random.Random) -> ChoiceT:
    return rng.choices([choice for choice, _ in choices], [often for _, often in choices])[0]


def _actions(trajectory: Trajectory) -> Actions:
    return written(trajectory, "actions").split("\n")


def _tokens(trajectory: Trajectory) -> list[int]:
    """The whole episode as the policy saw and wrote it."""
    last = trajectory.steps[-1]
    return [*last.prompt_ids.tolist(), *last.response_ids.tolist()]


def _response(step: Step) -> range:
    """Where it stands in the episode."""
    return range(len(step.prompt_ids), len(step.prompt_ids) + len(step.response_ids))


def _start(step: Step, place: Place) -> int:
    """Where in the episode begins what is said after a block at that place."""
    span = {Place.RESPONSE: None, Place.TAG: step.tagged, Place.ACTION: step.action}[place]
    return len(step.prompt_ids) + (span.start if span else 0)


def _from(answer: tuple[str, str], place: Place) -> str:
    """What is left to say there."""
    thought, action = answer
    return {Place.RESPONSE: thought + action, Place.TAG: action, Place.ACTION: action.partition(">")[2]}[place]
