"""The example of a benchmark keeps the promises of one, and is found when an installed package registers it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from stepcredit.envs.contract import Benchmark, EnvError
from stepcredit.envs.hallway import FAMILY, Hallway
from stepcredit.envs.laws import benchmark_tests
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import rollout
from tests.harness.support import DRAWS, SPEC, toy_policy

ROOT = Path(__file__).resolve().parents[2]
HALLWAY = cast(Benchmark, Hallway())


test_promises = benchmark_tests(lambda: HALLWAY, "train", "test")


def test_a_policy_plays_it() -> None:
    groups = rollout(Player.of(toy_policy(), HALLWAY), HALLWAY.panel("train").tasks[:2], SPEC, DRAWS)
    assert all(trajectory.metrics["moves"] == len(trajectory.steps) for g in groups for trajectory in g.trajectories)


def test_wrong_words_are_refused() -> None:
    with pytest.raises(EnvError, match="unknown split of hallway 'tests'; did you mean 'test'"):
        HALLWAY.panel("tests")
    with pytest.raises(EnvError, match="hallway has no option 'doors'"):
        FAMILY.complete({"doors": 7})


def registered(folder: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command where an installed package registers the example under a name."""
    info = folder / "outside-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[stepcredit.benchmarks]\n{name} = stepcredit.envs.hallway:FAMILY\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-m", "stepcredit.harness.cli", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_a_package_registers_it(tmp_path: Path) -> None:
    done = registered(tmp_path, "hallway", "panel", "hallway", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["split"], found["size"], found["subsets"]) == ("test", 20, {"Near": 12, "Far": 8})
    embedded = registered(tmp_path, "hallway", "train", "--benchmark", "hallway")
    assert embedded.returncode == 2
    assert "model 'tiny' was made for alfworld, searchqa, diagnostic alone" in embedded.stderr


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    done = registered(tmp_path, "alfworld", "panel", "alfworld")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "registers the benchmark 'alfworld', but that name is taken by stepcredit itself" in line
