"""Demonstrations as token sequences with a loss weight per token.

A part of them carries a hindsight block right before one turn's response, which is where teachers see it;
from there on the expert follows the hint, so that reading it pays.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stepcredit.envs.alfworld.searcher import Decision, Searcher, Skill
from stepcredit.envs.contract import Env
from stepcredit.harness.model.transcript import Transcript


@dataclass(frozen=True, slots=True)
class DemonstrationSpec:
    """What a demonstrator does.

    Attributes:
        skill: how well it searches when it has no hint.
        max_turns: longest episode.
        wrong: probability of a wrong command in place of the intended one, shown but not imitated.
        again: the same right after a wrong command, so that the policy sees loops being left.
        hinted: share of episodes with a hindsight block.
        observation_weight: loss weight of observation tokens; response tokens weigh 1.
        informed: how well it searches from the block on; what it knows comes on top.
    """

    skill: Skill = Skill(plausible=0.3, waste=0.15)
    max_turns: int = 24
    wrong: float = 0.08
    again: float = 0.4
    hinted: float = 0.35
    observation_weight: float = 0.2
    informed: Skill = Skill()


@dataclass(frozen=True, slots=True)
class Demonstration:
    """token_ids [T] and the loss weight of predicting each of them, weights [T]."""

    token_ids: NDArray[np.int64]
    weights: NDArray[np.float32]

    @property
    def total(self) -> float:
        """The weight of all that is learned; the first token is not predicted."""
        return float(self.weights[1:].sum())


@dataclass
class Tape:
    """An episode being written down."""

    tokens: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def write(self, tokens: list[int], weight: float) -> None:
        """Add tokens of one weight."""
        self.tokens += tokens
        self.weights += [weight] * len(tokens)

    def show(self, transcript: Transcript, hint: str) -> None:
        """Put a hindsight block where teachers see it: right before the generation suffix, which ends the tape."""
        suffix = list(transcript.generation_suffix)
        del self.tokens[-len(suffix) :], self.weights[-len(suffix) :]
        self.write(transcript.hindsight(hint), 0.0)
        self.write(suffix, 0.0)

    def demonstration(self) -> Demonstration:
        """What has been written."""
        return Demonstration(np.array(self.tokens, dtype=np.int64), np.array(self.weights, dtype=np.float32))


class Nerves:
    """Lets an expert slip now and then, and then more easily once more."""

    def __init__(self, spec: DemonstrationSpec, rng: random.Random) -> None:
        self._spec, self._rng, self._slips = spec, rng, spec.wrong

    def shown(self, expert: Searcher) -> tuple[Decision, bool]:
        """What the expert does next, and whether it is to be imitated: what it intended is, a slip is not."""
        intended, slipped = expert.decide(), self._rng.random() < self._slips
        self._slips = self._spec.again if slipped else self._spec.wrong
        return (_wrong(intended, expert, self._rng), False) if slipped else (intended, True)


def response_of(decision: Decision) -> str:
    """The text of a turn."""
    return f"<think>{decision.thought}</think><action>{decision.action}</action>"


class Demonstrator:
    """Plays episodes with the searching expert and writes them down as the policy would see them."""

    def __init__(self, spec: DemonstrationSpec, transcript: Transcript, homes: Mapping[str, frozenset[str]]) -> None:
        self._spec = spec
        self._transcript = transcript
        self._homes = homes

    def demonstrations(self, make_env: Callable[[], Env], count: int, rng: random.Random) -> Iterator[Demonstration]:
        """`count` episodes of one task."""
        for _ in range(count):
            hint = self.successful_actions(make_env(), rng) if rng.random() < self._spec.hinted else []
            yield self._episode(make_env(), hint, rng)

    def searcher(self, rng: random.Random, *, skill: Skill | None = None) -> Searcher:
        """A fresh expert."""
        return Searcher(self._homes, skill or self._spec.skill, rng)

    def _episode(self, env: Env, hint: list[str], rng: random.Random) -> Demonstration:
        expert, tape = self.searcher(rng), Tape()
        text = env.reset().text
        expert.begin(text)
        tape.write(self._transcript.first(text), self._spec.observation_weight)
        hint_at, nerves = hint_turn(len(hint), rng), Nerves(self._spec, rng)
        for turn in range(self._spec.max_turns):
            if turn == hint_at:
                tape.show(self._transcript, "\n".join(hint))
                expert.read_hint(hint)
                expert.skill = self._spec.informed
            decision, imitated = nerves.shown(expert)
            result = env.step(decision.action)
            tape.write(self._transcript.response(response_of(decision)), float(imitated))
            tape.write(self._transcript.following(result.observation.text), self._spec.observation_weight)
            if result.done:
                break
            expert.observe(decision.action, result.observation.text)
        return tape.demonstration()

    def successful_actions(self, env: Env, rng: random.Random) -> list[str]:
        """The admitted actions of another expert's episode on the task, as a peer's would be; empty if it failed."""
        expert, actions = self.searcher(rng), list[str]()
        expert.begin(env.reset().text)
        for _ in range(self._spec.max_turns):
            decision = expert.decide()
            result = env.step(decision.action)
            actions += [decision.action] if result.valid else []
            if result.done:
                return actions
            expert.observe(decision.action, result.observation.text)
        return []


def _wrong(intended: Decision, expert: Searcher, rng: random.Random) -> Decision:
    """What a young policy does: take what is not there, or name a wrong place."""
    if expert.here and rng.random() < 0.5:
        thing, place = f"{expert.goal.wanted} {rng.randint(1, 2)}", min(expert.here)
        return Decision(f" take {thing}", f"take {thing} from {place}")
    words, other = intended.action.split(), rng.choice(expert.receptacles)
    return Decision(intended.thought, " ".join([*words[:-2], other]) if len(words) > 2 else f"open {other}")


def hint_turn(hint_length: int, rng: random.Random) -> int | None:
    """None without a hint; half of the hints stand before the first turn, the others later."""
    if not hint_length:
        return None
    return 0 if rng.random() < 0.5 else rng.randrange(hint_length)
