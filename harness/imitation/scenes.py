"""Experts play episodes on tasks that no panel holds; a policy sees what it would see in training."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import torch

from stepcredit.envs.alfworld.assets import load_assets
from stepcredit.envs.alfworld.env import AlfworldEnv
from stepcredit.envs.alfworld.game import Game
from stepcredit.envs.alfworld.generator import generate
from stepcredit.envs.alfworld.rooms import SPLIT_SIZES
from stepcredit.envs.alfworld.searcher import Searcher, plausible_homes
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.contract import Env
from stepcredit.envs.panel import Task
from stepcredit.envs.searchqa.env import Rules, SearchQaEnv
from stepcredit.envs.searchqa.options import SearchOptions
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.contract import Retriever
from stepcredit.envs.searchqa.synthetic import synthetic_corpus
from stepcredit.envs.searchqa.synthetic.expert import Solver
from stepcredit.envs.searchqa.synthetic.questions import endless_drafts
from stepcredit.harness.engine.contract import Sample
from stepcredit.harness.engine.turns import TurnTracker
from stepcredit.harness.episodes.episode import open_episodes
from stepcredit.harness.episodes.watch import Watch
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.spec import RolloutSpec
from stepcredit.harness.warmstart import demonstrations, search
from stepcredit.methods.contract import Credit, Trajectory

_STEPS_A_WORLD = 25


class Actor(Protocol):
    """An expert in one episode."""

    def begin(self, text: str) -> None:
        """Read the first observation."""
        ...

    def turn(self) -> tuple[str, bool]:
        """The next response's text, and whether it is to be imitated."""
        ...

    def observe(self, text: str) -> None:
        """Take in what came of it."""
        ...


@dataclass(frozen=True, slots=True)
class Scene:
    """A task with its environment, and who plays it."""

    task: Task
    make: Callable[[], Env]
    actor: Actor


Scenes = Callable[[int, int], Iterator[Scene]]
"""Endless scenes, from a seed and the number of a step."""


def scenes_of(benchmark: str, suite: str, options: Mapping[str, Any]) -> Scenes:
    """The benchmark's scenes: games of that suite's size, or questions about worlds of their own, by its rules.

    Args:
        benchmark: its name.
        suite: its variant.
        options: the benchmark's, complete.

    Raises:
        UserError: nobody demonstrates this benchmark.
    """
    if benchmark == "alfworld":
        return partial(_household, "mini" if suite == "mini" else "full")
    if benchmark == "searchqa":
        return partial(_questions, SearchOptions.parse(options).rules)
    raise UserError(f"benchmark {benchmark!r} has no expert to imitate; known are alfworld, searchqa")


def perform(scene: Scene, policy: Policy, limits: RolloutSpec) -> tuple[Trajectory, Credit]:
    """The whole episode, and a credit that makes a policy imitate it: weight 1 on every token of what it shall do."""
    one = limits.model_copy(update={"group": 1})
    (episode,) = open_episodes(scene.task, lambda _: scene.make(), policy.transcript, one, lambda *_: 0)
    scene.actor.begin(scene.make().reset().text)
    weights: list[torch.Tensor] = []
    while episode.stop is None:
        text, imitated = scene.actor.turn()
        sample = _written(policy, text)
        with Watch(limits.env_timeout_s) as watch:
            episode.act(sample, watch)
        scene.actor.observe(episode.answer)
        weights.append(torch.full((len(sample.token_ids),), float(imitated)))
    weight_T = torch.cat(weights) if weights else torch.zeros(0)
    return episode.finished(), Credit(torch.zeros_like(weight_T), weight_T)


def _written(policy: Policy, text: str) -> Sample:
    """A response as if it had been drawn, with the token that ends it where the policy's format has one."""
    end = policy.transcript.end_of_turn
    tokens = [*policy.transcript.response(text), *([] if end is None else [end])]
    tracker = TurnTracker(policy.transcript.token_bytes, policy.turn_format.actions)
    count = next(number for number, token in enumerate(tokens, start=1) if tracker.push(token))
    return Sample(np.array(tokens[:count], dtype=np.int64), np.zeros(count, dtype=np.float32), tracker, truncated=False)


class _Household:
    """The searching expert, with its slips."""

    def __init__(self, rng: random.Random) -> None:
        spec = demonstrations.DemonstrationSpec()
        self._expert = Searcher(plausible_homes(load_assets().fits), spec.skill, rng)
        self._nerves = demonstrations.Nerves(spec, rng)
        self._action = ""

    def begin(self, text: str) -> None:
        self._expert.begin(text)

    def turn(self) -> tuple[str, bool]:
        decision, imitated = self._nerves.shown(self._expert)
        self._action = decision.action
        return demonstrations.response_of(decision), imitated

    def observe(self, text: str) -> None:
        self._expert.observe(self._action, text)


def _household(size: str, seed: int, step: int) -> Iterator[Scene]:
    """Games of training rooms that no panel holds, the subsets in turn."""
    rng = random.Random(f"imitation:{seed}:{step}")
    subsets = list(Subset)
    while True:
        subset, index = rng.choice(subsets), SPLIT_SIZES["train"] + rng.randrange(2**31)
        drawn = generate(size, "train", subset, index)
        game = Game.from_pddl(drawn.problem, drawn.task)
        yield Scene(_task(f"{subset}/{index}", subset), partial(AlfworldEnv, game), _Household(rng))


class _Questioner:
    """The solver, with its slips."""

    def __init__(self, solver: Solver, rng: random.Random) -> None:
        self._solver, self._rng, self._imitated = solver, rng, True

    def begin(self, text: str) -> None:
        """It knows the question."""

    def turn(self) -> tuple[str, bool]:
        turn, self._imitated = search.shown_turn(self._solver, search.SearchDemonstrationSpec().wrong, self._rng)
        return search.response_of(turn), self._imitated

    def observe(self, text: str) -> None:
        if self._imitated and text:
            self._solver.read(text)


def _questions(rules: Rules, seed: int, step: int) -> Iterator[Scene]:
    """Questions about worlds that are not the benchmark's, another one every few steps."""
    rng = random.Random(f"imitation:{seed}:{step}")
    number = 1 + step // _STEPS_A_WORLD
    retriever = _world(number)
    for place, draft in enumerate(endless_drafts(number, rng)):
        solver = Solver(draft, search.SearchDemonstrationSpec().habits, _guesses(), rng)
        make = partial(SearchQaEnv, search.question_of(draft), retriever, rules)
        yield Scene(_task(f"{number}/{step}/{place}", "nq"), make, _Questioner(solver, rng))


@lru_cache(maxsize=1)
def _world(number: int) -> Retriever:
    with TemporaryDirectory() as folder:
        return Bm25Retriever(synthetic_corpus(number), cache=Path(folder))


_guesses = lru_cache(maxsize=1)(search.values_by_slot)


def _task(name: str, subset: str) -> Task:
    return Task(f"imitation/{name}", subset, "0" * 64)


def take(scenes: Iterator[Scene], count: int) -> list[Scene]:
    """The first so many."""
    return list(islice(scenes, count))
