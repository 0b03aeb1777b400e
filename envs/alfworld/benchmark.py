"""ALFWorld as a benchmark: canonical panels, and an episode for each task."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from stepcredit.envs.alfworld.assets import GRAMMAR_VERSION, load_assets
from stepcredit.envs.alfworld.env import AlfworldEnv
from stepcredit.envs.alfworld.game import Game
from stepcredit.envs.alfworld.oracle import solve
from stepcredit.envs.alfworld.record import GameRecord
from stepcredit.envs.alfworld.sources import SPLITS, open_source
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.alfworld.text import INSTRUCTIONS
from stepcredit.envs.contract import EnvError, TurnFormat
from stepcredit.envs.naming import unknown
from stepcredit.envs.panel import Panel


class AlfworldBenchmark:
    """Suites `mini` and `full` are generated; `real` holds ALFWorld's own games.

    A split is read on first use. A game is parsed once and shared by its episodes.

    Args:
        suite: `mini`, `full` or `real`.
        environ: where ALFWORLD_DATA and STEPCREDIT_DATA are looked up; the process's environment by default.
    """

    name = "alfworld"
    subsets = tuple(subset.value for subset in Subset)
    trained_subsets = subsets
    turn_format = TurnFormat(("action",), INSTRUCTIONS)

    def __init__(self, suite: str = "mini", environ: Mapping[str, str] | None = None) -> None:
        self.suite = suite
        self._source = open_source(suite, os.environ if environ is None else environ)
        self._records: dict[str, dict[str, GameRecord]] = {}
        self._panels: dict[str, Panel] = {}
        self._games: dict[str, Game] = {}

    def panel(self, split: str) -> Panel:
        """Every game of the split once, sorted by id.

        Raises:
            EnvError: there is no such split, or its data cannot be used.
        """
        if split not in self._panels:
            tasks = (record.as_task() for record in self._split(split).values())
            self._panels[split] = Panel.of(self.name, self.suite, split, tasks)
        return self._panels[split]

    def make(self, task_id: str) -> AlfworldEnv:
        """A fresh episode of the game.

        Raises:
            EnvError: there is no such game, or it cannot be read.
        """
        if task_id not in self._games:
            self._games[task_id] = _parse(self.record(task_id))
        return AlfworldEnv(self._games[task_id])

    def record(self, task_id: str) -> GameRecord:
        """The game as data.

        Raises:
            EnvError: there is no such game.
        """
        split = next((part for part in task_id.split("/") if part in SPLITS), None)
        if split is None:
            raise EnvError(f"task {task_id!r} names none of the splits {', '.join(SPLITS)}")
        records = self._split(split)
        if task_id not in records:
            raise unknown(f"task of {self.name}/{self.suite}/{split}", task_id, records)
        return records[task_id]

    def solution(self, task_id: str) -> tuple[str, ...]:
        """The oracle's commands, which see the whole room.

        Raises:
            EnvError: there is no such game, or the oracle cannot win it.
        """
        env = self.make(task_id)
        env.reset()
        plan = solve(env.world)
        if plan is None:
            raise EnvError(f"{task_id}: the oracle finds no way to the goal, so that there is no reference trajectory")
        return tuple(plan)

    def prefetch(self, actions: Sequence[str]) -> None:
        """The engine needs no preparation."""

    def provenance(self) -> Mapping[str, str]:
        """Grammar, the wheel's version and files, and where the games come from."""
        assets = load_assets()
        wheel = {"grammar": GRAMMAR_VERSION, "alfworld": assets.version, **assets.fingerprints}
        return {"suite": self.suite, **wheel, **self._source.provenance()}

    def _split(self, split: str) -> dict[str, GameRecord]:
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        if split not in self._records:
            self._records[split] = {record.id: record for record in self._source.games(split)}
        return self._records[split]


def _parse(record: GameRecord) -> Game:
    try:
        return Game.from_pddl(record.problem, record.task, GRAMMAR_VERSION)
    except EnvError as error:
        raise EnvError(f"{record.id}: {error}") from error
