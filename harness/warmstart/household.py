"""ALFWorld's warm start: demonstrations of a searching expert on generated games."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import torch

from stepcredit.envs import BENCHMARKS, load_benchmark
from stepcredit.envs.alfworld.assets import GRAMMAR_VERSION, load_assets
from stepcredit.envs.alfworld.benchmark import AlfworldBenchmark
from stepcredit.envs.alfworld.env import AlfworldEnv
from stepcredit.envs.alfworld.game import Game
from stepcredit.envs.alfworld.generator import GENERATOR_VERSION, generate
from stepcredit.envs.alfworld.phrases import phrases
from stepcredit.envs.alfworld.rooms import SPLIT_SIZES
from stepcredit.envs.alfworld.searcher import Searcher, plausible_homes
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.contract import Benchmark, Env
from stepcredit.envs.panel import Panel, Task
from stepcredit.harness.model.policy import Policy, fresh_policy
from stepcredit.harness.model.tokenizer import phrase_tokenizer, token_bytes_table
from stepcredit.harness.spec import RolloutSpec
from stepcredit.harness.warmstart.cloning import CloningSpec
from stepcredit.harness.warmstart.demonstrations import Demonstration, DemonstrationSpec, Demonstrator
from stepcredit.harness.warmstart.embeddings import composed_embeddings
from stepcredit.harness.warmstart.measure import Measurement, measure
from stepcredit.harness.warmstart.reading import Actions, Lesson, ReadingSpec, Tutor
from stepcredit.methods.contract import Step

_TRIES = 50
_READ_GAMES = SPLIT_SIZES["train"] + 10_000
_ABUNDANT = ("Cabinet", "Drawer", "Shelf")
_LIMITS = {
    name: RolloutSpec(max_turns=suite.max_turns, max_context_tokens=suite.max_context_tokens)
    for name, suite in BENCHMARKS["alfworld"].suites.items()
}


@dataclass(frozen=True, slots=True)
class WarmstartSpec:
    """Everything that determines the shipped weights.

    Attributes:
        full: share of games from full-sized rooms; the others are mini.
        walks: demonstrations a game.
    """

    seed: int = 0
    layers: int = 3
    hidden: int = 128
    full: float = 0.03
    walks: int = 4
    demonstrations: DemonstrationSpec = DemonstrationSpec()
    cloning: CloningSpec = CloningSpec()
    reading: ReadingSpec | None = ReadingSpec()

    @property
    def clonings(self) -> tuple[CloningSpec, ...]:
        return (self.cloning,)


BLIND = WarmstartSpec(reading=None)
"""`tiny-blind`, which has had the first lesson of `tiny` alone."""


class HouseholdTutor:
    """See `stepcredit.harness.warmstart.reading.Tutor`: the searching expert, with the habits of demonstrations."""

    def __init__(self, introduction: str, rng: random.Random) -> None:
        assets = load_assets()
        self._rng, self._openable = rng, frozenset(kind.lower() for kind in assets.openable)
        self._expert = Searcher(plausible_homes(assets.fits), DemonstrationSpec().skill, rng)
        self._expert.begin(introduction)

    def observe(self, step: Step) -> None:
        self._expert.observe(step.action_text, step.observation)

    def answer(self, told: Actions) -> tuple[str, str]:
        decision = self._expert.informed_by(told, self._openable, self._rng).decide()
        return f"<think>{decision.thought}</think>", f"<action>{decision.action}</action>"

    def straight(self, told: Actions) -> str:
        return self._expert.informed_by(told, self._openable, self._rng, faultless=True).decide().action


def household_lessons(solver: Demonstrator, shower: Demonstrator, first: int) -> Iterator[Lesson]:
    """Games of training rooms that no panel holds, from number `first` on, the subsets in turn."""
    for index in count(first):
        for subset in Subset:
            drawn = generate("mini", "train", subset, index)
            make = partial(AlfworldEnv, Game.from_pddl(drawn.problem, drawn.task, GRAMMAR_VERSION))
            yield Lesson(
                Task(f"reading/{subset}/{index}", subset, "0" * 64),
                make,
                partial(HouseholdTutor, make().reset().text),
                partial(_solved, solver, make),
                partial(_shown, shower, make),
            )


def _solved(demonstrator: Demonstrator, make: Callable[[], Env], rng: random.Random) -> Actions:
    return demonstrator.successful_actions(make(), rng)


def _shown(demonstrator: Demonstrator, make: Callable[[], Env], rng: random.Random) -> Demonstration:
    return next(demonstrator.demonstrations(make, 1, rng))


class HouseholdCourse:
    """See `stepcredit.harness.warmstart.build.Course`."""

    def __init__(self, spec: WarmstartSpec | None = None) -> None:
        self.spec = spec or WarmstartSpec()

    @property
    def command(self) -> str:
        return f"stepcredit warmstart {'' if self.spec.reading else '--blind '}--out FOLDER"

    @property
    def limits(self) -> RolloutSpec:
        return _LIMITS["mini"]

    def held_out(self) -> tuple[Benchmark, Panel]:
        return _held_out("mini")

    def lessons(self, policy: Policy) -> Iterator[Lesson]:
        return household_lessons(*_demonstrators(policy, self.limits.max_turns), _READ_GAMES)

    def tutor(self, task_id: str) -> Tutor:
        benchmark, _ = self.held_out()
        return HouseholdTutor(benchmark.make(task_id).reset().text, random.Random(f"tutor:{task_id}"))

    def fresh(self) -> Policy:
        assets, spec = load_assets(), self.spec
        objects = frozenset().union(*assets.fits.values(), assets.affords["Toggleable"])
        tokenizer = phrase_tokenizer(phrases(assets.fits, objects, _ABUNDANT))
        policy = fresh_policy(
            "tiny", tokenizer, AlfworldBenchmark.turn_format, layers=spec.layers, hidden=spec.hidden, seed=spec.seed
        )
        scale = policy.model.config.initializer_range
        rows_VD = composed_embeddings(token_bytes_table(tokenizer), spec.hidden, scale=scale, seed=spec.seed)
        with torch.no_grad():
            policy.model.get_parameter("model.embed_tokens.weight").copy_(rows_VD)
        return policy

    def streams(self, policy: Policy) -> list[Iterator[Demonstration]]:
        return [self._stream(policy)]

    def _stream(self, policy: Policy) -> Iterator[Demonstration]:
        """Endless demonstrations on games of training rooms that no panel holds."""
        spec = self.spec
        rng = random.Random(f"warmstart:{spec.seed}")
        demonstrator = Demonstrator(spec.demonstrations, policy.transcript, plausible_homes(load_assets().fits))
        index = SPLIT_SIZES["train"]
        while True:
            for subset in Subset:
                suite = "full" if rng.random() < spec.full else "mini"
                drawn = generate(suite, "train", subset, index)
                game = Game.from_pddl(drawn.problem, drawn.task, GRAMMAR_VERSION)
                yield from demonstrator.demonstrations(partial(AlfworldEnv, game), spec.walks, rng)
            index += 1

    def data(self) -> Mapping[str, object]:
        return {
            "generator_version": GENERATOR_VERSION,
            "grammar": GRAMMAR_VERSION,
            "assets": dict(load_assets().fingerprints),
        }

    def measure(self, policy: Policy) -> list[Measurement]:
        """Held-out games of every suite whose data is here: mini, full and, where they can be found, the real ones."""
        suites = ["mini", "full"]
        if any(os.environ.get(name) for name in ("ALFWORLD_DATA", "STEPCREDIT_DATA")):
            suites.append("real")
        found = []
        for suite in suites:
            benchmark, panel = _held_out(suite)
            hints = successful_episodes(policy, benchmark, panel, _LIMITS[suite].max_turns)
            found += measure(policy, benchmark, panel, _LIMITS[suite], hints)
        return found


def successful_episodes(policy: Policy, benchmark: Benchmark, panel: Panel, turns: int) -> dict[str, str]:
    """Task id -> the actions of a demonstrator's first episode that succeeds within `turns`, as hindsight text."""
    demonstrator = _demonstrator(policy, turns)
    hints = {}
    for task in panel.tasks:
        rng = random.Random(f"hint:{task.id}")
        tries = (demonstrator.successful_actions(benchmark.make(task.id), rng) for _ in range(_TRIES))
        actions = next((found for found in tries if found), None)
        if actions is not None:
            hints[task.id] = "\n".join(actions)
    return hints


def _demonstrator(policy: Policy, turns: int) -> Demonstrator:
    """One whose episodes end within so many turns."""
    homes = plausible_homes(load_assets().fits)
    return Demonstrator(replace(DemonstrationSpec(), max_turns=turns), policy.transcript, homes)


def _demonstrators(policy: Policy, turns: int) -> tuple[Demonstrator, Demonstrator]:
    """Who solves tasks to be told of it, and who shows how one goes on with a block: with the same habits."""
    usual = DemonstrationSpec()
    hinted = replace(usual, max_turns=turns, hinted=1.0, observation_weight=0.0, informed=usual.skill)
    homes = plausible_homes(load_assets().fits)
    return _demonstrator(policy, turns), Demonstrator(hinted, policy.transcript, homes)


def _held_out(suite: str) -> tuple[Benchmark, Panel]:
    benchmark = load_benchmark("alfworld", suite)
    return benchmark, benchmark.panel("valid_unseen")
