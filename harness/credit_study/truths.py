"""What is true of a study's groups, task by task, each kept as soon as it is known; processes share the tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd

from stepcredit.envs.contract import EnvError
from stepcredit.envs.panel import Task
from stepcredit.harness import determinism
from stepcredit.harness.credit_study.asked import StudySpec, Tell
from stepcredit.harness.credit_study.choices import choice_rows
from stepcredit.harness.credit_study.steps import step_rows
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.errors import UserError
from stepcredit.harness.fidelity.alternatives import crossroads
from stepcredit.harness.fidelity.truth import true_steps
from stepcredit.harness.record import files
from stepcredit.harness.run.given import complete
from stepcredit.harness.seeds import Draws, seed_for
from stepcredit.harness.setup.parts import Parts, assemble
from stepcredit.methods.contract import Group, Needs

_FOLDER = "truth"


@dataclass(frozen=True)
class Played:
    """The study's episodes.

    Attributes:
        groups: one a task, with what any arm may show.
    """

    player: Player
    tasks: Sequence[Task]
    groups: Sequence[Group]

    @classmethod
    def of(cls, spec: StudySpec, parts: Parts) -> Played:
        """Drawn anew, the same every time.

        Raises:
            EnvError: the benchmark has no reference trajectory for an arm that needs one.
        """
        player = Player.of(parts.policy, parts.benchmark, spec.run.engine)
        tasks = parts.eval_panel.permuted(spec.seed)[: spec.tasks]
        groups = rollout(player, tasks, spec.run.rollout, Draws(seed_for("credit-study", spec.seed), 0))
        needs = Needs(foreign=True, golden=spec.alternatives > 0 and "golden_rollout" in spec.arms)
        return cls(player, tasks, complete(groups, tasks, needs, player, spec.run, 0, {}))

    @property
    def mixed(self) -> list[tuple[Task, Group]]:
        """Those with successes and failures: the others teach nobody."""
        return [(task, group) for task, group in zip(self.tasks, self.groups, strict=True) if group.mixed]


@dataclass(frozen=True)
class Device:
    """Where the processes compute, how many, and with how many threads each."""

    name: str = "cpu"
    threads: int = 1
    jobs: int = 1


def true_tables(
    spec: StudySpec, played: Played, folder: Path, device: Device, tell: Tell
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is true of each step; and what each action of a state is worth, empty where that was not asked.

    Raises:
        UserError: an environment does not repeat itself.
    """
    files.make_folder(folder / _FOLDER)
    with _helpers(spec, folder, device):
        for number in range(0, len(played.mixed), device.jobs):
            tell(_done(spec, played, folder), len(played.mixed))
            _make(spec, played, folder, number)
    # What a helper left, because it was killed or met an error: here the error is heard.
    for number in range(len(played.mixed)):
        _make(spec, played, folder, number)
    tell(len(played.mixed), len(played.mixed))
    numbers = range(len(played.mixed))
    steps = [pd.read_parquet(_steps_path(folder, number)) for number in numbers]
    options = [pd.read_parquet(_options_path(spec, folder, number)) for number in numbers if spec.alternatives]
    return pd.concat(steps, ignore_index=True), pd.concat(options, ignore_index=True) if options else pd.DataFrame()


@contextmanager
def _helpers(spec: StudySpec, folder: Path, device: Device) -> Iterator[None]:
    """Processes that take the tasks between; waited for at the end, gone if that does not come."""
    context = get_context("spawn")
    helpers: list[BaseProcess] = [
        context.Process(target=_help, args=(spec, folder, device, first), daemon=True)
        for first in range(1, device.jobs)
    ]
    for helper in helpers:
        helper.start()
    try:
        yield
        for helper in helpers:
            helper.join()
    finally:
        for helper in helpers:
            helper.terminate()


def _help(spec: StudySpec, folder: Path, device: Device, first: int) -> None:
    """Every so many'th task; an error is left to who asked, who meets it too."""
    determinism.switch_on(device.threads, device.name)
    with suppress(UserError, EnvError, KeyboardInterrupt):
        played = Played.of(spec, assemble(spec.run, device.name))
        for number in range(first, len(played.mixed), device.jobs):
            _make(spec, played, folder, number)


def _make(spec: StudySpec, played: Played, folder: Path, number: int) -> None:
    """What is lacking of a task."""
    (task, group), player = played.mixed[number], played.player
    path = _steps_path(folder, number)
    if not path.is_file():
        draws = Draws(seed_for("credit-truth", spec.seed), 0)
        truths = true_steps(player, task, group, spec.run.rollout, draws, spec.precision)
        files.write_table(path, pd.DataFrame(step_rows(task, group, truths)))
    path = _options_path(spec, folder, number)
    if spec.alternatives and not path.is_file():
        draws = Draws(seed_for("credit-alternatives", spec.seed), 0)
        roads = crossroads(player, task, group, spec.run.rollout, draws, spec.alternatives)
        files.write_table(path, pd.DataFrame(choice_rows(spec.arms, roads, group, player, spec.run)))


def _done(spec: StudySpec, played: Played, folder: Path) -> int:
    last = _options_path if spec.alternatives else lambda _, folder, number: _steps_path(folder, number)
    return sum(last(spec, folder, number).is_file() for number in range(len(played.mixed)))


def _steps_path(folder: Path, number: int) -> Path:
    return folder / _FOLDER / f"{number:04}.parquet"


def _options_path(spec: StudySpec, folder: Path, number: int) -> Path:
    """Those of other arms have another name."""
    return folder / _FOLDER / f"choices-{number:04}-{seed_for(*spec.arms, spec.alternatives):016x}.parquet"
