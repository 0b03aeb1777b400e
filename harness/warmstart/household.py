"""ALFWorld's warm start: demonstrations of a searching expert on generated games."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch

from stepcredit.envs import BENCHMARKS, load_benchmark
from stepcredit.envs.alfworld.assets import GRAMMAR_VERSION, load_assets
from stepcredit.envs.alfworld.benchmark import AlfworldBenchmark
from stepcredit.envs.alfworld.env import AlfworldEnv
from stepcredit.envs.alfworld.game import Game
from stepcredit.envs.alfworld.generator import GENERATOR_VERSION, generate
from stepcredit.envs.alfworld.phrases import phrases
from stepcredit.envs.alfworld.rooms import SPLIT_SIZES
from stepcredit.envs.alfworld.searcher import plausible_homes
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.contract import Benchmark
from stepcredit.envs.panel import Panel
from stepcredit.harness.model.policy import Policy, fresh_policy
from stepcredit.harness.model.tokenizer import phrase_tokenizer, token_bytes_table
from stepcredit.harness.spec import RolloutSpec
from stepcredit.harness.warmstart.cloning import CloningSpec
from stepcredit.harness.warmstart.demonstrations import Demonstration, DemonstrationSpec, Demonstrator
from stepcredit.harness.warmstart.embeddings import composed_embeddings
from stepcredit.harness.warmstart.measure import Measurement, measure

_TRIES = 50
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


class HouseholdCourse:
    """See `stepcredit.harness.warmstart.build.Course`."""

    command = "stepcredit warmstart --out FOLDER"

    def __init__(self, spec: WarmstartSpec | None = None) -> None:
        self.spec = spec or WarmstartSpec()

    @property
    def cloning(self) -> CloningSpec:
        return self.spec.cloning

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

    def stream(self, policy: Policy) -> Iterator[Demonstration]:
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
    homes = plausible_homes(load_assets().fits)
    demonstrator = Demonstrator(replace(DemonstrationSpec(), max_turns=turns), policy.transcript, homes)
    hints = {}
    for task in panel.tasks:
        rng = random.Random(f"hint:{task.id}")
        tries = (demonstrator.successful_actions(benchmark.make(task.id), rng) for _ in range(_TRIES))
        actions = next((found for found in tries if found), None)
        if actions is not None:
            hints[task.id] = "\n".join(actions)
    return hints


def _held_out(suite: str) -> tuple[Benchmark, Panel]:
    benchmark = load_benchmark("alfworld", suite)
    return benchmark, benchmark.panel("valid_unseen")
