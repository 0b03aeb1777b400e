"""`stepcredit warmstart`: demonstrations, cloning, measurement, a folder to ship."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from envs import load_benchmark
from envs.alfworld.assets import GRAMMAR_VERSION, load_assets
from envs.alfworld.env import AlfworldEnv
from envs.alfworld.game import Game
from envs.alfworld.generator import GENERATOR_VERSION, generate
from envs.alfworld.phrases import phrases
from envs.alfworld.rooms import SPLIT_SIZES
from envs.alfworld.searcher import plausible_homes
from envs.alfworld.subsets import Subset
from envs.contract import Benchmark
from envs.panel import Panel
from harness import determinism, files
from harness.policy import Policy, fresh_policy, weights_sha256
from harness.spec import RolloutSpec
from harness.tokenizer import phrase_tokenizer, token_bytes_table
from harness.warmstart.cloning import CloningSpec, CloningStep, clone
from harness.warmstart.demonstrations import Demonstration, DemonstrationSpec, Demonstrator
from harness.warmstart.embeddings import composed_embeddings
from harness.warmstart.measure import Measurement, measure

_ABUNDANT = ("Cabinet", "Drawer", "Shelf")
_LINE_EVERY = 100
_LIMITS = {
    "mini": RolloutSpec(max_turns=14),
    "full": RolloutSpec(max_turns=50, max_context_tokens=2048),
    "real": RolloutSpec(max_turns=50, max_context_tokens=2048),
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


def build(spec: WarmstartSpec, report: Callable[[CloningStep], None]) -> Policy:
    """Make and train the policy; equal specs give equal bits on one machine."""
    assets = load_assets()
    objects = frozenset().union(*assets.fits.values(), assets.affords["Toggleable"])
    tokenizer = phrase_tokenizer(phrases(assets.fits, objects, _ABUNDANT))
    policy = fresh_policy("tiny", tokenizer, layers=spec.layers, hidden=spec.hidden, seed=spec.seed)
    scale = policy.model.config.initializer_range
    rows_VD = composed_embeddings(token_bytes_table(tokenizer), spec.hidden, scale=scale, seed=spec.seed)
    with torch.no_grad():
        policy.model.get_parameter("model.embed_tokens.weight").copy_(rows_VD)
    for step in clone(policy.model, stream(spec, policy), spec.cloning):
        report(step)
    return policy


def stream(spec: WarmstartSpec, policy: Policy) -> Iterator[Demonstration]:
    """Endless demonstrations on games of training rooms that no panel holds."""
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


def save(policy: Policy, spec: WarmstartSpec, measured: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write weights, tokenizer and manifest; the manifest comes last, so that a folder with one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    names = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
    manifest = {
        "spec": asdict(spec),
        "command": "stepcredit warmstart",
        "parameters": policy.parameters,
        "vocabulary": len(policy.tokenizer),
        "weights_sha256": weights_sha256(policy.model),
        "generator_version": GENERATOR_VERSION,
        "grammar": GRAMMAR_VERSION,
        "assets": dict(load_assets().fingerprints),
        "torch": torch.__version__,
        "measured": measured,
        "files": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names},
    }
    files.write_json(folder / "manifest.json", manifest)


def main(folder: Path) -> None:
    """Build the default policy, measure it, write the folder; shows progress on standard error."""
    files.make_folder(folder)
    determinism.switch_on(1, "cpu")
    spec, console = WarmstartSpec(), Console(stderr=True)
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console) as bars:
        cloning = bars.add_task("cloning", total=spec.cloning.steps)

        def report(step: CloningStep) -> None:
            bars.update(cloning, completed=step.step + 1)
            if not console.is_terminal and step.step % _LINE_EVERY == 0:
                console.print(f"cloning {step.step}/{spec.cloning.steps}, loss {step.loss:.4f}", highlight=False)

        policy = build(spec, report)
        bars.add_task("measuring", total=None)
        measured = [asdict(found) for found in measure_everywhere(policy)]
    save(policy, spec, measured, folder)
    print(f"policy: {folder}")


def measure_everywhere(policy: Policy) -> list[Measurement]:
    """Held-out games of every suite whose data is here: mini, full and, where they can be found, the real ones."""
    suites = ["mini", "full"]
    if any(os.environ.get(name) for name in ("ALFWORLD_DATA", "STEPCREDIT_DATA")):
        suites.append("real")
    return [found for suite in suites for found in measure(policy, *_held_out(suite), _LIMITS[suite])]


def _held_out(suite: str) -> tuple[Benchmark, Panel]:
    benchmark = load_benchmark("alfworld", suite)
    return benchmark, benchmark.panel("valid_unseen")
